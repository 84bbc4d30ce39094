"""What a sweep is asked to measure, and the cells and data that follow from it."""

from __future__ import annotations

import dataclasses
import math
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench import filters, machine
from convbench.errors import RequestError
from convbench.executors import EXECUTORS, launched
from convbench.executors.cluster import ON_THIS_MACHINE, Cluster
from convbench.images import default_image, load_image
from convbench.measure import reference
from convbench.measure.experiment import experiment
from convbench.networks import Suite, problems_of
from convbench.networks.parts import parts_of
from convbench.peers import LIBRARY, PEERS
from convbench.plans import Candidate
from convbench.problem import ITEM_SIZE, Problem
from convbench.request import MOST_RUNS, Request
from convbench.request.field import called_with, fields_of, settled
from convbench.request.forms import core_counts_here
from convbench.request.stored import Source, StoredSpec, Timing
from convbench.results.record import Cell, Record

__all__ = ["MOST_RUNS", "Source", "Spec", "Timing", "make_spec", "same_spec", "spec_of"]

LONGEST_WORDS: Final = 300  # characters of a value in an error
_DRAWN: Final = 2**20  # random numbers at a time
_MEMORY_SHARE: Final = 0.9  # of what is free may go to one problem's arrays


@dataclass(unsafe_hash=True, kw_only=True)
class Spec(StoredSpec):
    """Everything that determines a sweep, and what follows from it: cells, their order and their data."""

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

    @property
    def cores_here(self) -> tuple[int, ...]:
        """How many threads the processes that measure compute on, where they do so themselves."""
        others = () if not self.peers and _all_distribute(self.executors) else self.cores
        return (*others, self.threads_per_worker)

    def candidate(self, cell: Cell) -> Candidate:
        """The way to compute that a cell stands for."""
        return Candidate(*cell[1:], precision=self.arithmetic, cluster=self._cluster(cell[2]))

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
        """The cells in the random order in which a run measures them: see `shuffle`, and docs/measurement.md.

        Cells whose workers start together with a process that leads them follow one another, as they share the process.
        """
        shuffled = self._shuffled(run)
        jobs = sorted({job_of(cell) for cell in shuffled})
        random.Random(f"{self.seed}/{run}/jobs").shuffle(jobs)
        return sorted(shuffled, key=lambda cell: jobs.index(job_of(cell)))  # which keeps the random order inside

    def _shuffled(self, run: int) -> list[Cell]:
        shuffled = self.cells()
        draw = random.Random(f"{self.seed}/{run}")
        draw.shuffle(shuffled)
        if self.shuffle == "cells":
            return shuffled
        problems = list(dict.fromkeys(cell[0] for cell in self.cells()))
        draw.shuffle(problems)
        place = {problem: number for number, problem in enumerate(problems)}
        return sorted(shuffled, key=lambda cell: place[cell[0]])  # which keeps the random order of a problem's cells

    def data(self, problem: Problem) -> tuple[NDArray[Any], NDArray[Any]]:
        """Input and weights of one of the problems, of its dtype and 4-D."""
        if self.source is not None and self._shows(self.source.problem, str(problem)):
            pixels = load_image(self.source.path).pixels
            pixels = np.pad(pixels, ((0, problem.height - len(pixels)), (0, 0)), mode="symmetric")
            return pixels[None, None].astype(problem.dtype), self._bank()[:, None].astype(problem.dtype)
        random_numbers = np.random.default_rng([self.seed, zlib.crc32(str(problem).encode())])
        x = _normal(random_numbers, problem.input_shape, problem.dtype)
        return x, _normal(random_numbers, problem.weights_shape, problem.dtype, 1 / math.sqrt(problem.taps))

    def verify_source(self) -> None:
        """Raise a `RequestError` if picture or filters are no longer what they were when the sweep began."""
        if self.source is None:
            return
        if load_image(self.source.path).sha256 != self.source.sha256:
            raise RequestError(f"image {self.source.path!r} has changed since the sweep began; put the old one back")
        if self.source.kernels_sha256 and filters.sha256(str(self.kernels), self._bank()) != self.source.kernels_sha256:
            raise RequestError(f"kernels {self.kernels!r} have changed since the sweep began; put the old ones back")

    def _bank(self) -> NDArray[np.float64]:
        """The filters of the experiment."""
        return filters.filter_bank(str(self.kernels), self.seed)  # `make_spec` has filled them in

    def _cluster(self, executor: str) -> Cluster:
        """What is asked of the workers of an executor, where it has workers of its own."""
        if executor == LIBRARY or not EXECUTORS[executor].distributes:
            return ON_THIS_MACHINE
        return Cluster(self.threads_per_worker, self.workers_on, self.scheduler, self.scheduler_file)

    def _sized(self, descriptor: str, cores: int) -> str:
        """What so many cores compute of one of the problems."""
        return descriptor if self.scaling == "strong" else _grown(descriptor, cores)

    def _base(self, descriptor: str, cores: int) -> str:
        """Which of the problems so many cores compute as this one."""
        return next(problem for problem in self.problems if self._sized(problem, cores) == descriptor)

    def _shows(self, base: str, descriptor: str) -> bool:
        """Whether a descriptor is one of the problems, or has grown from it."""
        return descriptor in {base, *(self._sized(base, cores) for cores in self.cores)}


