"""A GPU as it is measured: its own clock, caches and memory, and what NVML says of it around a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from numpy.typing import NDArray

from convbench.executors import GpuExecutor
from convbench.machine import gpu
from convbench.measure import flags
from convbench.measure.instruments.readings import Arrays, Reading, Samples, Subject, read_after, read_before
from convbench.measure.spec import Timing
from convbench.measure.timing import seconds, wake
from convbench.problem import Problem

TRANSFERS: Final = 5  # in each direction


class GpuInstrument:
    """Measures what a GPU computes.

    Args:
        executor: Whose memory, clock and caches the GPU's are.
    """

    placement = None

    def __init__(self, executor: GpuExecutor) -> None:
        self._executor = executor

    @property
    def home(self) -> GpuInstrument:
        """Itself."""
        return self

    def room(self, cpus: Sequence[int], allowed: Sequence[int]) -> Sequence[int]:  # noqa: ARG002
        """The cell's."""
        return cpus

    def arrays(self, problem: Problem, x: NDArray[Any]) -> Arrays:
        """In the GPU's memory."""
        shapes = (problem.input_shape, problem.output_shape)
        source, out = (self._executor.empty(shape, problem.dtype) for shape in shapes)
        self._executor.upload(x, source)
        return source, out

    def eviction(self, cpus: Sequence[int]) -> Callable[[], object]:  # noqa: ARG002  # the GPU's caches are evicted
        """Read a large buffer on the GPU."""
        return self._executor.evict()

    def wake(self, subject: Subject, timing: Timing) -> None:
        """Keep it busy, since its clock rises with work; and ask NVML once, which then loads what it needs."""
        if (nvml := gpu.nvml()) is not None:
            nvml.levels()
        wake(subject.call, timing, self.seconds)

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """By the GPU's clock."""
        return self._executor.seconds(call, loops)

    def before(self, subject: Subject) -> Reading:
        """What the system counts, and what the GPU does."""
        nvml = gpu.nvml()
        return read_before(subject, nvml.counts if nvml else dict)

    def after(self, subject: Subject) -> Reading:
        """The same, and the GPU's levels while it is still as the sample left it."""
        nvml = gpu.nvml()
        return read_after(subject, lambda: (nvml.counts(), nvml.levels()) if nvml else ({}, {}))

    def stage_seconds(self, subject: Subject, samples: Samples) -> list[list[float]]:
        """From the shares of one more call with events between the launches, which would cost the samples time."""
        if subject.evict is not None:
            subject.evict()
        shares = subject.plan.stage_shares(*subject.arrays)
        return [[share * sample for share in shares] for sample in samples.seconds]

    def transfers(self, subject: Subject) -> dict[str, tuple[float, ...]]:
        """Seconds of bringing the input there, the output back to memory that exists already, and of a whole call."""
        executor, (x, out) = self._executor, subject.arrays
        source, target = executor.download(x), executor.download(out)
        upload, download = partial(executor.upload, source, x), partial(executor.download, out, target)

        def end_to_end() -> None:
            upload()
            subject.call()
            download()

        calls: dict[str, Callable[[], object]] = {
            "host to device": upload,
            "device to host": download,
            "end to end": end_to_end,
        }
        for call in calls.values():
            call()
        return {name: tuple(seconds(call, 1) for _ in range(TRANSFERS)) for name, call in calls.items()}

    def cluster(self, subject: Subject, samples: Samples) -> dict[str, Any]:  # noqa: ARG002
        """No workers elsewhere."""
        return {}

    def oversubscribed(self, subject: Subject, usable: int) -> bool:  # noqa: ARG002
        """Never: there is one."""
        return False

    def disturbances(
        self,
        counted: Mapping[str, float],
        levels: Sequence[Mapping[str, Any]],
        cores: int,  # noqa: ARG002  # a core of the host has nothing to do but wait, so none can be starved
    ) -> dict[str, bool]:
        """What the system counted, and why the GPU lowered its clocks."""
        return flags.disturbances(counted, len(levels), 0) | flags.lowered_clocks(counted, levels)

    def usable(self) -> bool:
        """After some errors a process can never use the GPU again."""
        return self._executor.usable()
