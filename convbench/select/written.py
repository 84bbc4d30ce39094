"""Models and measurements as JSON, written and read back with every value checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convbench.select.likeness import COORDINATES
from convbench.select.model import Model, Rates
from convbench.shape import AMOUNT, ANY, NAME, NUMBER, SECONDS, TEXT, Fields, check, read

SCHEMA: Final = 1
DIGITS: Final = 5  # of a number
FURTHEST: Final = 100.0  # of a coordinate or a correction

_RATES: Final = Fields(
    {"seconds": {NAME: AMOUNT}, "packing": {NAME: AMOUNT}, "error": [NUMBER]}, needed=("seconds", "packing", "error")
)
_HEAD: Final = Fields(
    {"schema": NUMBER, "machine": Fields({}), "rates": {NAME: _RATES}},
    needed=("schema", "machine", "rates", "problems", "points", "corrections"),
)


def model_to(model: Model, machine: Mapping[str, Any]) -> dict[str, Any]:
    """A model as JSON can hold it, with the machine that it is of."""
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "rates": {
            name: {
                "seconds": _rounded(rates.seconds),
                "packing": _rounded(rates.packing),
                "error": [_short(edge) for edge in rates.error],
            }
            for name, rates in model.rates.items()
        },
        "problems": list(model.problems),
        "points": [[_short(place) for place in point] for point in model.points.tolist()],
        "corrections": {
            name: [None if math.isnan(each) else _short(each) for each in known.tolist()]
            for name, known in model.corrections.items()
        },
    }


def model_from(text: bytes, machine: Mapping[str, Any] | None) -> Model:
    """Read a model.

    Args:
        text: What `model_to` made, as JSON.
        machine: The machine that it must be of; None for any.

    Raises:
        ValueError: It is something else; the message continues "it".
    """
    data = _headed(text, machine)
    check(data, _HEAD, "")
    rates = {
        name: Rates(each["seconds"], each["packing"], _interval(each["error"])) for name, each in data["rates"].items()
    }
    problems = data["problems"]
    check(problems, [TEXT], "problems")
    points = _array(data["points"], (len(problems), len(COORDINATES)), "points")
    if np.isnan(points).any():
        raise ValueError("has null among its points")
    check(data["corrections"], {NAME: ANY}, "corrections")
    corrections = {name: _array(known, (len(problems),), name) for name, known in data["corrections"].items()}
    if corrections.keys() != rates.keys():
        raise ValueError("has corrections of other contenders than it has rates of")
    return Model(rates, tuple(problems), points, corrections)


def seconds_to(seconds: Mapping[str, Mapping[str, float]], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Measured seconds as JSON can hold them, with the machine that they were measured on."""
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "seconds": {problem: _rounded(times) for problem, times in seconds.items()},
    }


def seconds_from(text: bytes, machine: Mapping[str, Any] | None) -> dict[str, dict[str, float]]:
    """Read measured seconds.

    Raises:
        ValueError: It is something else; the message continues "it".
    """
    data = _headed(text, machine)
    found = data.get("seconds")
    if not isinstance(found, dict):
        raise ValueError("lacks seconds")  # noqa: TRY004  # as of anything else that is wrong
    for problem, times in found.items():
        if not isinstance(times, dict) or not all(map(SECONDS.fits, times.values())):
            raise ValueError(f"has no seconds for {problem[:60]!r}")
    return found


def _headed(text: bytes, machine: Mapping[str, Any] | None) -> dict[str, Any]:
    data = read(text)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"is not of schema {SCHEMA}")
    if machine is not None and data.get("machine") != machine:
        found = data.get("machine")
        other = [name for name in machine if not isinstance(found, dict) or found.get(name) != machine[name]]
        raise ValueError(f"is of another machine or state of the code ({', '.join(other)})")
    return data


def _array(value: Any, shape: tuple[int, ...], name: str) -> Any:
    """Numbers as an array, null as NaN."""
    try:  # by far the quickest check of thousands of numbers
        found = np.array(value, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"has no numbers for {name}") from None
    if found.size == math.prod(shape) == 0:
        return found.reshape(shape)
    if found.shape != shape or not (np.isnan(found) | (np.abs(found) <= FURTHEST)).all():
        raise ValueError(f"has numbers for {name} that are too many, too few or too large")
    return found


def _interval(value: list[float]) -> tuple[float, float]:
    if len(value) != 2 or not -FURTHEST <= value[0] <= 0 <= value[1] <= FURTHEST:
        raise ValueError("has an error that is no interval around 0")
    return float(value[0]), float(value[1])


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: _short(value) for name, value in values.items()}


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
