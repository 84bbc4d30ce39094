"""What a layer ends with, applied while an output is still in registers: a bias for each output channel, and ReLU."""

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
        bias: Shape (out_channels,), of the problem's dtype; None for none.
        relu: Whether negative outputs become zero; NaN stays NaN.
    """

    bias: NDArray[Any] | None = None
    relu: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether outputs are left as they are."""
        return self.bias is None and not self.relu

    def biases(self, problem: Problem, filters: int) -> NDArray[Any]:
        """The bias of every filter, zero where there is none.

        Args:
            problem: Whose filters they are.
            filters: Of a group, those included that are not there: whole register blocks of them.

        Returns:
            Shape (groups, filters), of the problem's dtype.
        """
        import numpy as np

        padded = np.zeros((problem.groups, filters), problem.dtype)
        if self.bias is not None:
            padded[:, : problem.group_filters] = self.bias.reshape(problem.groups, problem.group_filters)
        return padded


NO_EPILOGUE: Final = Epilogue()
