"""One cell measured in one run: raw samples and observations around them, never an average."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, get_args

from convbench.problem import Problem
from convbench.shape import (
    AMOUNT,
    ANY,
    CORES,
    COUNT,
    DESCRIPTOR,
    EMPTY,
    FLAG,
    LOOPS,
    NAME,
    NUMBER,
    PERHAPS_SECONDS,
    SECONDS,
    TEXT,
    Fields,
    Kind,
    check,
    read,
)

SCHEMA: Final = 1
DRIFT: Final = 1.1  # times the fastest `calibration`: the machine has become slower
Status = Literal["ok", "skipped", "failed", "timeout"]
Cell = tuple[str, str, str, int]  # problem, algorithm, executor, cores
Fact = str | int | float

OLD_LIBRARY: Final = "library"
OLD_GPU_PEERS: Final = ("cudnn", "cudnn-channels-last", "cublas")
OLD_BOUNDS: Final = ("cublas",)

STATUS: Final = Kind(f"one of {', '.join(get_args(Status))}", lambda value: value in get_args(Status))
COUNTERS: Final = {NAME: NUMBER}
PARTS: Final = {NAME: [NUMBER]}
LEVELS: Final = Fields({**dict.fromkeys(("sm_mhz", "memory_mhz", "celsius", "watts"), NUMBER), "reasons": [TEXT]})
CLUSTER: Final = Fields(
    {
        **dict.fromkeys(("workers", "threads_per_worker", "hosts", "remote", "replaced"), COUNT),
        "axis": TEXT,
        "exchanges": FLAG,
        **{name: {NAME: AMOUNT} for name in ("bytes", "messages")},
        **{name: [[AMOUNT]] for name in ("compute_seconds", "communication_seconds")},
    }
)
RECORD: Final = Fields(
    {
        **dict.fromkeys(("run", "order"), COUNT),
        **dict.fromkeys(("algorithm", "executor"), NAME),
        "problem": DESCRIPTOR,
        "base": (EMPTY, DESCRIPTOR),
        **dict.fromkeys(("peer", "bound"), FLAG),
        "variant": {NAME: (TEXT, NUMBER)},
        "cores": CORES,
        "status": STATUS,
        "reason": TEXT,
        "samples": [SECONDS],
        "loops": LOOPS,
        "warmups": [AMOUNT],
        "setup": {NAME: NUMBER},
        "memory": {NAME: AMOUNT},
        "work": {NAME: AMOUNT},
        "check": Fields({"max_relative_error": (None, NUMBER), "tolerance": NUMBER, "passed": FLAG}),
        "counters": COUNTERS,
        "sample_counters": [COUNTERS],
        "device": [LEVELS],
        "stages": PARTS,
        "transfers": {NAME: [SECONDS]},
        "cluster": CLUSTER,
        "calibration": PERHAPS_SECONDS,
        "flags": [NAME],
        "sample_flags": [[NAME]],
        "worker": Fields({"metadata": {NAME: ANY}}),
        "wall_seconds": AMOUNT,
    },
    needed=("run", "order", "problem", "algorithm", "executor", "cores", "status"),
)
"""The shape of a line; fields of later versions are ignored."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of results.jsonl.

    Attributes:
        run: Which run, from 0.
        order: Position of the cell in its run, from 0.
        problem: Descriptor of the problem.
        algorithm: Name of the algorithm.
        executor: Name of the executor.
        cores: How many cores the executor was given.
        base: Descriptor of one core's share, in a sweep where the problem grows with the cores; otherwise empty.
        peer: Whether the algorithm is another library's.
        bound: Whether what was timed is a part of a convolution, and so a bound of one and none itself.
        variant: What was chosen for the problem, by name: "backend", "precision", and what the form has to tell, such
            as its tile and its blocks. Empty if nothing ran, and in records of before.
        status: "ok", "skipped" (unsupported here), "failed", or "timeout".
        reason: Why it is not ok, or a caveat.
        samples: Seconds of one call, each sample the mean of `loops` calls in a row.
        loops: Calls in each sample.
        warmups: Seconds of the calls before the first sample, in order.
        setup: Seconds before that, by step: "compile", "pack", "start", "check".
        memory: In bytes, "needed": what the plan needs in addition to input, unpacked weights and output, as counted
            before anything is allocated; "peak": the most that the measuring process held from before the plan was
            bound to the end of its first call, interpreter, data and workers' private memory included, where the
            system tells it. Empty in records of before.
        work: What a call does, counted, see `Candidate.work`; empty for peers, and where it is not counted.
        check: How far the output was from the float64 reference, and how far it may be.
        counters: Sums over the samples: CPU seconds, page faults, switches, steal, pressure.
        sample_counters: The same for each sample.
        device: For a GPU, its levels right after each sample: clocks, temperature, power, and why clocks were lowered,
            see `gpu.Nvml.levels`; what it does not report is not there.
        stages: For each stage of the algorithm, seconds of one call that a worker spent in it, mean over workers, for
            each sample.
        transfers: For a GPU, seconds by the host's clock of "host to device" (the input),
            "device to host" (the output), and "end to end" (both, and what is computed between), several of each; no
            sample has any of them in it. On a cluster, "distribution" (the input, to the workers), "gathering" (the
            output, from them), and "end to end".
        cluster: On a cluster, what each worker did and what moved between them; empty elsewhere, and in records of
            before. "workers": how many had a part; "threads_per_worker"; "hosts": how many machines they were on;
            "remote": how many of them were not on that of the process that leads; "axis": what was cut, "images",
            "rows" (of the output) or "filters", empty for one worker; "exchanges": whether workers begin and end a call
            together and send one another halos in it, rather than being dispatched to; "compute_seconds": for each
            sample, each worker's seconds of convolving in one call, mean over its `loops`, empty if a worker died;
            "communication_seconds": likewise, of exchanging halos with its neighbours, in which it waited for them,
            too; the rest of a sample is what engine and slowest worker add. "bytes" and "messages": of "distribution"
            and "gathering", each once, and of "halo" in every call, of all workers together; "replaced": workers that
            died and were replaced.
        calibration: Seconds of the fixed piece of work just before the cell, which shows drift; 0 if unknown.
        flags: What a reader should know before trusting the samples.
        sample_flags: The flags of each sample alone.
        worker: The process that measured: its number, affinity and threads as read back, its CPUs' clocks in "mhz" and
            the "placement" of arrays on several memory nodes where there are any, and pyperf's metadata.
        wall_seconds: The whole time of the cell, including setup and check, and the start of the process if it was the
            first cell there.
    """

    run: int
    order: int
    problem: str
    algorithm: str
    executor: str
    cores: int
    status: Status
    reason: str = ""
    base: str = ""
    peer: bool = False
    bound: bool = False
    variant: Mapping[str, Fact] = field(default_factory=dict)
    samples: tuple[float, ...] = ()
    loops: int = 1
    warmups: tuple[float, ...] = ()
    setup: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    sample_counters: tuple[Mapping[str, float], ...] = ()
    device: tuple[Mapping[str, Any], ...] = ()
    stages: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    transfers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    calibration: float = 0.0
    flags: tuple[str, ...] = ()
    sample_flags: tuple[tuple[str, ...], ...] = ()
    worker: Mapping[str, Any] = field(default_factory=dict)
    wall_seconds: float = 0.0

    @property
    def cell(self) -> Cell:
        """(problem, algorithm, executor, cores): the identity of the cell in every run."""
        return (self.problem, self.algorithm, self.executor, self.cores)

    def to_json(self) -> str:
        """The record as one line of JSON, without the line's end."""
        content = {"schema": SCHEMA, **dataclasses.asdict(self)}
        line = json.dumps(content, separators=(",", ":"), allow_nan=False)
        if "\\ud" not in line:
            return line
        text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()  # half of a pair, as in names of files, cannot be written

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read a line that `to_json` wrote; fields of later versions are left out.

        Raises:
            ValueError: The line is no record.
        """
        data = read(line)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"is no record of schema {SCHEMA}")
        check(data, RECORD, "")
        if data["status"] == "ok" and not data.get("samples"):
            raise ValueError("is ok but has no samples")
        if data.get("base") and str(Problem.parse(data["base"]).grown(data["cores"])) != data["problem"]:
            raise ValueError(f"has a base that is not its problem's share of {data['cores']} cores")
        data = {**_of_before(data), **data}
        known = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name in ("samples", "warmups", "flags", "sample_counters", "device"):
            known[name] = tuple(known.get(name, ()))
        for name in ("stages", "transfers"):
            known[name] = {part: tuple(seconds) for part, seconds in known.get(name, {}).items()}
        known["sample_flags"] = tuple(tuple(flags) for flags in known.get("sample_flags", ()))
        return cls(**known)


def _of_before(data: Mapping[str, Any]) -> dict[str, bool]:
    """`peer` and `bound` of a record that has neither, from its names: those of the time when records had neither.

    Peers on the host had an executor of their own.
    """
    peer = data["executor"] == OLD_LIBRARY or data["algorithm"] in OLD_GPU_PEERS
    return {"peer": peer, "bound": data["algorithm"] in OLD_BOUNDS}
