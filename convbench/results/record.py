"""One cell measured in one run: raw samples and what was seen while they were taken, never an average."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, get_args

SCHEMA: Final = 1
DRIFT: Final = 1.1  # times the fastest `calibration`, and the machine has become slower
Status = Literal["ok", "skipped", "failed", "timeout"]
Cell = tuple[str, str, str, int]  # problem, algorithm, executor, cores


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
        status: "ok", "skipped" (it cannot be done here), "failed", or "timeout".
        reason: Why it is not ok, or a caveat.
        samples: Seconds of one call, each sample the mean of `loops` calls in a row.
        loops: Calls in each sample.
        warmups: Seconds of the calls before the first sample, in order.
        setup: Seconds before that, by step: "compile", "pack", "start", "check".
        check: How far the output was from the float64 reference, and how far it may be.
        counters: What was used while the samples were taken: CPU seconds, page faults, switches, steal, pressure.
        sample_counters: The same for each sample.
        device: For a device, what it told of itself right after each sample: clocks, temperature, power, and why clocks
            were lowered, see `card.Nvml.levels`; what it does not tell is not there.
        stages: For each stage that the algorithm tells apart, seconds of one call that a worker spent in it, mean over
            workers, for each sample.
        transfers: For a device with memory of its own, seconds by the host's clock of "host to device" (the input),
            "device to host" (the output), and "end to end" (both, and what is computed between), several of each; no
            sample has any of them in it.
        calibration: Seconds of a small fixed piece of work just before the cell, by which drift shows; 0 if unknown.
        flags: What a reader should know before trusting the samples.
        sample_flags: What was raised by each sample alone.
        worker: The process that measured: its number, affinity and threads as read back, its CPUs' clocks in "mhz" and
            the "placement" of arrays on several nodes of memory where there is something to tell, and what pyperf says.
        wall_seconds: All the time that the cell took, setup and check included, and the start of the process if it was
            the first there.
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
    samples: tuple[float, ...] = ()
    loops: int = 1
    warmups: tuple[float, ...] = ()
    setup: Mapping[str, float] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    sample_counters: tuple[Mapping[str, float], ...] = ()
    device: tuple[Mapping[str, Any], ...] = ()
    stages: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    transfers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calibration: float = 0.0
    flags: tuple[str, ...] = ()
    sample_flags: tuple[tuple[str, ...], ...] = ()
    worker: Mapping[str, Any] = field(default_factory=dict)
    wall_seconds: float = 0.0

    @property
    def cell(self) -> Cell:
        """(problem, algorithm, executor, cores): what was measured, whichever run it was in."""
        return (self.problem, self.algorithm, self.executor, self.cores)

    def to_json(self) -> str:
        """The record as one line of JSON, without the line's end."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what `to_json` wrote; fields that a later version may have added are left out.

        Raises:
            ValueError: The line is no record.
        """
        data = json.loads(line)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"is no record of schema {SCHEMA}")
        known = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        try:
            for name in ("samples", "warmups", "flags", "sample_counters", "device"):
                known[name] = tuple(known.get(name, ()))
            for name in ("stages", "transfers"):
                known[name] = {part: tuple(seconds) for part, seconds in known.get(name, {}).items()}
            known["sample_flags"] = tuple(tuple(flags) for flags in known.get("sample_flags", ()))
            record = cls(**known)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"lacks a field or has one of the wrong type ({error})") from None
        record._check_types()
        return record

    def _check_types(self) -> None:
        numbers = (self.run, self.order, self.cores)
        texts = (self.problem, self.algorithm, self.executor)
        if not all(isinstance(number, int) for number in numbers) or not all(isinstance(text, str) for text in texts):
            raise ValueError("has a field of the wrong type")
        if self.status not in get_args(Status):
            raise ValueError(f"has an unknown status {self.status!r}")
        if not all(isinstance(sample, int | float) and sample > 0 for sample in self.samples):
            raise ValueError("has a sample that is no positive number")
        if self.status == "ok" and not self.samples:
            raise ValueError("is ok but has no samples")
