"""What a sweep is asked to measure, and the cells and data that follow from it."""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import psutil
from numpy.typing import NDArray

from convbench import filters, machine
from convbench.algorithms import ALGORITHMS
from convbench.errors import RequestError
from convbench.executors import EXECUTORS
from convbench.images import default_image, load_image
from convbench.peers import LIBRARY, PEERS
from convbench.plans import Candidate
from convbench.problem import DType, Problem
from convbench.results.record import Cell, Record

CACHES: Final = ("hot", "cold")
SCALINGS: Final = ("strong", "weak")
EXPERIMENT: Final = "multicore"
_MEMORY_SHARE: Final = 0.9  # of what is free may go to one problem's arrays


@dataclass(frozen=True)
class Timing:
    """How long to warm up and how often to sample.

    Attributes:
        sample_seconds: Each sample lasts at least this long; shorter calls are repeated within one.
        min_samples: Take at least so many samples, unless they last longer than `max_seconds` together.
        max_samples: Never take more.
        min_seconds: Go on until the samples last so long together.
        max_seconds: Stop once they do.
        max_warmups: Give up waiting for times to settle after so many calls ...
        warmup_seconds: ... or so many seconds.
        settled: Times have settled when two calls in a row differ by less than this share.
        wake_seconds: Keep a device busy for so long before its first call counts.
        peak_repetitions: How often each of the machine's limits is measured before the first run; 0 leaves them out.
    """

    sample_seconds: float = 0.01
    min_samples: int = 3
    max_samples: int = 30
    min_seconds: float = 0.6
    max_seconds: float = 2.0
    max_warmups: int = 6
    warmup_seconds: float = 1.5
    settled: float = 0.1
    wake_seconds: float = 0.2
    peak_repetitions: int = 10


