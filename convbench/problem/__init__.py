"""What is computed: a problem's shapes, its notation, and the arithmetic along its axes. No arrays."""

from convbench.problem.problem import DIRECTIONS, ITEM_SIZE, Direction, DType, Padding, Problem, Sides

__all__ = ["DIRECTIONS", "ITEM_SIZE", "DType", "Direction", "Padding", "Problem", "Sides"]
