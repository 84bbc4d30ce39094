"""What a sweep may be asked for: the one list of it, from which command line, library and sweep.json are derived.

To add a field, add one entry to `Request`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convbench.algorithms import ALGORITHMS
from convbench.arguments import share, truth
from convbench.errors import RequestError, shown
from convbench.executors import EXECUTORS, PROCESSORS
from convbench.peers import PEERS
from convbench.precision import EXACT, PRECISIONS, TF32
from convbench.request import forms
from convbench.request.field import Field, Option
from convbench.shape import CORES, COUNT, DESCRIPTOR, FLAG, INTEGER, LOOPS, NAME, NUMBER, TEXT

if TYPE_CHECKING:
    from convbench.networks import Suite
    from convbench.problem import Problem

__all__ = ["CACHES", "MOST_RUNS", "SCALINGS", "Call", "Request"]

CACHES = ("hot", "cold")
SCALINGS = ("strong", "weak")
MOST_RUNS = 10_000  # each a process that takes a second to start


@dataclass(unsafe_hash=True)
class Request:
    """What a sweep is asked for, each field in one form whatever form it was given in. Fields are assigned once.

    Raises:
        RequestError: A value is wrong.
    """

    problems: Field[Problem | str | Iterable[Problem | str], tuple[str, ...]] = Field(
        forms.problems,
        (),
        "What to convolve, one or several: a `Problem`, or text in benchdnn's notation. Inputs are random numbers.",
        option=Option("A problem in benchdnn's notation; repeatable.", metavar="DESC", name="problem", multiple=True),
        settle=forms.canonical_problems,
        stored=[DESCRIPTOR],
        needed=True,
        seen=lambda spec: spec.problems_without_picture,
    )
    _: KW_ONLY
    network: Field[str | Path | Suite | Iterable[str | Path | Suite], tuple[Suite, ...]] = Field(
        forms.suites,
        (),
        "Networks whose layers are measured, one or several: names that `convbench.networks.NETWORKS` lists, files or "
        "folders of problems as benchdnn writes them, or suites of `convbench.networks`. Layers that are the same "
        "problem are measured once. Samples are fewer and shorter than otherwise.",
        option=Option(
            "A network that `convbench networks` lists, or a file or folder of problems; repeatable.",
            metavar="NAME|PATH",
            multiple=True,
        ),
        seen=lambda spec: spec.problems_without_picture,
    )
    mb: Field[int | None, int | None] = Field(
        forms.perhaps(forms.from_to(1)),
        None,
        "The batch of all problems and layers; default: each one's own.",
        option=Option("The batch of all problems and layers.", "each one's own", kind=int),
        seen=lambda spec: spec.problems_without_picture,
    )
    layers: Field[int | None, int | None] = Field(
        forms.perhaps(forms.from_to(1)),
        None,
        "How many layers of each network to measure, drawn so that kinds and sizes are there in proportion, the same "
        "ones each time; default: all.",
        option=Option("So many layers of each network, a representative sample.", "all", kind=int),
        seen=lambda spec: spec.problems_without_picture,
    )
    image: Field[str | Path | None, Path | None] = Field(
        forms.perhaps(forms.path),
        None,
        "The picture of the multicore experiment, which is measured if no problem is given, or if `image` or `kernels` "
        "says so; default: a photograph.",
        option=Option("Any picture that Pillow reads.", "the photograph in images/", "FILE"),
        seen=lambda spec: spec.source and f"{spec.source.path} ({spec.source.sha256[:16]})",
    )
    kernels: Field[str | Path | None, str | None] = Field(
        forms.perhaps(forms.text_of_path),
        None,
        'Its bank of filters: "gabor", "random", or the path of an .npy file; default: "gabor".',
        option=Option("The bank of filters.", "gabor", "gabor|random|FILE.npy"),
        settle=forms.bank_here,
        stored=TEXT,
        absent="gabor",
        manner=True,
    )
    algorithms: Field[str | Iterable[str] | None, tuple[str, ...]] = Field(
        forms.names(ALGORITHMS, ALGORITHMS.defaults),
        None,
        'Names, or "one,two" as on the command line; default: those that are measured unasked.',
        option=Option(f"From {', '.join(ALGORITHMS)}.", ",".join(ALGORITHMS.defaults), "LIST"),
        stored=[NAME],
        needed=True,
    )
    executors: Field[str | Iterable[str] | None, tuple[str, ...]] = Field(
        forms.names(EXECUTORS, EXECUTORS.defaults),
        None,
        "Names, in either form; default: all.",
        option=Option(f"From {', '.join(EXECUTORS)}.", "all", "LIST"),
        stored=[NAME],
        needed=True,
    )
    peers: Field[str | Iterable[str], tuple[str, ...]] = Field(
        forms.names(PEERS, none_allowed=True),
        (),
        "Other libraries to measure in the same runs, in either form.",
        option=Option(f"Other libraries, from {', '.join(PEERS)}.", "none", "LIST"),
        stored=[NAME],
    )
    cores: Field[int | str | Iterable[int] | None, tuple[int, ...]] = Field(
        forms.core_counts,
        None,
        "A core count, or several; default: 1, 2, 4, ... up to this machine's.",
        option=Option("Core counts.", "1,2,4,... up to this machine's", "LIST"),
        stored=[CORES],
        needed=True,
    )
    threads_per_worker: Field[int, int] = Field(
        forms.from_to(1),
        1,
        "Threads that each worker of an executor on a cluster (`dask`, `mpi`) computes on; `cores` is then the number "
        "of workers.",
        option=Option("Threads of each worker of dask or rank of mpi.", "1", kind=int, also="threads-per-rank"),
        stored=LOOPS,
        optional=True,
        manner=True,
    )
    workers_on: Field[str, str] = Field(
        forms.word(PROCESSORS),
        "cpu",
        '"cpu", or "gpu": each worker of an executor on a cluster has a GPU of its machine.',
        option=Option("What workers of dask and mpi compute on.", "cpu", "cpu|gpu"),
        stored=TEXT,
        optional=True,
        manner=True,
    )
    scheduler: Field[str | None, str] = Field(
        forms.text_or_nothing,
        None,
        'Address of the scheduler of the Dask cluster that `dask` computes on, such as "tcp://HOST:PORT" or '
        "\"tls://HOST:PORT\" (with certificates from Dask's configuration); default: the one that Dask's configuration "
        "names, or else a cluster that is started on this machine.",
        option=Option("Dask's scheduler.", "a cluster started on this machine", "ADDRESS"),
        stored=TEXT,
        optional=True,
    )
    scheduler_file: Field[str | Path | None, str] = Field(
        forms.path_or_nothing,
        None,
        "The file in which Dask's scheduler has written its address, instead of `scheduler`.",
        option=Option("The file that tells the address of Dask's scheduler.", metavar="FILE"),
        stored=TEXT,
        optional=True,
    )
    runs: Field[int, int] = Field(
        forms.from_to(1, MOST_RUNS),
        10,
        "Fresh processes, each of which measures everything once in random order.",
        option=Option("Fresh processes that measure everything once.", "10; 12 in turns", kind=int),
        stored=COUNT,
        agrees=operator.ge,
    )
    precision: Field[float | str | None, float | None] = Field(
        forms.perhaps(share),
        None,
        'Add runs until every cell\'s interval is this tight, as a share of its mean such as 0.01 or "1%"; it takes 15 '
        "runs or more, or until `time_limit` is over.",
        option=Option("Add runs, to 15 or more, until every interval is as tight as this.", metavar="PERCENT"),
        stored=(None, NUMBER),
    )
    scaling: Field[str, str] = Field(
        forms.word(SCALINGS),
        "strong",
        '"strong": every number of cores computes the problem; "weak": the image grows with the cores.',
        option=Option("weak has the image grow with the cores.", "strong", "strong|weak"),
        stored=TEXT,
    )
    cache: Field[str, str] = Field(
        forms.word(CACHES),
        "hot",
        '"hot": calls follow one another; "cold": the caches are emptied before every sample.',
        option=Option("cold empties the caches before every sample.", "hot", "hot|cold"),
        stored=TEXT,
    )
    arithmetic: Field[str | None, str] = Field(
        forms.name_or_nothing(PRECISIONS),
        None,
        "What products may be computed in where it can be, a name from `convbench.precision.PRECISIONS`; default: "
        '"exact".',
        option=Option(f"What products may be computed in, from {', '.join(PRECISIONS)}.", EXACT.name, "NAME"),
        stored=NAME,
        optional=True,
        manner=True,
    )
    allow_tf32: Field[bool, bool] = Field(
        truth,
        False,  # noqa: FBT003  # a default
        'Whether a GPU may round the inputs of float32\'s products to TF32: short for `arithmetic="tf32"`.',
        option=Option("Let GPUs round float32's products to TF32.", "exact", is_flag=True),
        stored=FLAG,
        manner=True,
    )
    memory_limit: Field[int | str | None, int | None] = Field(
        forms.perhaps(forms.size),
        None,
        "Skip what needs more memory than this in addition to input, unpacked weights and output: bytes, or text such "
        'as "64MiB". What it needs is counted before anything is allocated. What other libraries need is not known, so '
        "they are measured all the same.",
        option=Option("Skip forms that need more beside input, weights and output.", "none", "SIZE"),
        stored=(None, COUNT),
        optional=True,
    )
    seed: Field[int, int] = Field(
        forms.from_to(0),
        0,
        "Of the order and of random data.",
        option=Option("Of the random order and of random data.", "0", kind=int),
        stored=INTEGER,
        manner=True,
    )

    def __post_init__(self) -> None:
        if self.scheduler and self.scheduler_file:
            raise RequestError(
                f"scheduler={shown(self.scheduler)} and scheduler_file={shown(self.scheduler_file)} name two; give one"
            )
        wanted = self.arithmetic or (TF32.name if self.allow_tf32 else EXACT.name)
        if self.allow_tf32 and wanted != TF32.name:
            raise RequestError(
                f"allow_tf32=True is short for arithmetic={TF32.name}, and arithmetic={shown(wanted)} is not that; "
                "give one of them"
            )
        vars(self).update(arithmetic=wanted, allow_tf32=wanted == TF32.name)


@dataclass(unsafe_hash=True, kw_only=True)
class Call(Request):
    """A request, and what else is said where a sweep is started."""

    time_limit: Field[float | None, float | None] = Field(
        forms.perhaps(forms.seconds),
        None,
        "Begin no measurement after so many seconds.",
        option=Option("Begin no measurement after this.", metavar="SECONDS", kind=float),
    )
    output: Field[str | Path | None, Path | None] = Field(
        forms.perhaps(forms.path),
        None,
        "The directory to write; default: a temporary one, read back and removed. If the sweep ends in an exception, "
        "an interrupt included, after the first measurement, the directory is kept: a line on standard error and a "
        "note of the exception say where it is, for `load` and for `convbench sweep --resume`.",
        option=Option("Where to.", "reports/TIME", "DIR"),
    )
