"""What a sweep is asked to measure, and the cells and data that follow from it."""

from __future__ import annotations

import dataclasses
import math
import random
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from convbench import filters, machine
from convbench.algorithms import ALGORITHMS
from convbench.arguments import entries_of, one_of, path, share, texts, truth, whole_number, whole_numbers
from convbench.errors import RequestError, shown
from convbench.executors import EXECUTORS
from convbench.images import default_image, load_image
from convbench.measure import reference
from convbench.measure.experiment import Source, experiment
from convbench.peers import LIBRARY, PEERS
from convbench.plans import Candidate
from convbench.precision import EXACT, TF32
from convbench.problem import ITEM_SIZE, Problem
from convbench.results.record import Cell, Record

CACHES: Final = ("hot", "cold")
SCALINGS: Final = ("strong", "weak")
MOST_RUNS: Final = 10_000  # each a process that takes a second to start
_DRAWN: Final = 2**20  # random numbers at a time
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
        kernels: What `filters.filter_bank` makes that problem's weights of.
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
        one_of("cache", self.cache, CACHES)
        one_of("scaling", self.scaling, SCALINGS)
        if self.precision is not None:
            share("precision", self.precision)
        for field_name in ("problems", "algorithms", "executors", "cores", "peers"):
            values = getattr(self, field_name)
            if not values and field_name != "peers":
                raise RequestError(f"{field_name} is empty; name at least one")
            if len(set(values)) < len(values):
                listed = shown(",".join(map(str, values)))[1:-1]
                raise RequestError(f"{field_name}={listed} names one twice; name each once")
        for number in self.cores:
            whole_number("cores", number, least=1)
        whole_number("runs", self.runs, least=1, most=MOST_RUNS)
        whole_number("seed", self.seed, least=0)

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
        return Candidate(*cell[1:], precision=TF32.name if self.allow_tf32 else EXACT.name)

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
            bank = filters.filter_bank(self.kernels, self.seed)
            return pixels[None, None].astype(problem.dtype), bank[:, None].astype(problem.dtype)
        random_numbers = np.random.default_rng([self.seed, zlib.crc32(str(problem).encode())])
        x = _normal(random_numbers, problem.input_shape, problem.dtype)
        return x, _normal(random_numbers, problem.weights_shape, problem.dtype, 1 / math.sqrt(problem.taps))

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
        """Raise a `RequestError` if picture or kernels are no longer what they were when the sweep began."""
        if self.source is None:
            return
        if load_image(self.source.path).sha256 != self.source.sha256:
            raise RequestError(f"image {self.source.path!r} has changed since the sweep began; put the old one back")
        if self.source.kernels_sha256:
            bank = filters.filter_bank(self.kernels, self.seed)
            if filters.sha256(self.kernels, bank) != self.source.kernels_sha256:
                raise RequestError(
                    f"kernels {self.kernels!r} have changed since the sweep began; put the old ones back"
                )

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON can hold it, and as versions read it that know nothing of what is not used."""
        found = dataclasses.asdict(self)
        if self.source is not None and not self.source.kernels_sha256:
            del found["source"]["kernels_sha256"]
        return found

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
        except (KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"the sweep's spec cannot be used ({error}); use the convbench that wrote it") from None


def make_spec(
    problems: Problem | str | Iterable[Problem | str] = (),
    *,
    image: str | Path | None = None,
    kernels: str | Path | None = None,
    algorithms: str | Iterable[str] | None = None,
    executors: str | Iterable[str] | None = None,
    cores: int | str | Iterable[int] | None = None,
    peers: str | Iterable[str] = (),
    runs: int = 10,
    precision: float | str | None = None,
    scaling: str = "strong",
    cache: str = "hot",
    allow_tf32: bool = False,
    seed: int = 0,
) -> Spec:
    """A spec with everything that was not said filled in, and what was said in any form as the spec holds it.

    The multicore experiment (a picture and a bank of kernels) is measured if no problem is given, or if `image` or
    `kernels` says so.

    Raises:
        RequestError: A value is wrong, or a problem's arrays do not fit into memory.
    """
    spec = Spec(
        problems=("not yet known",),
        algorithms=ALGORITHMS.defaults if algorithms is None else texts("algorithms", algorithms),
        executors=EXECUTORS.defaults if executors is None else texts("executors", executors),
        cores=machine.core_series() if cores is None else _core_counts(cores),
        peers=texts("peers", peers),
        runs=whole_number("runs", runs, least=1, most=MOST_RUNS),
        precision=None if precision is None else share("precision", precision),
        scaling=scaling,
        cache=cache,
        allow_tf32=truth("allow_tf32", allow_tf32),
        seed=whole_number("seed", seed, least=0),
        kernels="gabor" if kernels is None else filters.resolved(str(path("kernels", kernels))),
    )
    wanted, source = _problems(problems), None
    if image is not None or kernels is not None or not wanted:
        picture = default_image() if image is None else path("image", image)
        first, source = experiment(picture, spec.kernels, spec.seed)
        wanted.insert(0, first)
    for problem in wanted:
        _check_memory(problem.grown(max(spec.cores)) if scaling == "weak" else problem)
    return dataclasses.replace(spec, problems=tuple(map(str, wanted)), source=source)


def _core_counts(cores: int | str | Iterable[int]) -> tuple[int, ...]:
    counts, most = whole_numbers("cores", cores, least=1), machine.most_cores()
    for count in counts:
        if count > most:
            raise RequestError(
                f"cores={count} is not allowed; every core asked for has a thread or process of its own, so at most "
                f"{most} can be asked for on this machine, which has {machine.usable_cores()}"
            )
    return counts


def _problems(given: Problem | str | Iterable[Problem | str]) -> list[Problem]:
    entries = (given,) if isinstance(given, str | Problem) else entries_of(given)
    if entries is None:
        raise RequestError(
            f"problems={shown(given)} cannot be read; give a Problem, text in benchdnn's notation, or several"
        )
    return [entry if isinstance(entry, Problem) else Problem.parse(entry) for entry in entries]  # type: ignore[arg-type]  # refused there


def same_spec(spec: Spec, request: Mapping[str, Any], where: str) -> Spec:
    """The spec of a sweep that is to be gone on with, with more runs if `request` asks for more.

    Raises:
        RequestError: `request` (arguments of `make_spec`) says anything else than the sweep in `where` began with.
    """
    if not request:
        return spec
    of_picture = {"kernels": spec.kernels, "seed": spec.seed} if "image" in request else {}  # it must fit these
    wanted = make_spec(**{**of_picture, **request})
    for name in request:
        asked, began = _asked(wanted, name), _asked(spec, name)
        if asked != began and not (name == "runs" and asked > began):
            raise RequestError(
                f"{name}={_in_words(asked)} is not what the sweep in {where} began with ({_in_words(began)}); "
                f"leave it out, or measure into another directory"
            )
    return dataclasses.replace(spec, runs=wanted.runs if "runs" in request else spec.runs)


def _asked(spec: Spec, name: str) -> Any:
    """What a spec says of one of the arguments of `make_spec`, whatever it says of the others."""
    if name == "image":
        return spec.source and f"{spec.source.path} ({spec.source.sha256[:16]})"
    if name == "problems" and spec.source is not None:
        return tuple(problem for problem in spec.problems if problem != spec.source.problem)
    return getattr(spec, name)


@cache
def _grown(descriptor: str, times: int) -> str:
    return str(Problem.parse(descriptor).grown(times))


def _in_words(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _normal(random: np.random.Generator, shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> NDArray[Any]:
    """Normal numbers, rounded to a dtype; made a few at a time, as they are drawn with twice as many digits."""
    numbers = np.empty(math.prod(shape), dtype)
    for begin in range(0, numbers.size, _DRAWN):
        part = numbers[begin : begin + _DRAWN]
        part[:] = random.standard_normal(part.size) * scale
    return numbers.reshape(shape)


def _check_memory(problem: Problem) -> None:
    """See that what measures a problem fits: data, arrays that executors share, packed weights and the reference."""
    sizes = (math.prod(shape) for shape in (problem.input_shape, problem.weights_shape, problem.output_shape))
    copies = (2, 3, 1)
    arrays = sum(size * count for size, count in zip(sizes, copies, strict=True)) * ITEM_SIZE[problem.dtype]
    needed, free = arrays + reference.memory(problem), machine.free_memory()
    if needed > _MEMORY_SHARE * free:
        raise RequestError(
            f"problem {problem} needs {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; "
            "use a smaller image, fewer kernels or a smaller batch"
        )
