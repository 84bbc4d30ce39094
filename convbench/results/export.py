"""A sweep's records for other programs: as CSV, as JSON, and as files that pyperf reads."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from convbench.errors import RequestError
from convbench.results.record import Record
from convbench.results.store import Sweep

Place = tuple[str, int]  # executor and cores
LONGEST_STEM: Final = 100  # characters of a file's name
MUST_AGREE: Final = (  # metadata that pyperf requires to be equal in all runs of a benchmark, besides name and unit
    *("aslr", "cpu_count", "cpu_model_name", "hostname", "platform", "python_executable", "python_implementation"),
    *("python_unicode", "python_version"),
)
COLUMNS: Final = (
    *(
        "run",
        "order",
        "problem",
        "algorithm",
        "executor",
        "cores",
        "status",
        "reason",
        "sample",
        "loops",
        "seconds",
    ),
    *("max_relative_error", "flags", "base"),
    *("sm_mhz", "memory_mhz", "celsius", "watts", "clock_reasons"),
    *("peer", "bound", "variant"),
    *("needed_bytes", "peak_bytes"),
)
"""New columns come last, for programs that go by position."""


def rows(sweep: Sweep) -> Iterator[tuple[Any, ...]]:
    """One row of `COLUMNS` for each sample, and one without seconds for each record that has none."""
    for record in sweep.records:
        start = (record.run, record.order, *record.cell, record.status, record.reason)
        variant = "; ".join(f"{name}={fact}" for name, fact in record.variant.items())
        end = (record.check.get("max_relative_error"), " ".join(record.flags), record.base)
        ran = (record.peer, record.bound, variant, record.memory.get("needed"), record.memory.get("peak"))
        for number, seconds in enumerate(record.samples) if record.samples else [(None, None)]:
            yield (*start, number, record.loops, seconds, *end, *_levels(record, number), *ran)


def _levels(record: Record, number: int | None) -> tuple[Any, ...]:
    """A GPU's levels after a sample; empty places where there are none."""
    levels = record.device[number] if number is not None and number < len(record.device) else {}
    numbers = (levels.get(name) for name in ("sm_mhz", "memory_mhz", "celsius", "watts"))
    return (*numbers, "; ".join(levels.get("reasons", ())) or None)


