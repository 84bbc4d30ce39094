"""What a cell is measured with: an instrument for the host's cores, for a GPU and for a cluster, with one interface.

An instrument knows its processor's clock, its caches, what is read around a sample, and where arrays lie. `cell` takes
samples with either and does not ask which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.measure.instruments.readings import Arrays, Reading, Samples, Subject
    from convbench.measure.spec import Timing
    from convbench.problem import Problem


class Instrument(Protocol):
    """Measures what one processor computes; one for each process, used for one cell after the other."""

    @property
    def placement(self) -> str | None:
        """How arrays are spread over memory nodes, in words for a record; None where there is nothing to say."""

    @property
    def home(self) -> Instrument:
        """The instrument whose arrays it uses: itself, or another one."""

    def room(self, cpus: Sequence[int], allowed: Sequence[int]) -> Sequence[int]:
        """The CPUs that this process is pinned to while a plan is made: the cell's, or all that are allowed."""

    def arrays(self, problem: Problem, x: NDArray[Any]) -> Arrays:
        """Input and output where the processor's executors share them, the input filled with `x`."""

    def eviction(self, cpus: Sequence[int]) -> Callable[[], object]:
        """Make what fills the caches with something else."""

    def wake(self, subject: Subject, timing: Timing) -> None:
        """Bring the processor to the clock that it computes at, before any call is timed."""

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """Seconds of so many calls in a row."""

    def before(self, subject: Subject) -> Reading:
        """Read counters and clocks right before a sample."""

    def after(self, subject: Subject) -> Reading:
        """Read them right after it, in the opposite order."""

    def stage_seconds(self, subject: Subject, samples: Samples) -> list[list[float]]:
        """Seconds of one call in each of the plan's stages, a list for each sample."""

    def transfers(self, subject: Subject) -> dict[str, tuple[float, ...]]:
        """Seconds of moving input and output to and from the processor's memory; empty where nothing is moved."""

    def cluster(self, subject: Subject, samples: Samples) -> dict[str, Any]:
        """What a record says of workers on a cluster; empty where there are none."""

    def oversubscribed(self, subject: Subject, usable: int) -> bool:
        """Whether more cores were asked for than there are, where this process may use so many."""

    def disturbances(
        self, counted: Mapping[str, float], levels: Sequence[Mapping[str, Any]], cores: int
    ) -> dict[str, bool]:
        """Which flags counters and levels of samples raise.

        Args:
            counted: Summed over the samples.
            levels: After each of the samples.
            cores: How many cores the cell computes on.
        """

    def usable(self) -> bool:
        """Whether this process can still compute on it after something went wrong."""
