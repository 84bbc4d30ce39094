"""Differences between two sweeps beside the code: machines, versions, and the manner of measuring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from convbench.analysis.gpu import facts
from convbench.errors import RequestError
from convbench.request.field import stored
from convbench.request.stored import StoredSpec

QUANTITY: Final = {"cache": "caches", "scaling": "scaling"}
"""Sweeps that differ in these measured different quantities, whose ratio says nothing of the code."""
MANNER: Final = tuple(name for name, field in stored(StoredSpec).items() if field.manner)
ABSENT: Final = {name: field.absent for name, field in stored(StoredSpec).items() if field.absent != field.default}
"""What a sweep had that does not say, where it is not the default of today."""
MACHINE_FACTS: Final = (
    "cpu",
    "vector",
    "usable_cores",
    "logical_cpus",
    "memory_bytes",
    "system",
    "python",
    "blas",
)


def check_same_quantity(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Refuse sweeps that did not measure the same quantity.

    Args:
        first: Header of a sweep.
        second: Header of another one.

    Raises:
        RequestError: One is of cold caches and the other of hot ones, or one of weak scaling and the other of strong.
    """
    for key, what in QUANTITY.items():
        one, other = (header.get("spec", {}).get(key) for header in (first, second))
        if one is not None and other is not None and one != other:
            raise RequestError(
                f"the first sweep is of {one} {what} and the second of {other} {what}, which are different quantities; "
                f"measure both with --{key} {one} or both with --{key} {other}"
            )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The differences between two sweeps' machines, versions and manner of measuring, a line each."""
    lines = []
    for what, keys in (("machine", MACHINE_FACTS), ("versions", None), ("spec", (*QUANTITY, *MANNER))):
        absent = ABSENT if what == "spec" else {}
        one, other = ({**absent, **header.get(what, {})} for header in (first, second))
        lines += [
            f"{key}: {_brief(one.get(key))} -> {_brief(other.get(key))}"
            for key in keys or sorted({*one, *other})
            if _comparable(one.get(key)) != _comparable(other.get(key))
        ]
    lines += _timing_differs(*(header.get("spec", {}).get("timing") or {} for header in (first, second)))
    gpus = [facts(header.get("machine", {})) for header in (first, second)]
    return lines + _gpus_differ(*gpus)


def _timing_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The same for durations and counts of samples, for settings that both sweeps know."""
    return [
        f"timing {key}: {first[key]} -> {second[key]}" for key in first if key in second and first[key] != second[key]
    ]


def _gpus_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The same for GPUs: of two with the same name, the facts that both sweeps know."""
    keys = sorted({*first} & {*second}) or ["name"]
    if first.get("name") != second.get("name"):
        keys = ["name"]
    return [
        f"gpu {key}: {_brief(first.get(key))} -> {_brief(second.get(key))}"
        for key in keys
        if first.get(key) != second.get(key)
    ]


def _comparable(value: object) -> object:
    """A value in a form that is equal for what does not differ: the order of lists has no meaning."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return sorted(json.dumps(item, sort_keys=True) for item in value) or None
    return value or None  # older sweeps lack settings that were off


def _brief(value: object) -> str:
    if isinstance(value, Mapping) and "sha256" in value:
        bank = f", kernels {value['kernels_sha256'][:8]}" if value.get("kernels_sha256") else ""
        return f"{value['path'].rpartition('/')[2]} ({value['sha256'][:8]}){bank}"
    if isinstance(value, Mapping):
        return " ".join(map(str, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_brief(item) for item in value)
    return "none" if value is None else str(value)
