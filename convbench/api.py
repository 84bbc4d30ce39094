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
from convbench.arguments import path, real_number, truth, whole_number
from convbench.arrays import as_array, on_gpu, on_host
from convbench.errors import RequestError, UnavailableError, shown
from convbench.executors import EXECUTORS
from convbench.executors.threads import most_threads
from convbench.measure.spec import make_spec
from convbench.measure.sweep import Progress, run_sweep
from convbench.plans import Candidate, Plan, checked_cores
from convbench.precision import EXACT, TF32
from convbench.problem import ITEM_SIZE, Padding, Problem
from convbench.results import export, store
from convbench.results.record import Cell, Record

if TYPE_CHECKING:
    import pandas as pd

PREFERENCE: Final = ("winograd", "direct", "unrolled", "naive")
"""What `conv2d` tries, in this order, ..."""
PREFERENCE_ON_A_GPU: Final = ("winograd", "unrolled", "direct")
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
    algorithm: str | None = None,
    allow_tf32: bool = False,
) -> NDArray[Any]:
    """Convolve images with a bank of kernels (cross-correlation: the kernels are not flipped).

    May be called from any thread, from a signal handler, and, but for a GPU, in a forked child.

    `winograd` and `fft` compute a tile of outputs from all of the inputs under it. So one NaN or infinity in `x`
    spreads, as NaN, over a whole tile of outputs there; by definition it belongs in those alone whose kernel covers it.
    One in `w` spreads over all outputs of its kernel. The rounding errors of one number that is far larger than the
    rest spread likewise, and it overflows sooner. Where that matters, choose a form that sums tap by tap, for instance
    `algorithm="direct"`.

    Args:
        x: (height, width), (channels, height, width) or (batch, channels, height, width), of any layout, byte order and
            alignment, writable or not. An array of CuPy's, or anything else that lies on a GPU and speaks its or
            DLPack's protocol, is convolved there, without a copy.
        w: (kernels, rows, columns) for one channel a group, or (kernels, channels // groups, rows, columns). They are
            packed at every call, on the host: from a GPU they are brought there first. A plan packs them once.
        bias: (kernels,), added to each output channel.
        stride: Step of the kernel: n or (vertical, horizontal).
        padding: Zeros around the image: n, (vertical, horizontal), ((top, bottom), (left, right)), "valid" or "same".
        dilation: Distance of kernel taps: n or (vertical, horizontal).
        groups: Groups that channels and kernels fall into.
        out: Where to put the result; allocated if not given, which costs more than the convolution where it is large.
            Nothing is written to it if any argument is wrong.
        cores: How many to use; default: those that this process may use, and Numba's pool of threads has.
        memory_limit: Bytes that may be used beside input, weights and output: a form's scratch and packed weights, and
            a copy of `x` where one is needed. What is needed is known before it is taken.
        algorithm: One of `convbench.algorithms.ALGORITHMS`; default: the first of `PREFERENCE` that can.
        allow_tf32: Whether a GPU may round the inputs of float32's products to TF32, with 10 bits behind the point.

    Returns:
        (kernels, rows, columns), or (batch, kernels, rows, columns) if `x` is 4-D: float64 if `x` or `w` is (or is
        wider than that), otherwise float32. On a GPU, where `x` is.

    Raises:
        RequestError: An argument is wrong, or no algorithm keeps to `memory_limit`.
        UnavailableError: `x` lies on a GPU that cannot be used, no algorithm can do this there, or memory ran out.
    """
    gpu = on_gpu(x)
    count = 1 if gpu else min(machine.usable_cores(), most_threads())
    if cores is not None:
        count = checked_cores(cores)
    executor = "gpu" if gpu else "serial" if count == 1 else "threads"
    if (reason := EXECUTORS[executor].available()) is not None:
        raise UnavailableError(f"x lies on a GPU, and {reason}")
    image = _of_dimensions("x", as_array("x", x, EXECUTORS[executor].module()), (2, 3, 4))
    weights = _of_dimensions("w", as_array("w", on_host("w", w)), (3, 4))
    wide = any(array.dtype.kind == "f" and array.itemsize >= 8 for array in (image, weights))
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
        dtype="float64" if wide else "float32",
    )
    shift = None if bias is None else _as_bias(bias, problem)
    limit = None if memory_limit is None else whole_number("memory_limit", memory_limit, least=0)
    tf32 = truth("allow_tf32", allow_tf32)
    wanted = _candidates(problem, executor, 1 if executor == "gpu" else count, algorithm, allow_tf32=tf32)
    copied = _copied(image, problem.dtype) + _copied(weights, problem.dtype)
    if isinstance(out, np.ndarray) and np.may_share_memory(out, weights):
        weights = weights.copy()  # some form may use them as they are while it writes
    place = getattr(image, "device", None) if executor == "gpu" else None
    with place or nullcontext(), _chosen_plan(problem, weights, wanted, limit, copied) as plan:
        result = plan(image, out)
        if shift is not None:
            result += EXECUTORS[executor].module().asarray(shift)
    return result


