"""The epilogue of a layer, applied while outputs are in registers: a bias for each output channel, and ReLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.problem import Problem

ACTIVATIONS: Final = ("relu",)


@dataclass(frozen=True, eq=False)
class Epilogue:
    """out = activation(convolution + bias).

    Attributes:
        bias: Shape (out_channels,), of the problem's dtype; None for no bias.
        relu: Whether negative outputs become zero; NaN stays NaN.
    """

    bias: NDArray[Any] | None = None
    relu: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether outputs are left unchanged."""
        return self.bias is None and not self.relu

    def biases(self, problem: Problem, filters: int) -> NDArray[Any]:
        """The bias of every filter, zero where there is none.

        Args:
            problem: The problem.
            filters: Filters of a group, rounded up to whole register blocks.

        Returns:
            Shape (groups, filters), of the problem's dtype.
        """
        import numpy as np

        padded = np.zeros((problem.groups, filters), problem.dtype)
        if self.bias is not None:
            padded[:, : problem.group_filters] = self.bias.reshape(problem.groups, problem.group_filters)
        return padded


NO_EPILOGUE: Final = Epilogue()
