"""convbench as a library: the convolution itself, and sweeps without the command line."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.analysis.series import group, widest_interval
from convbench.analysis.statistics import Estimate
from convbench.arguments import path, real_number
from convbench.errors import RequestError, UnavailableError, shown
from convbench.executors import EXECUTORS, device
from convbench.measure.spec import make_spec
from convbench.measure.sweep import Progress, run_sweep
from convbench.plans import Candidate, Plan
from convbench.problem import Padding, Problem
from convbench.results import export, store
from convbench.results.record import Cell, Record

if TYPE_CHECKING:
    import pandas as pd

DLPACK_CUDA: Final = 2  # DLPack's number of such devices
PREFERENCE: Final = ("winograd", "direct", "unrolled", "naive")
"""What `conv2d` tries, in this order, ..."""
PREFERENCE_ON_A_DEVICE: Final = ("winograd", "unrolled", "direct")
"""... and on a GPU."""


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    out: NDArray[Any] | None = None,
    cores: int | None = None,
    memory_limit: int | None = None,
    *,
    allow_tf32: bool = False,
) -> NDArray[Any]:
    """Convolve images with a bank of kernels (cross-correlation: the kernels are not flipped).

    Args:
        x: (height, width), (channels, height, width) or (batch, channels, height, width). An array of CuPy's, or
            anything else that lies on a GPU and speaks its or DLPack's protocol, is convolved there, without a copy.
        w: (kernels, rows, columns) for one channel a group, or (kernels, channels // groups, rows, columns).
        bias: (kernels,), added to each output channel.
        stride: Step of the kernel: n or (vertical, horizontal).
        padding: Zeros around the image: n, (vertical, horizontal), ((top, bottom), (left, right)), "valid" or "same".
        dilation: Distance of kernel taps: n or (vertical, horizontal).
        groups: Groups that channels and kernels fall into.
        out: Where to put the result; allocated if not given, which costs more than the convolution where it is large.
        cores: How many to use; default: those that this process may use.
        memory_limit: Bytes that may be used beside input, weights and output.
        allow_tf32: Whether a GPU may round the inputs of float32's products to TF32, with 10 bits behind the point.

    Returns:
        (kernels, rows, columns), or (batch, kernels, rows, columns) if `x` is 4-D: float64 if `x` or `w` is, otherwise
        float32. On a GPU, where `x` is.

    Raises:
        RequestError: An argument is wrong, or no algorithm keeps to `memory_limit`.
        UnavailableError: `x` lies on a GPU that cannot be used.
    """
    executor = "gpu" if _on_device(x) else "serial" if (cores or machine.usable_cores()) == 1 else "threads"
    if (reason := EXECUTORS[executor].available()) is not None:
        raise UnavailableError(f"x lies on a GPU, and {reason}")
    arrays = EXECUTORS[executor].module()
    image, weights = _as_array("x", x, (2, 3, 4), arrays), _as_array("w", _on_host(w), (3, 4), np)
    dtype: Any = "float64" if np.float64 in (image.dtype, weights.dtype) else "float32"
    problem = Problem(
        height=image.shape[-2],
        width=image.shape[-1],
        out_channels=weights.shape[0],
        kernel_height=weights.shape[-2],
        kernel_width=weights.shape[-1],
        batch=image.shape[0] if image.ndim == 4 else 1,
        channels=image.shape[-3] if image.ndim > 2 else 1,
        groups=groups,
        stride=stride,
        padding=padding,
        dilation=dilation,
        dtype=dtype,
    )
    count = 1 if executor == "gpu" else machine.usable_cores() if cores is None else cores
    place = getattr(image, "device", None) if device(executor) else None
    with (
        place or nullcontext(),
        _chosen_plan(problem, weights, executor, count, memory_limit, allow_tf32=allow_tf32) as plan,
    ):
        result = plan(image, out)
    if bias is not None:
        shift = np.asarray(_on_host(bias), dtype)
        if shift.shape != (problem.out_channels,):
            raise RequestError(
                f"bias has shape {shift.shape}; ({problem.out_channels},) is needed, one for each kernel"
            )
        with place or nullcontext():
            result += arrays.asarray(shift[:, None, None])
    return result


def sweep(
    problems: Problem | str | Iterable[Problem | str] = (),
    *,
    algorithms: str | Iterable[str] | None = None,
    executors: str | Iterable[str] | None = None,
    cores: int | str | Iterable[int] | None = None,
    peers: str | Iterable[str] = (),
    runs: int = 10,
    precision: float | None = None,
    time_limit: float | None = None,
    scaling: str = "strong",
    cache: str = "hot",
    allow_tf32: bool = False,
    seed: int = 0,
    output: str | Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Results:
    """Measure problems, or the multicore experiment if none is given, as `convbench sweep` does.

    Args:
        problems: What to convolve, one or several; inputs are random numbers.
        algorithms: Names, or "one,two" as on the command line; default: those that are measured unasked.
        executors: Names, in either form; default: all.
        cores: A core count, or several; default: 1, 2, 4, ... up to this machine's.
        peers: Other libraries to measure in the same runs, in either form.
        runs: Fresh processes, each of which measures everything once in random order.
        precision: Add runs until every cell's interval is this tight, as a share of its mean, ...
        time_limit: ... or so many seconds are over; no measurement is begun after that.
        scaling: "strong", or "weak" to have the image grow with the cores.
        cache: "hot", or "cold" to empty the caches before every sample.
        allow_tf32: Whether a GPU may round the inputs of float32's products to TF32.
        seed: Of the order and of random data.
        output: The directory to write; default: a temporary one, read back and removed. If the sweep ends in an
            exception, an interrupt included, after the first measurement, the directory is kept: a line on standard
            error and a note of the exception say where it is, for `load` and for `convbench sweep --resume`.
        on_progress: Called before the first measurement and after each.

    Returns:
        What was measured.

    Raises:
        RequestError: A value is wrong, or the directory cannot be used.
    """
    spec = make_spec(
        problems,
        algorithms=algorithms,
        executors=executors,
        cores=cores,
        peers=peers,
        runs=runs,
        precision=precision,
        scaling=scaling,
        cache=cache,
        allow_tf32=allow_tf32,
        seed=seed,
    )
    limit = None if time_limit is None else real_number("time_limit", time_limit, least=0)
    if not callable(on_progress):
        raise RequestError(f"on_progress={shown(on_progress)} cannot be called; give a function of one argument")
    measure = partial(run_sweep, spec, time_limit=limit, width=widest_interval, on_progress=on_progress)
    return Results(measure(path("output", output)) if output is not None else _measured_in_passing(measure))


def _measured_in_passing(measure: Callable[[Path], store.Sweep]) -> store.Sweep:
    """Measure into a temporary directory that stays only if something goes wrong after the first measurement."""
    directory = Path(tempfile.mkdtemp(prefix="convbench-"))
    try:
        measured = measure(directory)
    except BaseException as error:
        if not store.holds_records(directory):
            shutil.rmtree(directory, ignore_errors=True)
            raise
        note = (
            f"what was measured is in {directory}: convbench.load({str(directory)!r}) reads it, and "
            f"convbench sweep --resume --output {shlex.quote(str(directory))} goes on with it"
        )
        error.add_note(note)
        if sys.stderr is not None:
            print(f"convbench: {note}", file=sys.stderr)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    return measured


def load(directory: str | Path) -> Results:
    """Read what a sweep wrote; lines that cannot be read are named in `Results.faults`.

    Raises:
        RequestError: The directory holds no sweep.
    """
    return Results(store.load(path("directory", directory)))


@dataclass(frozen=True)
class Results:
    """A sweep's records and what follows from them."""

    sweep: store.Sweep

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record, in the order in which they were measured."""
        return self.sweep.records

    @property
    def faults(self) -> tuple[str, ...]:
        """Lines of the results file that could not be read."""
        return self.sweep.faults

    def speedups(self, base: int = 1) -> dict[Cell, Estimate]:
        """Speedup of each cell over `base` cores of its algorithm and executor.

        Computed inside each run; the value is the geometric mean over runs, with a 95 % interval.
        """
        return {
            (series.cells[cores].problem, series.algorithm, series.executor, cores): speedup
            for series in group(self.records)
            if base in series.cells
            for cores in series.cells
            if (speedup := series.speedup(base, cores)) is not None
        }

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas frame with a row for each sample, and one for each record that has none.

        Raises:
            UnavailableError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UnavailableError("pandas is not installed; pip install 'convbench[dataframe]'") from None
        return pd.DataFrame(list(export.rows(self.sweep)), columns=list(export.COLUMNS))


def _on_device(value: ArrayLike) -> bool:
    """Whether an array lies on a GPU."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    return hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] == DLPACK_CUDA


def _on_host(value: Any) -> Any:
    """The array itself, or a copy of it if it lies on a GPU."""
    if not _on_device(value):
        return value
    gpu = EXECUTORS["gpu"]
    if (reason := gpu.available()) is not None:
        raise UnavailableError(f"an array lies on a GPU, and {reason}")
    return gpu.download(gpu.module().asarray(value))


def _as_array(name: str, value: ArrayLike, dimensions: tuple[int, ...], arrays: Any) -> NDArray[Any]:
    """Any array as one of NumPy's or CuPy's (`arrays`), of real numbers."""
    native = isinstance(value, arrays.ndarray) or hasattr(value, "__array__")
    foreign = hasattr(value, "__dlpack__") and not native and not hasattr(value, "__cuda_array_interface__")
    array: NDArray[Any] = arrays.from_dlpack(value) if foreign else arrays.asarray(value)
    if array.dtype.kind not in "fiub":
        raise RequestError(f"{name} holds {array.dtype}; give real numbers")
    if array.ndim not in dimensions:
        allowed = " or ".join(map(str, dimensions))
        raise RequestError(f"{name} has {array.ndim} dimensions (shape {array.shape}); {allowed} are allowed")
    return array


def _chosen_plan(
    problem: Problem,
    weights: NDArray[Any],
    executor: str,
    cores: int,
    memory_limit: int | None,
    *,
    allow_tf32: bool = False,
) -> Plan:
    """The first algorithm that keeps to the memory limit; where TF32 is allowed, one that uses it before the others."""
    if cores < 1:
        raise RequestError(f"cores={cores} is not allowed; give a whole number from 1 up")
    needed = []
    names = PREFERENCE_ON_A_DEVICE if device(executor) else PREFERENCE
    candidates = [Candidate(name, executor, cores, allow_tf32) for name in names]
    for candidate in sorted(candidates, key=lambda candidate: not candidate.uses_tf32(problem)):
        if ALGORITHMS[candidate.algorithm].obstacle(problem, EXECUTORS[executor].flavour) is None:
            plan = Plan(problem, weights, candidate)
            if memory_limit is None or plan.scratch_bytes <= memory_limit:
                return plan
            plan.close()
            needed.append(plan.scratch_bytes)
    if not needed:
        raise UnavailableError(f"no algorithm computes {problem} on the {executor} executor")
    raise RequestError(
        f"memory_limit={memory_limit} is too little for {problem}; at least {min(needed)} bytes are needed"
    )
