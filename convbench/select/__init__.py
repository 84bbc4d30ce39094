"""Selection: which candidate computes a problem fastest on this machine, and why."""

from convbench.select.choice import Choice, Prediction
from convbench.select.choosing import choose

__all__ = ["Choice", "Prediction", "choose"]
