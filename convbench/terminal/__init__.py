"""How convbench speaks to somebody at a terminal: progress on standard error, tables on standard output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from convbench.arguments import written_size
from convbench.errors import RequestError
from convbench.terminal.console import say, show_table
from convbench.terminal.layers import show_networks_by_layer, without
from convbench.terminal.progress import sweep_progress
from convbench.terminal.selection import show_report_cards

if TYPE_CHECKING:
    from collections.abc import Callable

    from convbench.analysis.interference import Interference
    from convbench.results.record import Cell, Record
    from convbench.results.store import Sweep

__all__ = [
    "faults",
    "say",
    "say_faults",
    "show_comparison",
    "show_in_turns",
    "show_report_cards",
    "show_sweep",
    "show_table",
    "show_versus",
    "sweep_progress",
]


def say_faults(sweep: Sweep) -> None:
    """A line on what of a sweep's results cannot be used, if anything cannot."""
    if sweep.faults:
        say(faults(sweep))


def faults(sweep: Sweep) -> str:
    """What of a sweep's results cannot be used, in a line."""
    more = f" (and {len(sweep.faults) - 1} more)" if len(sweep.faults) > 1 else ""
    return f"{sweep.faults[0]}{more}; the other {len(sweep.records)} records are used"


def show_sweep(sweep: Sweep) -> int:
    """The summary of a sweep, and what is missing from it.

    Returns:
        The exit status: 1 if a cell failed.
    """
    from convbench.analysis.interference import Interference, raised
    from convbench.analysis.series import widest_interval
    from convbench.analysis.statistics import LEAST_RUNS
    from convbench.report.content import Material
    from convbench.report.summary import summary_table

    material = Material(sweep, sweep.header["spec"])
    for problem, several in material.by_problem().items():
        if problem not in material.layers:
            show_table(without(summary_table(material, problem, several), ["flags"]))
    show_networks_by_layer(material)
    say_faults(sweep)
    for line in _skipped(sweep):
        say(line)
    if flags := raised(sweep.records):
        say("flags: " + ", ".join(f"{flag} in {count} records" for flag, count in flags.items()))
    if sentence := _how_quiet(Interference.of(sweep.records)):
        say(sentence)
    _show_precision(sweep, lambda: widest_interval(sweep.records, LEAST_RUNS), "its mean")
    return _end(sweep)


def _show_precision(sweep: Sweep, widest: Callable[[], float], of: str) -> None:
    """What was reached of the precision that was asked for, if one was."""
    from convbench.analysis.series import STOPPING_RUNS

    precision = sweep.header["spec"].get("precision")
    if precision is not None:
        reached, runs = widest(), len({record.run for record in sweep.records})
        found = f"±{reached:.2%} of {of}" if math.isfinite(reached) else "±unknown"
        more = f", which takes {STOPPING_RUNS} runs or more" if runs < STOPPING_RUNS else ""
        say(f"widest interval {found} after {runs} runs; ±{precision:.2%} was asked for{more}")


def show_versus(sweep: Sweep) -> int:
    """The tables of a comparison with other libraries, and a line for each that was skipped.

    Returns:
        The exit status: 1 if a cell failed.
    """
    from convbench.executors import gpu_executor
    from convbench.report.content import Material
    from convbench.report.summary import summary_table
    from convbench.report.versus import versus_tables

    material = Material(sweep, sweep.header["spec"])
    tables = list(versus_tables(material, material.layers))
    if not tables:  # ours alone, where there is no library
        problems = material.by_problem()
        tables = [summary_table(material, one, problems[one]) for one in problems if one not in material.layers]
    for table in tables:
        show_table(without(table, ["our seconds", "their seconds"]))
    show_networks_by_layer(material)
    skipped: dict[str, None] = {}
    for record in sweep.records:
        if record.status == "skipped":
            where = f" on {record.executor}" if gpu_executor(record.executor) and not record.peer else ""
            skipped[f"skipped: {record.algorithm}{where}: {_why(sweep, record)}"] = None
    for line in skipped:
        say(line)
    return _end(sweep)


def show_in_turns(this: Sweep, against: Sweep, allowed: float | None) -> int:
    """The comparison of two versions that were measured in turns, and what is missing from either.

    Returns:
        The exit status: 1 if a cell failed, or if this version is slower by more than `allowed`, unless that is None.
    """
    from convbench.analysis.compare import widest_ratio
    from convbench.analysis.statistics import LEAST_RUNS

    python = this.header["pair"]["python"]
    names = (f"that of {python}", "this version")
    slower = 0
    if {record.cell for record in this.records if record.samples} & {
        record.cell for record in against.records if record.samples
    }:
        slower = show_comparison(against, this, allowed, names)
    _show_precision(this, lambda: widest_ratio(this.records, against.records, LEAST_RUNS), "its ratio")
    failed = [_end(sweep) for sweep in (this, against)]
    say(f"compared once more: convbench compare {against.directory} {this.directory}")
    return max(slower, *failed)