def spec_of(request: Request) -> Spec:
    """A spec with everything that was not said filled in, and what was said checked against this machine.

    The multicore experiment (a picture and a bank of filters) is measured if no problem is given, or if `image` or
    `kernels` says so.

    Raises:
        RequestError: A value is wrong, or a problem's arrays do not fit into memory.
    """
    found = settled(request, Request)
    if found["peers"] or not _all_distribute(found["executors"]):
        core_counts_here(found["cores"])
    image, source = found.pop("image"), None
    asked = [found.pop(name) for name in ("problems", "network", "mb", "layers")]
    problems = _asked_for(*asked)
    if image is not None or request.kernels is not None or not problems:
        first, source = experiment(default_image() if image is None else image, found["kernels"], request.seed)
        problems.insert(0, first)
    for problem in problems:
        _check_memory(problem.grown(max(request.cores)) if request.scaling == "weak" else problem)
    timing = _brief(Timing()) if request.network else Timing()
    networks = parts_of(problems, *asked[1:])
    return Spec(**found, problems=tuple(map(str, problems)), source=source, timing=timing, networks=networks)


def _brief(timing: Timing) -> Timing:
    """The timing of a sweep of networks, which have dozens of layers, and so hundreds of cells."""
    return dataclasses.replace(timing, sample_seconds=0.005, min_seconds=0.05, max_seconds=0.5, warmup_seconds=0.5)


def _asked_for(
    descriptors: Sequence[str], suites: Sequence[Suite], mb: int | None, layers: int | None
) -> list[Problem]:
    """The problems that are asked for by descriptor and by network.

    Raises:
        RequestError: A batch or a number of layers is asked for of none.
    """
    problems = [Problem.parse(descriptor) for descriptor in descriptors]
    if layers is not None and not suites:
        raise RequestError(f"layers={layers} is of networks; name a network, too")
    if mb is not None and not (suites or problems):
        raise RequestError(f"mb={mb} is of problems and networks; name one, too")
    if not suites and mb is None:
        return problems
    return list(problems_of(suites, mb, layers, before=problems))


@called_with(Request)
def make_spec(request: Request) -> Spec:
    """The spec of a new sweep, see `spec_of`.

    Returns:
        What is going to be measured.

    Raises:
        RequestError: A value is wrong, or a problem's arrays do not fit into memory.
    """
    return spec_of(request)


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
        field = fields_of(Request)[name]
        asked, began = field.seen(wanted), field.seen(spec)
        if not field.agrees(asked, began):
            raise RequestError(
                f"{name}={_in_words(asked)} is not what the sweep in {where} began with ({_in_words(began)}); "
                f"leave it out, or measure into another directory"
            )
    return dataclasses.replace(spec, runs=wanted.runs if "runs" in request else spec.runs)


Job = list[tuple[int, Cell]]  # cells with their positions in a run


def job_of(cell: Cell) -> str:
    """The executor that a cell's process is launched by, with its workers; empty for cells that share a plain one."""
    return cell[2] if launched(cell[2]) else ""


def _all_distribute(executors: Iterable[str]) -> bool:
    return all(EXECUTORS[name].distributes for name in executors)


@cache
def _grown(descriptor: str, times: int) -> str:
    return str(Problem.parse(descriptor).grown(times))


def _in_words(value: object) -> str:
    words = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}..."


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
            "use a smaller image, fewer filters or a smaller batch"
        )