@dataclass(frozen=True)
class Source:
    """The picture that a problem's input comes from."""

    problem: str
    path: str
    sha256: str
    steps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that determines a sweep's cells, their data and their order.

    Attributes:
        problems: Descriptors.
        algorithms: Names, from `ALGORITHMS`.
        executors: Names, from `EXECUTORS`.
        peers: Names, from `PEERS`; each runs on its own threads, or on a device.
        cores: Core counts for the executors that can be given one.
        runs: How many runs, each a fresh process that measures every cell once.
        precision: Add runs until every cell's interval is this tight, as a share of its mean; None adds none.
        scaling: "strong": every number of cores computes the problem; "weak": the image grows with the cores.
        cache: "hot": calls follow one another; "cold": the caches are emptied before every sample.
        allow_tf32: Whether a GPU may round the inputs of float32's products to TF32.
        seed: Of the random order of cells, and of random data.
        source: The picture that is the input of one of the problems; the others get random numbers.
        kernels: What `filters.kernels` makes that problem's weights of.
        timing: How long to warm up and how often to sample.
        cell_limit: Seconds after which a cell counts as hanging.
    """

    problems: tuple[str, ...]
    algorithms: tuple[str, ...]
    executors: tuple[str, ...]
    cores: tuple[int, ...]
    peers: tuple[str, ...] = ()
    runs: int = 10
    precision: float | None = None
    scaling: str = "strong"
    cache: str = "hot"
    allow_tf32: bool = False
    seed: int = 0
    source: Source | None = None
    kernels: str = "gabor"
    timing: Timing = field(default_factory=Timing)
    cell_limit: float = 600.0

    def __post_init__(self) -> None:
        for name in self.algorithms:
            ALGORITHMS.check(name)
        for name in self.executors:
            EXECUTORS.check(name)
        for name in self.peers:
            PEERS.check(name)
        self._check_manner()
        for field_name in ("problems", "algorithms", "executors", "cores", "peers"):
            values = getattr(self, field_name)
            if not values and field_name != "peers":
                raise RequestError(f"{field_name} is empty; name at least one")
            if len(set(values)) < len(values):
                raise RequestError(f"{field_name}={','.join(map(str, values))} names one twice; name each once")
        for field_name, numbers in (("cores", self.cores), ("runs", (self.runs,))):
            for number in numbers:
                if number < 1:
                    raise RequestError(f"{field_name}={number} is not allowed; give a whole number from 1 up")

    def _check_manner(self) -> None:
        for name, value, allowed in (("cache", self.cache, CACHES), ("scaling", self.scaling, SCALINGS)):
            if value not in allowed:
                raise RequestError(f"{name}={value!r} is not known; choose from {', '.join(allowed)}")
        if self.precision is not None and not 0 < self.precision < 1:
            raise RequestError(f"precision={self.precision:g} is not allowed; give a share such as 1% or 0.01")

    def cells(self) -> list[Cell]:
        """Every (problem, algorithm, executor, cores), in the order of the request."""
        pairs = [(algorithm, executor) for algorithm in self.algorithms for executor in self.executors]
        pairs += [(peer, PEERS[peer].executor) for peer in self.peers]
        return [
            (self._sized(problem, cores), *pair, cores)
            for problem in self.problems
            for pair in pairs
            for cores in (self.cores if pair[1] == LIBRARY or EXECUTORS[pair[1]].scales else (1,))
        ]

    def candidate(self, cell: Cell) -> Candidate:
        """The way to compute that a cell stands for."""
        return Candidate(*cell[1:], allow_tf32=self.allow_tf32)

    def record(self, run: int, order: int, cell: Cell, **outcome: Any) -> Record:
        """What became of a cell in a run."""
        problem, algorithm, executor, cores = cell
        return Record(
            run=run,
            order=order,
            problem=problem,
            algorithm=algorithm,
            executor=executor,
            cores=cores,
            base="" if self.scaling == "strong" else self._base(problem, cores),
            **outcome,
        )

    def order(self, run: int) -> list[Cell]:
        """The cells in the random order in which a run measures them."""
        cells = self.cells()
        random.Random(f"{self.seed}/{run}").shuffle(cells)
        return cells

    def data(self, problem: Problem) -> tuple[NDArray[Any], NDArray[Any]]:
        """Input and weights of one of the problems, of its dtype and 4-D."""
        if self.source is not None and self._shows(self.source.problem, str(problem)):
            pixels = load_image(self.source.path).pixels
            pixels = np.pad(pixels, ((0, problem.height - len(pixels)), (0, 0)), mode="symmetric")
            bank = filters.kernels(self.kernels, self.seed)
            return pixels[None, None].astype(problem.dtype), bank[:, None].astype(problem.dtype)
        random_numbers = np.random.default_rng([self.seed, zlib.crc32(str(problem).encode())])
        x = random_numbers.standard_normal(problem.input_shape)
        weights = random_numbers.standard_normal(problem.weights_shape) / np.sqrt(problem.taps)
        return x.astype(problem.dtype), weights.astype(problem.dtype)

    def _sized(self, descriptor: str, cores: int) -> str:
        """What so many cores compute of one of the problems."""
        return descriptor if self.scaling == "strong" else _grown(descriptor, cores)

    def _base(self, descriptor: str, cores: int) -> str:
        """Which of the problems so many cores compute as this one."""
        return next(problem for problem in self.problems if self._sized(problem, cores) == descriptor)

    def _shows(self, base: str, descriptor: str) -> bool:
        """Whether a descriptor is one of the problems, or has grown from it."""
        return descriptor in {base, *(self._sized(base, cores) for cores in self.cores)}

    def verify_source(self) -> None:
        """Raise a `RequestError` if the picture is no longer what it was when the sweep began."""
        if self.source is not None and load_image(self.source.path).sha256 != self.source.sha256:
            raise RequestError(f"image {self.source.path!r} has changed since the sweep began; put the old one back")

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON can hold it; `from_json` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            RequestError: It is of another version, or names what this one does not know.
        """
        try:
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
            }
            values["timing"] = Timing(**data["timing"])
            if data["source"] is not None:
                values["source"] = Source(**{**data["source"], "steps": tuple(data["source"]["steps"])})
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise RequestError(f"the sweep's spec cannot be used ({error}); use the convbench that wrote it") from None


