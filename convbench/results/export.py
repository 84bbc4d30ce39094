"""A sweep's records for other programs: as CSV, as JSON, and as files that pyperf reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from convbench.errors import RequestError
from convbench.results.record import Record
from convbench.results.store import Sweep

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
)


def rows(sweep: Sweep) -> Iterator[tuple[Any, ...]]:
    """One row of `COLUMNS` for each sample, and one without seconds for each record that has none."""
    for record in sweep.records:
        start = (record.run, record.order, *record.cell, record.status, record.reason)
        end = (record.check.get("max_relative_error"), " ".join(record.flags), record.base)
        for number, seconds in enumerate(record.samples) if record.samples else [(None, None)]:
            yield (*start, number, record.loops, seconds, *end, *_levels(record, number))


def _levels(record: Record, number: int | None) -> tuple[Any, ...]:
    """What a device told after a sample; nothing where it told nothing."""
    told = record.device[number] if number is not None and number < len(record.device) else {}
    numbers = (told.get(name) for name in ("sm_mhz", "memory_mhz", "celsius", "watts"))
    return (*numbers, "; ".join(told.get("reasons", ())) or None)


def to_csv(sweep: Sweep) -> str:
    """The rows under their headings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(sweep))
    return text.getvalue()


def to_json(sweep: Sweep) -> str:
    """The content of sweep.json, with the records as a list under "records"."""
    records = [json.loads(record.to_json()) for record in sweep.records]
    return json.dumps({**sweep.header, "records": records}, indent=1) + "\n"


def write_pyperf(sweep: Sweep, directory: Path) -> list[Path]:
    """Write a file for each executor and core count, with the same benchmark names in each.

    So `python -m pyperf compare_to threads-1.json threads-2.json` prints the speedup from one core to two. A benchmark
    is an algorithm on a problem, and holds one `pyperf.Run` for each run of the sweep.

    Raises:
        RequestError: The sweep holds no samples, or the directory cannot be written.
    """
    import pyperf

    files: dict[str, dict[str, list[Any]]] = {}
    for record in sweep.records:
        if record.status == "ok":
            name = f"{record.algorithm} {record.base or record.problem}"
            benchmarks = files.setdefault(f"{record.executor}-{record.cores}.json", {})
            benchmarks.setdefault(name, []).append(_pyperf_run(name, record))
    if not files:
        raise RequestError(f"{sweep.directory} has no samples to export; see the reasons in its records")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, benchmarks in files.items():
            suite = pyperf.BenchmarkSuite([pyperf.Benchmark(runs) for runs in benchmarks.values()])
            suite.dump(str(directory / file), replace=True)
    except OSError as error:
        raise RequestError(f"{directory} cannot be written ({error.strerror}); choose another --output") from None
    return [directory / file for file in files]


TEXT_FORMATS: Final[Mapping[str, Callable[[Sweep], str]]] = {"csv": to_csv, "json": to_json}
FORMATS: Final = (*TEXT_FORMATS, "pyperf")


def write(sweep: Sweep, form: str, output: Path | None) -> Iterator[str]:
    """Write a sweep in one of the `FORMATS`.

    Args:
        sweep: What to write.
        form: "csv", "json" or "pyperf".
        output: A file, or a directory for pyperf; default: nowhere, the text is returned, or for pyperf a directory
            beside the results.

    Yields:
        The text if it went nowhere else; otherwise the paths that were written, a line each.

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


def _pyperf_run(name: str, record: Record) -> Any:
    import pyperf

    return pyperf.Run(
        record.samples,
        warmups=[(1, seconds) for seconds in record.warmups],
        metadata={**record.worker.get("metadata", {}), "name": name, "loops": record.loops, "unit": "second"},
        collect_metadata=False,
    )
