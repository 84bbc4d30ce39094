"""The library interface: the convolution, and sweeps without the command line."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convbench.analysis.series import group, widest_interval
from convbench.analysis.statistics import Estimate
from convbench.arguments import path, whole_number
from convbench.arrays import as_array, on_gpu, on_host
from convbench.errors import RequestError, UnavailableError, shown
from convbench.executors import EXECUTORS
from convbench.measure.spec import spec_of
from convbench.measure.sweep import Progress, run_sweep
from convbench.plans import allowed_precision, as_epilogue
from convbench.preference import candidates, chosen_plan, executor_for
from convbench.problem import ITEM_SIZE, Padding, Problem
from convbench.request import Call
from convbench.request.field import Field, called_with
from convbench.results import export, store
from convbench.results.record import Cell, Record

if TYPE_CHECKING:
    import pandas as pd


def conv2d(  # over 40 lines: the documentation of its arguments
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
    activation: str | None = None,
    arithmetic: str = "exact",
) -> NDArray[Any]:
    """Convolve images with a bank of filters (cross-correlation: the filters are not flipped).

    It may be called from any thread, from a signal handler, and, except on a GPU, in a forked child.

    `winograd` and `fft` compute each tile of outputs from all inputs of the tile. A NaN or infinity in `x` therefore
    turns a whole tile of outputs into NaN, not only the outputs whose taps read it; one in `w` does so for all outputs
    of its filter. Likewise, a number that is far larger than the others spreads its rounding errors over these outputs,
    and it overflows earlier. Where that matters, choose a form that sums over taps, for instance `algorithm="direct"`.

    Args:
        x: Shape (height, width), (channels, height, width) or (batch, channels, height, width), of any layout, byte
            order and alignment, writable or not. A CuPy array, or any other object on a GPU that supports the CUDA
            array interface or DLPack, is convolved on that GPU without a copy.
        w: Shape (filters, rows, columns) for one channel per group, or (filters, channels // groups, rows, columns).
            Weights are packed on the host at every call, after a copy from the GPU if necessary; a plan packs once.
        bias: Shape (filters,), added to each output channel while outputs are in registers.
        stride: Stride of the kernel: n or (vertical, horizontal).
        padding: Zeros around the image: n, (vertical, horizontal), ((top, bottom), (left, right)), "valid" or "same".
        dilation: Distance between kernel taps: n or (vertical, horizontal).
        groups: Number of groups of channels and filters.
        out: Output array; default: a new array, whose allocation takes longer than the convolution if it is large.
            Nothing is written to it if an argument is invalid.
        cores: Number of cores; default: those available to this process, at most the threads of Numba's pool.
        memory_limit: Bytes that may be used in addition to input, weights and output: a form's scratch and packed
            weights, and a copy of `x` where one is needed. The limit is checked before anything is allocated.
        algorithm: One of `convbench.algorithms.ALGORITHMS`; default: the first one in
            `convbench.preference.PREFERENCE` that supports the problem.
        allow_tf32: Equivalent to `arithmetic="tf32"`: a GPU may round the factors of float32 products to TF32.
        activation: "relu" makes negative outputs zero, in the same pass as the bias; None for no activation.
        arithmetic: Precision that products may be computed in, one of `convbench.precision.PRECISIONS`; exact where the
            form does not support it.

    Returns:
        Shape (filters, rows, columns), or (batch, filters, rows, columns) if `x` is 4-D: float64 if `x` or `w` is
        float64 or wider, otherwise float32; on the GPU of `x` if it is on one.

    Raises:
        RequestError: An argument is invalid, or no algorithm fits `memory_limit`.
        UnavailableError: `x` is on a GPU that cannot be used, no algorithm supports the problem there, or memory is
            insufficient.
    """
    executor, count = executor_for(x, cores)
    image = _of_dimensions("x", as_array("x", x, EXECUTORS[executor].module()), (2, 3, 4))
    weights = _of_dimensions("w", as_array("w", on_host("w", w)), (3, 4))
    problem = _problem(image, weights, groups=groups, stride=stride, padding=padding, dilation=dilation)
    epilogue = as_epilogue(problem, bias, activation)
    limit = None if memory_limit is None else whole_number("memory_limit", memory_limit, least=0)
    wanted = candidates(problem, executor, count, algorithm, allowed_precision(arithmetic, allow_tf32=allow_tf32))
    copied = _copied(image, problem.dtype) + _copied(weights, problem.dtype)
    if isinstance(out, np.ndarray) and np.may_share_memory(out, weights):
        weights = weights.copy()  # a form may read unpacked weights while it writes
    with _place(image), chosen_plan(problem, weights, wanted, limit, copied, epilogue) as plan:
        return plan(image, out)


def _of_one_argument(name: str, value: Callable[[Progress], None]) -> Callable[[Progress], None]:
    if not callable(value):
        raise RequestError(f"{name}={shown(value)} cannot be called; give a function of one argument")
    return value


@dataclass(unsafe_hash=True, kw_only=True)
class SweepCall(Call):
    """The arguments of `sweep`."""

    on_progress: Field[Callable[[Progress], None], Callable[[Progress], None]] = Field(
        _of_one_argument, lambda _: None, "Called before the first measurement and after each."
    )


@called_with(SweepCall)
def sweep(call: SweepCall) -> Results:
    """Measure problems, or the multicore experiment if none is given, as `convbench sweep` does.

    Returns:
        The results.

    Raises:
        RequestError: A value is invalid, or the directory cannot be used.
    """
    measure = partial(
        run_sweep,
        spec_of(call),
        time_limit=call.time_limit,
        width=widest_interval,
        on_progress=call.on_progress,
    )
    return Results(_measured_in_passing(measure) if call.output is None else measure(call.output))


def _measured_in_passing(measure: Callable[[Path], store.Sweep]) -> store.Sweep:
    """Measure into a temporary directory, which is kept only if an error occurs after the first measurement."""
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
    """Read the results of a sweep; `Results.faults` lists unreadable lines.

    Raises:
        RequestError: The directory holds no sweep.
    """
    return Results(store.load(path("directory", directory)))


@dataclass(frozen=True)
class Results:
    """A sweep's records, and quantities derived from them."""

    sweep: store.Sweep

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, in the order of measurement."""
        return self.sweep.records

    @property
    def faults(self) -> tuple[str, ...]:
        """Unreadable lines of the results file."""
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
        """A pandas DataFrame with a row for each sample, and one for each record without samples.

        Raises:
            UnavailableError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UnavailableError("pandas is not installed; pip install 'convbench[dataframe]'") from None
        return pd.DataFrame(list(export.rows(self.sweep)), columns=list(export.COLUMNS))


def _problem(image: NDArray[Any], weights: NDArray[Any], **how: Any) -> Problem:
    """The problem of an image with 2 to 4 axes and weights with 3 or 4; `how` holds further arguments of `Problem`."""
    wide = any(array.dtype.kind == "f" and array.itemsize >= 8 for array in (image, weights))
    return Problem(
        height=image.shape[-2],
        width=image.shape[-1],
        out_channels=weights.shape[0],
        kernel_height=weights.shape[-2],
        kernel_width=weights.shape[-1],
        batch=image.shape[0] if image.ndim == 4 else 1,
        channels=image.shape[-3] if image.ndim > 2 else 1,
        dtype="float64" if wide else "float32",
        **how,
    )


def _place(array: Any) -> AbstractContextManager[object]:
    """The GPU of an array as a context manager for calls; a null context for arrays on the host."""
    place: AbstractContextManager[object] = array.device if on_gpu(array) else nullcontext()
    return place


def _of_dimensions(name: str, array: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[Any]:
    if array.ndim not in dimensions:
        allowed = " or ".join(map(str, dimensions))
        raise RequestError(f"{name} has {array.ndim} dimensions (shape {array.shape}); {allowed} are allowed")
    return array


def _copied(array: NDArray[Any], dtype: str) -> int:
    """Bytes of the copy that a plan makes of an array; 0 if it makes none."""
    as_it_is = array.dtype == dtype and array.flags.c_contiguous and getattr(array.flags, "aligned", True)
    return 0 if as_it_is else array.size * ITEM_SIZE[dtype]
