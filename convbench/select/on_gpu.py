"""What is known of GPUs, and whether an array on the host is better computed on one.

A GPU's forms are ranked as the host's are, by a model of counted work (`Algorithm.cost`). The one that comes with the
package was fitted to an H100 by `benchmarks/gpu_model.py`; on another GPU its order counts rather than its seconds.
What was measured on the GPU at hand stands above it, and is remembered as long as the process lives.

For an array on the host, the way to the GPU and back counts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from convbench.cuda import card
from convbench.plans import Candidate
from convbench.precision import EXACT
from convbench.problem import Problem
from convbench.select import known, written
from convbench.select.choice import Choice, Prediction
from convbench.select.contenders import name_of
from convbench.select.known import Known
from convbench.select.model import Estimate, Model
from convbench.select.ranking import MEASURED_ERROR
from convbench.select.words import seconds_in_words

BACKEND: Final = "gpu"
ANY: Final = "any"
"""What a request names where an array on the host may be computed on the host or on a GPU."""
TRANSFERS: Final = "transfers"
"""The contender that stands for bringing an input to the GPU and an output back."""
DEFAULT: Final = Path(__file__).with_name("default_gpu.json")
CAPABILITY: Final = 90  # ten times the compute capability of the GPU that the default model was fitted to
LEARNED: Final = "the model that comes with convbench, learned on an NVIDIA H100; measure=True measures this GPU"
SAFE: Final = "unrolled"  # see `Known.safe`; the slowest of its layers of ResNet-50 is at 0.96 of cuDNN
UNKNOWN: Final = "how long it takes on this GPU, and the way there and back, is not known: measure=True measures both"
NOT_MEASURED: Final = "not measured: "
INFINITE: Final = float("inf")

Seconds = Mapping[str, Mapping[str, float]]


def default_model(complain: Callable[[str], None]) -> Model | None:
    """The model that comes with the package; `complain` is called if its file cannot be used."""
    found: Model | None = known.usable(DEFAULT, written.model_from, complain, own=False)
    return found


def known_of_gpu(wanted: Sequence[Candidate], model: Model | None, seconds: Seconds) -> Known:
    """What a choice among candidates on the GPU at hand can rest upon.

    Args:
        wanted: The candidates.
        model: The default model.
        seconds: What was measured on this GPU, by problem and by name.
    """
    # Each generation of tensor cores has instructions of its own: the seconds of one tell nothing about another.
    if card.capability() != CAPABILITY and any(each.precision != EXACT.name for each in wanted):
        names = {name_of(each) for each in wanted}
        model, seconds = None, {problem: known for problem, known in seconds.items() if names <= known.keys()}
    return Known(model, is_default=True, seconds=seconds, learned=LEARNED, safe=SAFE)


def there_and_back(choice: Choice, what: Known) -> Choice:
    """A choice for an array on the GPU as one for an array on the host: the way there and back is added.

    On a GPU of another compute capability than the model's, only what was measured has seconds: an order among its
    forms is one thing, a comparison with the host another.
    """
    measured = what.seconds.get(str(replace(choice.problem, name="")), {})
    way = _way(choice.problem, what, measured)
    told = card.capability() == CAPABILITY
    ranked = tuple(_later(each, way if told or name_of(each.candidate) in measured else None) for each in choice.ranked)
    ordered = sorted(ranked, key=lambda each: INFINITE if each.seconds is None else each.seconds)
    if way is None or ordered[0].seconds is None:
        return replace(choice, ranked=ranked, reasons=(*choice.reasons[:1], UNKNOWN))
    computing = seconds_in_words(ordered[0].seconds - way.seconds)
    parts = f"{computing} on the GPU, and {seconds_in_words(way.seconds)} there and back"
    return replace(choice, ranked=tuple(ordered), reasons=(*choice.reasons[:1], parts))


def _way(problem: Problem, what: Known, measured: Mapping[str, float]) -> Estimate | None:
    """Seconds of bringing an input to the GPU and an output back."""
    if TRANSFERS in measured:
        seconds = measured[TRANSFERS]
        return Estimate(seconds, *(seconds * edge for edge in MEASURED_ERROR))
    return None if what.model is None else what.model.predict(problem, [TRANSFERS])[TRANSFERS]


def _later(each: Prediction, way: Estimate | None) -> Prediction:
    if each.seconds is None or way is None:
        return replace(each, seconds=None, interval=None)
    low, high = each.interval or (each.seconds, each.seconds)
    return replace(each, seconds=each.seconds + way.seconds, interval=(low + way.low, high + way.high))


def together(host: Choice, gpu: Choice) -> Choice:
    """A choice among the candidates of both; nobody is sent to a GPU of which nothing is known."""
    first, other = (host, gpu) if _seconds(host) <= _seconds(gpu) else (gpu, host)
    everyone = sorted((*first.ranked, *other.ranked), key=lambda each: (each.seconds is None, each.seconds or 0.0))
    ranked = (first.ranked[0], *(each for each in everyone if each is not first.ranked[0]))
    reasons = first.reasons + tuple(each for each in other.reasons if each.startswith((NOT_MEASURED, UNKNOWN)))
    if first.predicted_seconds and other.predicted_seconds:
        ratio = other.predicted_seconds / first.predicted_seconds
        reasons += (f"{other.candidate} is expected to take {ratio:.3g} times as long",)
    return Choice(host.problem, ranked, first.source, reasons)


def _seconds(choice: Choice) -> float:
    """Of the first candidate; where nobody knows, infinite on a GPU and 0 on the host."""
    seconds = choice.predicted_seconds
    return (INFINITE if choice.executor == BACKEND else 0.0) if seconds is None else seconds
