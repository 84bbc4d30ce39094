"""The problem: its shapes, its notation, the arithmetic along its axes, and how it is cut into parts. No arrays."""

from convbench.problem.problem import DIRECTIONS, ITEM_SIZE, Direction, DType, Padding, Problem, Sides
from convbench.problem.split import Part

__all__ = ["DIRECTIONS", "ITEM_SIZE", "DType", "Direction", "Padding", "Part", "Problem", "Sides"]
