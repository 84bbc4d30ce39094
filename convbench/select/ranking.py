"""The order of candidates by what is known of them, and the reasons in words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from convbench.problem import Problem
from convbench.select.choice import Choice, Prediction
from convbench.select.contenders import counted, name_of
from convbench.select.known import Known
from convbench.select.likeness import coordinates, outside
from convbench.select.model import Estimate, Model
from convbench.select.words import seconds_in_words

TIE: Final = 0.01  # of the fastest: among these, fewer cores and then less memory decide
SAFELY: Final = 0.7  # outside of what was measured, others must need less than this share of the safe form's time
MEASURED_ERROR: Final = (0.9, 1.1)  # of what was measured once
PARTS: Final = 3  # kinds of work that reasons name
SHOWN: Final = 0.02  # of the time; what is less is not named


def rank(problem: Problem, wanted: Sequence[Prediction], what: Known, *, packed: bool) -> Choice:
    """Order candidates by measured or predicted seconds.

    Args:
        problem: The problem.
        wanted: Candidates that may be chosen, in the fixed order, with their memory.
        what: What is known of the machine.
        packed: Whether weights are packed once; otherwise packing counts.
    """
    measured = what.seconds.get(str(replace(problem, name="")), {})
    estimates = _estimates(problem, [name_of(each.candidate) for each in wanted], what, measured)
    predictions = [_predicted(problem, each, estimates, measured, what.model, packed=packed) for each in wanted]
    known = [each for each in predictions if each.seconds is not None]
    if not known:
        return Choice(problem, tuple(wanted), "default", ("nothing is known of these candidates: the fixed order",))
    far = () if what.model is None else tuple(outside(what.model.points, coordinates(problem)))
    best = min(float(each.seconds or 0) for each in known)
    order = sorted(known, key=lambda each: _order(each, best))
    if all(name_of(each.candidate) in measured for each in order[:1]):
        source = "measured"
    else:
        is_known = what.model is not None and what.model.like(name_of(order[0].candidate)) is not None
        source = "model" if is_known and not (what.is_default or far) else "default"
        if far:
            order = _safely(order, what.safe)
    rest = [each for each in predictions if each.seconds is None]
    ranked = (*order, *rest)
    return Choice(problem, ranked, source, tuple(_reasons(problem, ranked, what, far, source, packed=packed)))


def _estimates(
    problem: Problem, names: Sequence[str], what: Known, measured: Mapping[str, float]
) -> dict[str, Estimate]:
    """Estimates by the models, as far off as they are for the candidates that were measured on this problem."""
    if what.model is None:
        return {}
    found = what.model.predict(problem, names)
    if what.further is not None and any(name not in found for name in names):
        seconds = {name: estimate.seconds for name, estimate in found.items()}
        found = {**_in_line(what.further.predict(problem, names), seconds), **found}
    return _in_line(found, measured)


def _in_line(estimates: Mapping[str, Estimate], seconds: Mapping[str, float]) -> dict[str, Estimate]:
    """Estimates times the factor that those of candidates with known seconds are off by, the median of them.

    What all candidates have in common is the machine and its moment. Otherwise those that are estimated by a model of a
    faster machine would win against those that were measured.
    """
    off = [seconds[name] / each.seconds for name, each in estimates.items() if name in seconds and each.seconds > 0]
    factor = statistics.median(off) if off else 1.0
    return {name: Estimate(*(factor * edge for edge in each)) for name, each in estimates.items()}


def _predicted(
    problem: Problem,
    each: Prediction,
    estimates: Mapping[str, Estimate],
    measured: Mapping[str, float],
    model: Model | None,
    *,
    packed: bool,
) -> Prediction:
    name = name_of(each.candidate)
    estimate = estimates.get(name)
    if name in measured:
        estimate = Estimate(measured[name], *(measured[name] * edge for edge in MEASURED_ERROR))
    if estimate is None:
        return each
    packing = 0.0 if packed or model is None else model.packing(problem, name)
    seconds, low, high = (part + packing for part in estimate)
    return replace(each, seconds=seconds, interval=(low, high))


def _order(each: Prediction, best: float) -> tuple[float, int, int]:
    seconds = float(each.seconds or 0)
    return (best if seconds <= best * (1 + TIE) else seconds), each.candidate.cores, each.memory


def _safely(order: list[Prediction], form: str) -> list[Prediction]:
    """The order, with the first of the safe form at its head unless the fastest is far faster."""
    safe = next((each for each in order if each.candidate.algorithm == form), order[0])
    if float(order[0].seconds or 0) <= SAFELY * float(safe.seconds or 0):
        return order
    return [safe, *(each for each in order if each is not safe)]


def _reasons(
    problem: Problem, ranked: Sequence[Prediction], what: Known, far: Sequence[str], source: str, *, packed: bool
) -> list[str]:
    first = ranked[0]
    found = [_source(what, source, far)]
    if (model := what.model) is not None:
        if parts := _parts(problem, first, model):
            found.append(f"its time by counted work: {parts}")
        if not packed and (packing := model.packing(problem, name_of(first.candidate))):
            found.append(f"weights are packed at every call: {seconds_in_words(packing)} of it")
    other = next((each for each in ranked[1:] if each.candidate.algorithm != first.candidate.algorithm), None)
    if other is not None and other.seconds and first.seconds:
        found.append(f"{other.candidate} is expected to take {other.seconds / first.seconds:.3g} times as long")
    return found


def _source(what: Known, source: str, far: Sequence[str]) -> str:
    if source == "measured":
        return "this very problem was measured on this machine"
    count = 0 if what.model is None else len(what.model.problems)
    learned = f"a model of this machine, fitted to {count} measured problems"
    if source == "default" and not (what.is_default or far):
        return "this candidate was not measured on this machine, others were; convbench tune learns this one"
    if what.is_default:
        learned = what.learned
    if not far:
        return learned
    return f"{learned}; the problem lies outside of what was measured in {', '.join(far)}: {what.safe} is preferred"


def _parts(problem: Problem, each: Prediction, model: Model) -> str:
    """The largest parts of the counted time, in percent."""
    like = model.like(name_of(each.candidate))
    if like is None:
        return ""
    rates = model.rates[like]
    counts = counted(problem, name_of(each.candidate))
    seconds = {kind: rate * counts.get(kind, 0.0) for kind, rate in rates.seconds.items()}
    total = sum(seconds.values())
    largest = sorted(seconds, key=lambda kind: -seconds[kind])[:PARTS]
    return ", ".join(f"{kind} {seconds[kind] / total:.0%}" for kind in largest if seconds[kind] > SHOWN * total)