def to_csv(sweep: Sweep) -> str:
    """The rows under their headings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(sweep))
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


def to_json(sweep: Sweep) -> str:
    """The content of sweep.json, with the records as a list under "records"."""
    records = [json.loads(record.to_json()) for record in sweep.records]
    return json.dumps({**sweep.header, "records": records}, indent=1) + "\n"


def write_pyperf(sweep: Sweep, directory: Path) -> list[Path]:
    """Write a file for each executor and core count, with the same benchmark names in each.

    So `python -m pyperf compare_to threads-1.json threads-2.json` prints the speedup from one core to two. Where the
    problem grows with the cores, the files have no benchmark in common. A benchmark is an algorithm on a problem, and
    holds one `pyperf.Run` for each run of the sweep. pyperf's test of significance needs equally many values on both
    sides, so every file has the same runs of a benchmark and the same number of values in each: the samples where there
    are equally many, otherwise means of consecutive samples. CSV and JSON have all samples.

    Raises:
        RequestError: The sweep holds no samples, or the directory cannot be written.
    """
    import pyperf

    benchmarks: dict[str, dict[Place, list[Record]]] = {}
    for record in sweep.records:
        if record.status == "ok":
            name = f"{record.algorithm} {record.problem}"
            benchmarks.setdefault(name, {}).setdefault((record.executor, record.cores), []).append(record)
    if not benchmarks:
        raise RequestError(f"{sweep.directory} has no samples to export; see the reasons in its records")
    suites: dict[Place, list[Any]] = {}
    for name, cells in benchmarks.items():
        for place, runs in _equal_runs(name, cells).items():
            suites.setdefault(place, []).append(pyperf.Benchmark(runs))
    paths = {place: directory / file for place, file in _file_names(suites).items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for place, path in paths.items():
            pyperf.BenchmarkSuite(suites[place]).dump(str(path), replace=True)
    except OSError as error:
        raise RequestError(f"{directory} cannot be written ({error.strerror}); choose another --output") from None
    return list(paths.values())


TEXT_FORMATS: Final[Mapping[str, Callable[[Sweep], str]]] = {"csv": to_csv, "json": to_json}
FORMATS: Final = (*TEXT_FORMATS, "pyperf")


def write(sweep: Sweep, form: str, output: Path | None) -> Iterator[str]:
    """Write a sweep in one of the `FORMATS`.

    Args:
        sweep: What to write.
        form: "csv", "json" or "pyperf".
        output: A file, or a directory for pyperf; by default the text is returned, and pyperf's files go into a
            directory beside the results.

    Yields:
        The text if there is no output; otherwise the paths that were written, a line each.

    Raises:
        RequestError: The format is unknown, there is nothing to write, or the output cannot be written.
    """
    if form not in FORMATS:
        raise RequestError(f"unknown format {form!r}; choose from {', '.join(FORMATS)}")
    if form == "pyperf":
        yield from (f"{path}\n" for path in write_pyperf(sweep, output or sweep.directory / "pyperf"))
    elif output is None:
        yield TEXT_FORMATS[form](sweep)
    else:
        try:
            output.write_text(TEXT_FORMATS[form](sweep), encoding="utf-8")
        except OSError as error:
            raise RequestError(f"{output} cannot be written ({error.strerror}); choose another --output") from None
        yield f"{output}\n"


def _file_names(places: Iterable[Place]) -> dict[Place, str]:
    """File names such as threads-2.json, all different, whatever executors are called."""
    found: dict[Place, str] = {}
    for executor, cores in places:
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", executor)[:LONGEST_STEM] + f"-{cores}"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        found[executor, cores] = next(f"{name}.json" for name in names if f"{name}.json" not in found.values())
    return found


def _equal_runs(name: str, cells: Mapping[Place, list[Record]]) -> dict[Place, list[Any]]:
    """One benchmark's runs in each place: the common runs, or equally many; equally many values in each."""
    by_run = {place: {record.run: record for record in records} for place, records in cells.items()}
    common = set.intersection(*(set(runs) for runs in by_run.values()))
    least = min(len(runs) for runs in by_run.values())
    kept = {
        place: [runs[run] for run in sorted(common or runs)][: len(common) or least] for place, runs in by_run.items()
    }
    values = min(len(record.samples) for records in kept.values() for record in records)
    return {place: _pyperf_runs(name, records, values) for place, records in kept.items()}


def _pyperf_runs(name: str, records: Sequence[Record], values: int) -> list[Any]:
    """The runs of one benchmark, without metadata that pyperf refuses or requires to be equal and is not."""
    import pyperf

    metadata = [
        {key: value for key, value in record.worker.get("metadata", {}).items() if _is_metadata(key, value)}
        for record in records
    ]
    differ = {key for key in MUST_AGREE if len({repr(one.get(key)) for one in metadata}) > 1}
    return [
        pyperf.Run(
            _means(record.samples, values),
            warmups=[(1, seconds) for seconds in record.warmups],
            metadata={
                **{key: value for key, value in facts.items() if key not in differ},
                "name": name,
                "loops": record.loops,
                "unit": "second",
            },
            collect_metadata=False,
        )
        for record, facts in zip(records, metadata, strict=True)
    ]


def _means(samples: Sequence[float], count: int) -> list[float]:
    """The samples as `count` means of consecutive samples, of equally many as far as possible."""
    ends = [len(samples) * number // count for number in range(count + 1)]
    return [statistics.fmean(samples[begin:end]) for begin, end in itertools.pairwise(ends)]


def _is_metadata(key: str, value: Any) -> bool:
    """Whether pyperf accepts a fact on a process as metadata; none that would change the meaning of values."""
    import pyperf

    if key in ("inner_loops", "duration", "tags"):
        return False
    try:
        pyperf.Run([1.0], metadata={key: value}, collect_metadata=False)
    except (TypeError, ValueError):
        return False
    return True