def make_spec(
    problems: Sequence[Problem | str] = (),
    *,
    image: str | Path | None = None,
    kernels: str | None = None,
    algorithms: tuple[str, ...] | None = None,
    executors: tuple[str, ...] | None = None,
    cores: tuple[int, ...] | None = None,
    peers: tuple[str, ...] = (),
    runs: int = 10,
    precision: float | None = None,
    scaling: str = "strong",
    cache: str = "hot",
    allow_tf32: bool = False,
    seed: int = 0,
) -> Spec:
    """A spec with everything that was not said filled in.

    The multicore experiment (a picture and a bank of kernels) is measured if no problem is given, or if `image` or
    `kernels` says so.

    Raises:
        RequestError: A value is wrong, or a problem's arrays do not fit into memory.
    """
    wanted = [Problem.parse(problem) if isinstance(problem, str) else problem for problem in problems]
    source = None
    if image is not None or kernels is not None or not wanted:
        experiment, source = _experiment(default_image() if image is None else image, kernels or "gabor", seed)
        wanted.insert(0, experiment)
    counts = machine.core_series() if cores is None else cores
    for problem in wanted:
        _check_memory(problem.grown(max(counts, default=1)) if scaling == "weak" else problem)
    return Spec(
        problems=tuple(map(str, wanted)),
        algorithms=ALGORITHMS.defaults if algorithms is None else algorithms,
        executors=EXECUTORS.defaults if executors is None else executors,
        cores=counts,
        peers=peers,
        runs=runs,
        precision=precision,
        scaling=scaling,
        cache=cache,
        allow_tf32=allow_tf32,
        seed=seed,
        source=source,
        kernels=kernels or "gabor",
    )


def same_spec(spec: Spec, request: Mapping[str, Any], where: str) -> Spec:
    """The spec of a sweep that is to be gone on with, with more runs if `request` asks for more.

    Raises:
        RequestError: `request` (arguments of `make_spec`) says anything else than the sweep in `where` began with.
    """
    if not request:
        return spec
    wanted = make_spec(**request)
    for name in request:
        attribute = "source" if name == "image" else name
        asked, began = getattr(wanted, attribute), getattr(spec, attribute)
        if asked != began and not (name == "runs" and asked > began):
            raise RequestError(
                f"{name}={_in_words(asked)} is not what the sweep in {where} began with ({_in_words(began)}); "
                f"leave it out, or measure into another directory"
            )
    return dataclasses.replace(spec, runs=wanted.runs if "runs" in request else spec.runs)


@cache
def _grown(descriptor: str, times: int) -> str:
    return str(Problem.parse(descriptor).grown(times))


def _in_words(value: object) -> str:
    if isinstance(value, Source):
        return value.path
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _experiment(path: str | Path, kernels: str, seed: int, dtype: DType = "float32") -> tuple[Problem, Source]:
    """The multicore experiment on a picture: every kernel of a bank over one channel, without padding."""
    picture = load_image(path)
    bank = filters.kernels(kernels, seed)
    (height, width), (count, rows, columns) = picture.pixels.shape, bank.shape
    if rows > height or columns > width:
        raise RequestError(
            f"image {str(path)!r} is {width} x {height}, smaller than the {columns} x {rows} kernels; "
            "give a larger image or smaller --kernels"
        )
    problem = Problem(
        height=height,
        width=width,
        out_channels=count,
        kernel_height=rows,
        kernel_width=columns,
        dtype=dtype,
        name=EXPERIMENT,
    )
    return problem, Source(str(problem), str(Path(path).resolve()), picture.sha256, picture.steps)


def _check_memory(problem: Problem) -> None:
    free = psutil.virtual_memory().available
    if problem.bytes > _MEMORY_SHARE * free:
        raise RequestError(
            f"problem {problem} needs {problem.bytes / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; "
            "use a smaller image, fewer kernels or a smaller batch"
        )