def sweep(
    problems: Problem | str | Iterable[Problem | str] = (),
    *,
    algorithms: str | Iterable[str] | None = None,
    executors: str | Iterable[str] | None = None,
    cores: int | str | Iterable[int] | None = None,
    peers: str | Iterable[str] = (),
    runs: int = 10,
    precision: float | str | None = None,
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
        precision: Add runs until every cell's interval is this tight, as a share of its mean such as 0.01 or "1%"; it
            takes 15 runs or more, ...
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


def _of_dimensions(name: str, array: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[Any]:
    if array.ndim not in dimensions:
        allowed = " or ".join(map(str, dimensions))
        raise RequestError(f"{name} has {array.ndim} dimensions (shape {array.shape}); {allowed} are allowed")
    return array


def _as_bias(bias: ArrayLike, problem: Problem) -> NDArray[Any]:
    """A copy of the bias that can be added to an output: shape (kernels, 1, 1)."""
    shift = np.array(as_array("bias", on_host("bias", bias)), problem.dtype)
    if shift.shape != (problem.out_channels,):
        raise RequestError(f"bias has shape {shift.shape}; ({problem.out_channels},) is needed, one for each kernel")
    return shift[:, None, None]


def _copied(array: NDArray[Any], dtype: str) -> int:
    """Bytes of the copy that is made of an array, if one is."""
    as_it_is = array.dtype == dtype and array.flags.c_contiguous and getattr(array.flags, "aligned", True)
    return 0 if as_it_is else array.size * ITEM_SIZE[dtype]


def _candidates(
    problem: Problem, executor: str, cores: int, algorithm: str | None, *, allow_tf32: bool
) -> list[Candidate]:
    """Those that can compute a problem, the preferred first; where TF32 is allowed, one that uses it before others."""
    preference = PREFERENCE_ON_A_GPU if executor == "gpu" else PREFERENCE
    names = preference if algorithm is None else (ALGORITHMS.check(algorithm),)
    precision = TF32.name if allow_tf32 else EXACT.name
    every = [Candidate(name, executor, cores, precision) for name in names]
    reasons = {candidate.algorithm: candidate.unsupported_reason(problem) for candidate in every}
    able = [candidate for candidate in every if reasons[candidate.algorithm] is None]
    if not able:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnavailableError(f"no algorithm computes {problem} on the {executor} executor ({why})")
    return sorted(able, key=lambda candidate: candidate.precision_for(problem) != precision)


def _chosen_plan(
    problem: Problem, weights: NDArray[Any], candidates: Sequence[Candidate], memory_limit: int | None, copied: int
) -> Plan:
    """The first candidate that keeps to the memory limit, and for which there is memory.

    Args:
        problem: What to compute.
        weights: Its weights.
        candidates: At least one, the preferred first.
        memory_limit: Bytes; None for no limit.
        copied: Bytes that are used in any case.
    """
    needed = []
    for candidate in candidates:
        if memory_limit is not None and (need := copied + candidate.memory(problem)) > memory_limit:
            needed.append(need)
            continue
        try:
            return Plan(problem, weights, candidate, borrow=True)
        except MemoryError:
            continue
    if not needed:
        raise UnavailableError(f"there is no memory to compute {problem} in; use a smaller batch or memory_limit")
    raise RequestError(
        f"memory_limit={memory_limit} is too little for {problem}; at least {min(needed)} bytes are needed"
    )
