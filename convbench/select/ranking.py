"""The order of candidates by what is known of them, and the reasons in words."""

from __future__ import annotations

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
SAFE: Final = "direct"
"""The form whose work is that of the problem itself, whatever its shape."""
SAFELY: Final = 0.7  # outside of what was measured, another form than SAFE must need less than this share of its time
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
    estimates = {} if what.model is None else what.model.predict(problem, [name_of(each.candidate) for each in wanted])
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
        source = "default" if what.is_default or far else "model"
        if far:
            order = _safely(order)
    rest = [each for each in predictions if each.seconds is None]
    ranked = (*order, *rest)
    return Choice(problem, ranked, source, tuple(_reasons(problem, ranked, what, far, source, packed=packed)))


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


def _safely(order: list[Prediction]) -> list[Prediction]:
    """The order, with the first of `SAFE` at its head unless the fastest is far faster."""
    safe = next((each for each in order if each.candidate.algorithm == SAFE), order[0])
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
    if what.is_default:
        learned = "the model that comes with convbench, learned on other machines; convbench tune learns this one"
    if not far:
        return learned
    return f"{learned}; the problem lies outside of what was measured in {', '.join(far)}: {SAFE} is preferred"


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
