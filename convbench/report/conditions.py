"""Conditions of the measurement: the machine, the request, skipped and failed cells, and the flags' meanings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from convbench.analysis.interference import Interference, raised
from convbench.analysis.times import is_of_gpu
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, arithmetic
from convbench.report.gpu_facts import described, telemetry_table
from convbench.report.ran import ran_table
from convbench.results.record import Record
from convbench.results.store import Sweep

FLAGS: Final[Mapping[str, str]] = {
    "oversubscribed": "more cores were asked for than the process may use; left out of fits",
    "unpinned": "the threads could not be pinned to the cell's CPUs, or were allowed on others when sampling ended",
    "threads_differ": "another number of threads computed, or a library's own pool had another, than was asked for; or "
    "BLAS had more than one",
    "worker_replaced": "a worker on a cluster died, and another one took its part over",
    "unsettled": "times had not settled when sampling began",
    "page_faults": "memory was touched for the first time, or read from a disk, while samples were taken",
    "late_setup": "something was compiled, or a thread was started, while samples were taken",
    "steal": "the hypervisor gave over 1 % of the time to others",
    "preempted": "other programs wanted the same cores",
    "throttled": "the control group's quota held the processes back, or heat or a power brake a GPU's clocks",
    "power_capped": "a GPU lowered its clocks to keep to its power limit",
    "starved": "the cores computed for less than 80 % of the time",
    "first_sample": "the first sample took over 10 % longer than every other: something was still being set up",
    "tf32": "asked for by --allow-tf32: inputs of products rounded to TF32, or a library permitted to round them",
    "thread_variables": "variables that rule thread pools were set outside; convbench sets and reads back its own",
    "drift": "a small fixed piece of work before the cell took over 10 % longer than the fastest of the sweep",
}
PRECISION_FLAG: Final = (
    "asked for by --arithmetic {0}: products computed in {0}, or a library permitted to compute them so"
)
PRODUCTS: Final[Mapping[str, str]] = {
    EXACT.name: "exact in their dtype",
    TF32.name: "inputs may be rounded to TF32 on GPUs",
}


def section(material: Material) -> Section:
    """Tables of conditions, outcomes and flags."""
    sweep = material.sweep
    tables = [machine_table(sweep.header.get("machine", {}), sweep.header.get("versions", {}))]
    tables.append(_request_table(material.spec, sweep.header.get("started", "")))
    outcomes = _outcome_table(material)
    flags = _flag_table(sweep.records)
    telemetry, ran = telemetry_table(sweep.records, material.label), ran_table(material)
    tables += [table for table in (ran, quiet_table(sweep), telemetry, outcomes, flags) if table.rows]
    return Section("How it was measured", _text(material), tables)


def _text(material: Material) -> list[str]:
    records = material.sweep.records
    errors = [r.check.get("max_relative_error") for r in records if r.status == "ok"]
    error = max((error for error in errors if error is not None), default=0)
    measured = sum(record.status == "ok" for record in records)
    lines = [
        f"{len(records)} records, {measured} of them measured. Outputs were checked against a float64 reference before "
        "the clock was started; the largest error was "
        f"{error:.1e} of the largest output.",
    ]
    machine = material.sweep.header.get("machine", {})
    if not machine.get("can_pin", True):
        lines.append("This system cannot pin threads to CPUs: the scheduler was free to move them.")
    if not machine.get("can_count", True):
        lines.append("This system has no /proc: page faults, steal time and pressure could not be read.")
    if any(record.status == "ok" and is_of_gpu(record.transfers) and not record.device for record in records):
        lines.append("The GPU's clocks, temperature and power were not read; that takes nvidia-ml-py and a driver.")
    return lines + [f"Left out: {fault}." for fault in material.sweep.faults]


def machine_table(machine: Mapping[str, Any], versions: Mapping[str, str]) -> Table:
    """The results of `machine.describe` and `machine.versions`."""
    caches = ", ".join(
        f"L{cache['level']} {cache['bytes'] // 1024} KiB" + (f" for {n} CPUs" if (n := cache["shared_by"]) > 1 else "")
        for cache in machine.get("caches", ())
    )
    blas = ", ".join(f"{pool['internal_api']} {pool['version']}" for pool in machine.get("blas", ()))
    vector = machine.get("vector", {})
    quota = machine.get("cpu_quota")
    facts: list[tuple[str, Any]] = [
        ("processor", machine.get("cpu")),
        ("cores", _cores(machine) + (f", quota {quota:g}" if quota else "")),
        ("vectors", f"{vector['instruction_set']}, {vector['bits']} bits" if vector else None),
        ("caches", caches),
        ("variables", ", ".join(f"{name}={value}" for name, value in machine.get("variables", {}).items())),
        ("memory", f"{machine['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in machine else None),
        ("memory nodes", _nodes(machine.get("numa", ()))),
        ("huge pages", ", ".join(f"{kind}: {mode}" for kind, mode in machine.get("huge_pages", {}).items())),
        *described(machine),
        ("system", machine.get("system")),
        ("threads", machine.get("peaks", {}).get("threading_layer")),
        ("BLAS", blas),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    rows: list[list[Value]] = [[name, str(fact) if fact else "not known or none"] for name, fact in facts]
    return Table("machine", "The machine", [Column(""), Column("")], rows)


def quiet_table(sweep: Sweep) -> Table:
    """Interference over all samples that were not oversubscribed."""
    seen = Interference.of(sweep.records)
    shortest = min((min(r.samples) * r.loops for r in sweep.records if r.samples), default=None)
    clock = sweep.header.get("machine", {}).get("peaks", {}).get("clock_seconds")
    facts = [
        ("cores computed", seen.busy, ".1%", "of their time while samples were taken"),
        ("stolen by the hypervisor", seen.stolen, ".2%", "of the cores' time"),
        ("held back by a quota", seen.throttled, ".2%", "of the samples' time"),
        ("some task waited for a CPU", seen.waited, ".1%", "of the samples' time; waiting by others counts too"),
        ("involuntary switches", seen.switches, ".1f", "a second and core; some are between a cell's own threads"),
        ("page faults", seen.faults, ".1f", "a sample"),
        ("speed of one core", seen.spread, ".1%", "standard deviation of a fixed piece of work between cells"),
        ("its slowest measurement", seen.slowest, ".2f", "times the fastest"),
        ("samples flagged", seen.flagged / seen.samples if seen.samples else None, ".1%", f"of {seen.samples}"),
        ("the clock", clock / shortest if clock and shortest else None, ".4%", "of the shortest sample, for a reading"),
        ("inside calls", seen.inside, ".0%", "of the sweep's time went into warm-up and timed calls"),
    ]
    rows: list[list[Value]] = [
        [name, "not known" if value is None else f"{value:{spec}}", unit] for name, value, spec, unit in facts
    ]
    return Table(
        "quiet", "How quiet the machine was", [Column(""), Column(""), Column("")], rows if seen.samples else []
    )


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> str:
    """Memory nodes, such as "0: CPUs 0-15,32-47, 64 GiB; 1: ..."; "1" where there is one."""
    if len(nodes) == 1:
        return "1"
    parts = []
    for node in nodes:
        cpus = f"CPUs {_ranges(node['cpus'])}" if node["cpus"] else "no CPUs"
        size = f", {node['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in node else ""
        parts.append(f"{node['node']}: {cpus}{size}")
    return "; ".join(parts)


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as the kernel lists them, such as "0-3,8"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _cores(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine.get('usable_cores', '?')} usable, {machine.get('physical_cores') or '?'} physical, "
        f"{machine.get('logical_cpus', '?')} logical"
    )


def _request_table(spec: Mapping[str, Any], started: str) -> Table:
    source, allowed = spec.get("source") or {}, arithmetic(spec)
    rows: list[list[Value]] = [
        ["started", started],
        ["problems", ", ".join(spec.get("problems", ()))],
        [
            "image",
            "; ".join((source["path"].rpartition("/")[2], *source["steps"])) if source else "random numbers",
        ],
        ["filters", str(spec.get("kernels", ""))],
        ["runs", spec.get("runs", 0)],
        ["precision", f"{spec['precision']:.2%}" if spec.get("precision") else "not asked for"],
        ["scaling", spec.get("scaling", "strong")],
        ["caches", spec.get("cache", "hot")],
        ["products", PRODUCTS.get(allowed, f"may be computed in {allowed}; exact in their dtype where they cannot")],
        ["cores", ", ".join(map(str, spec.get("cores", ())))],
        ["seed", spec.get("seed", 0)],
    ]
    return Table("request", "The request", [Column(""), Column("")], rows)


def _outcome_table(material: Material) -> Table:
    """Cells that were not measured, and the reasons."""
    labels = {
        text: material.label(Problem.parse(text)) for text in {r.base or r.problem for r in material.sweep.records}
    }
    counts = Counter(
        (labels[r.base or r.problem], *r.cell[1:], r.status, r.reason)
        for r in material.sweep.records
        if r.status != "ok"
    )
    rows: list[list[Value]] = [[*key, count] for key, count in sorted(counts.items())]
    titles = ("problem", "algorithm", "executor", "cores", "outcome", "reason", "records")
    return Table("outcomes", "Not measured", [Column(title) for title in titles], rows)


def _flag_table(records: tuple[Record, ...]) -> Table:
    precisions = {str(record.variant.get("precision")) for record in records} - FLAGS.keys()
    meaning = {**FLAGS, **{name: PRECISION_FLAG.format(name) for name in precisions}}
    rows: list[list[Value]] = [[flag, meaning.get(flag, ""), count] for flag, count in raised(records).items()]
    return Table("flags", "Flags that were raised", [Column("flag"), Column("meaning"), Column("records")], rows)