def show_comparison(
    before: Sweep, after: Sweep, allowed: float | None, names: tuple[str, str] = ("the first", "the second")
) -> int:
    """What differs between two sweeps' machines, then every cell's ratio and verdict.

    Args:
        before: The sweep whose times are divided by.
        after: The one whose times are divided.
        allowed: By what share a cell may be slower; None lets it be as slow as it is.
        names: What to call the two.

    Returns:
        The exit status: 1 if a cell is slower, beyond doubt, by more than `allowed`.
    """
    from convbench.analysis.compare import compare, slower_beyond
    from convbench.analysis.differences import check_same_quantity
    from convbench.report.comparison import comparison_table, in_turns
    from convbench.report.content import Material

    for sweep in (before, after):
        say_faults(sweep)
    check_same_quantity(before.header, after.header)
    paired = in_turns(before.header, after.header)
    _say_differences(before, after, paired=paired)
    order = Material(before, before.header["spec"]).order
    found = compare(before.records, after.records, order, in_turns=paired)
    if not found:
        raise RequestError(
            f"{before.directory} and {after.directory} have no measured cell in common; nothing to compare"
        )
    show_table(comparison_table(before, after, found, names))
    for reason, count in Counter(one.ratio.lacks for one in found if one.ratio.lacks).items():
        say(f"{count} of {len(found)} cells have no interval: {reason}")
    if allowed is None:
        return 0
    slow = slower_beyond(found, allowed)
    say(f"{len(slow)} of {len(found)} cells slower, beyond doubt, by more than {allowed:.1%}")
    return 1 if slow else 0


def _say_differences(before: Sweep, after: Sweep, *, paired: bool) -> None:
    """A line for each difference between two sweeps' headers, and one for the machine's speed unless in turns."""
    from convbench.analysis.compare import INDIFFERENT, slowdown
    from convbench.analysis.differences import differences

    for line in differences(before.header, after.header):
        say(f"differs: {line}")
    change = slowdown(before.records, after.records) - 1
    if abs(change) > INDIFFERENT and not paired:
        say(f"differs: the machine's speed: a fixed piece of work took {change:+.1%} in the second")


def _why(sweep: Sweep, record: Record) -> str:
    """Why a cell was skipped, without what it needs of memory, which is in its record and differs by layer."""
    limit = sweep.header["spec"].get("memory_limit")
    if limit is None or "needed" not in record.memory:
        return record.reason
    return f"needs more memory than memory_limit={written_size(limit)}"


def _skipped(sweep: Sweep) -> Iterator[str]:
    """A line for each reason for which cells were skipped, and how many they are."""
    cells: dict[str, set[Cell]] = {}
    for record in sweep.records:
        if record.status == "skipped":
            cells.setdefault(_why(sweep, record), set()).add(record.cell)
    for reason, which in cells.items():
        names = list(dict.fromkeys(f"{algorithm} on {executor}" for _, algorithm, executor, _ in sorted(which)))
        of = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        yield f"skipped: {len(which)} cell{'s' if len(which) > 1 else ''} ({of}): {reason}"


def _how_quiet(seen: Interference) -> str:
    """A line on what else the machine did."""
    if not seen.samples:
        return ""
    said = [f"cores computed {seen.busy:.1%} of their time"] if seen.busy is not None else []
    said += [f"{seen.stolen:.1%} was stolen"] if seen.stolen is not None else []
    said += [f"one core's speed varied by {seen.spread:.1%}"] if seen.spread is not None else []
    return ", ".join([*said, f"{seen.flagged} of {seen.samples} samples flagged"])


def _end(sweep: Sweep) -> int:
    """What failed, and where the records are."""
    failed = [record for record in sweep.records if record.status in ("failed", "timeout")]
    alike: dict[tuple[str, str], list[Record]] = {}
    for record in failed:
        alike.setdefault((record.status, record.reason), []).append(record)
    for (status, reason), records in list(alike.items())[:5]:
        record, more = records[0], f" and {len(records) - 1} more" if len(records) > 1 else ""
        where = f"{record.algorithm} on {record.executor} with {record.cores} cores in run {record.run + 1}"
        say(f"{status}: {where}{more}: {reason}")
    if others := sum(map(len, list(alike.values())[5:])):
        say(f"... and {others} more that failed")
    say(f"{len(sweep.records)} records in {sweep.directory}")
    say(f"tables and figures: convbench report {sweep.directory}")
    return 1 if failed else 0
