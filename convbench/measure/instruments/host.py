"""The host's cores as they are measured: the host's clock, the caches of every CPU, counters of the system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from numpy.typing import NDArray

from convbench.executors.memory import private_empty, shared_empty
from convbench.measure import flags
from convbench.measure.caches import Eviction
from convbench.measure.instruments.readings import Arrays, Reading, Samples, Subject, read_after, read_before
from convbench.measure.placement import Nodes, place, placement
from convbench.measure.spec import Timing
from convbench.measure.timing import seconds, wake
from convbench.problem import Problem

STARTING: Final = 5  # samples for whose time workers are kept busy before the warm-up
SPREADING: Final = 0.02  # and seconds for each core but the first, in which the system moves workers that share a core
HOST_MEMORY: Final = {"private": private_empty, "shared": shared_empty}


class HostInstrument:
    """Measures what CPU cores compute.

    Args:
        memory: "shared" if any executor of the sweep needs its arrays in shared memory, otherwise "private".
        nodes: The CPUs of each memory node, see `placement`.
    """

    def __init__(self, memory: str, nodes: Nodes) -> None:
        self._empty = HOST_MEMORY[memory]
        self._nodes = nodes
        self.placement = placement(nodes)

    @property
    def home(self) -> HostInstrument:
        """Itself."""
        return self

    def room(self, cpus: Sequence[int], allowed: Sequence[int]) -> Sequence[int]:  # noqa: ARG002
        """The cell's."""
        return cpus

    def arrays(self, problem: Problem, x: NDArray[Any]) -> Arrays:
        """The output exists once, so that no executor is helped or hindered by where it lies."""
        source, out = (self._empty(shape, problem.dtype) for shape in (problem.input_shape, problem.output_shape))
        place(source, self._nodes)
        place(out, self._nodes)
        source[:] = x
        return source, out

    def eviction(self, cpus: Sequence[int]) -> Callable[[], object]:
        """Read a large buffer on each of the CPUs."""
        return Eviction(cpus)

    def wake(self, subject: Subject, timing: Timing) -> None:
        """Call for some samples' time, and more on more cores: workers that have just begun run short calls slowly.

        Where two of them share a core at first and one spins, every call lasts some of the system's time slices, so
        that calls of 0.4 ms took 32 ms on 8 cores, one after the other, and would pass for settled.
        """
        brief = min(timing.wake_seconds, STARTING * timing.sample_seconds + SPREADING * (len(subject.cpus) - 1))
        wake(subject.call, replace(timing, wake_seconds=brief), self.seconds)

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """By the host's clock."""
        return seconds(call, loops)

    def before(self, subject: Subject) -> Reading:
        """What the system counts."""
        return read_before(subject)

    def after(self, subject: Subject) -> Reading:
        """The same."""
        return read_after(subject)

    def stage_seconds(self, subject: Subject, samples: Samples) -> list[list[float]]:  # noqa: ARG002  # a GPU's needs it
        """From ticks that workers counted during the samples; zeros where the processor has no clock to read."""
        return [_stage_seconds(before, after, samples.loops) for before, after in samples.observed]

    def transfers(self, subject: Subject) -> dict[str, tuple[float, ...]]:  # noqa: ARG002
        """Nothing is moved."""
        return {}

    def cluster(self, subject: Subject, samples: Samples) -> dict[str, Any]:  # noqa: ARG002
        """No workers elsewhere."""
        return {}

    def oversubscribed(self, subject: Subject, usable: int) -> bool:
        """Whether this process may use fewer cores."""
        return subject.plan.candidate.cores > usable

    def disturbances(
        self, counted: Mapping[str, float], levels: Sequence[Mapping[str, Any]], cores: int
    ) -> dict[str, bool]:
        """What the system counted against the samples."""
        return flags.disturbances(counted, len(levels), cores)

    def usable(self) -> bool:
        """A core can always compute again."""
        return True


def _stage_seconds(before: Reading, after: Reading, loops: int) -> list[float]:
    """Seconds of one call that a worker spent in each stage; zeros where the processor has no clock to read."""
    ticks = after.ticks - before.ticks
    tick = (after.seconds - before.seconds) / ticks if ticks else 0.0
    return [float(spent) for spent in (after.stage_ticks - before.stage_ticks) * tick / loops]
