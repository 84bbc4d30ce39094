"""The sizes of thread blocks that are fastest on the GPU at hand, by trying them.

    python -m benchmarks.gpu_search                    # the experiment and ResNet-50's layers at batch 32
    python -m benchmarks.gpu_search --problem DESC --form unrolled --output search.csv

Every size of a form's thread blocks is compiled and timed by the GPU's clock, the fastest of a few rounds; its outputs
are compared with those of the sizes that the package chooses, which are marked. What wins on the layers of networks
goes into `WINNERS` in `convbench/cuda/product.py`, by compute capability.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu import EXPERIMENT, LAYERS, RESNET50
from convbench.algorithms.unrolled import gpu as unrolled
from convbench.algorithms.unrolled import gpu_wgmma
from convbench.algorithms.winograd import gpu_fused, gpu_steps
from convbench.cuda import card
from convbench.cuda.product import Blocks, Tried, possible_splits, shapes
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.plans import Candidate, Plan
from convbench.precision import EXACT, TF32, Precision
from convbench.problem import Problem

FORMS: Final = {"direct": EXACT, "unrolled": EXACT, "winograd": EXACT, "unrolled-tf32": TF32}
TITLES: Final = ("problem", "form", "sizes", "microseconds", "largest relative error")
CHOSEN: Final = "chosen"
ROUNDS: Final = 3
ROUND_SECONDS: Final = 3e-3
MOST_CALLS: Final = 60  # of a round


def searched() -> dict[str, Problem]:
    """The problems that are searched by default, by name."""
    layers = {name: Problem.parse(layer) for (name, _), layer in zip(RESNET50, LAYERS, strict=True)}
    return {"experiment": Problem.parse(EXPERIMENT), **layers}


def unrolled_sizes(cut: Blocks | gpu_wgmma.Groups) -> str:
    """Rows x columns, d: terms of a step, t: threads, b: thread blocks of a multiprocessor, s: parts of a sum."""
    if isinstance(cut, gpu_wgmma.Groups):
        return f"{cut.filters}x{cut.columns}b{cut.blocks}s{cut.splits}"
    return f"{cut.filters}x{cut.columns}d{cut.depth}t{cut.threads}s{cut.splits}"


def winograd_sizes(cut: gpu_steps.Cut) -> str:
    """The outputs of a tile, and the thread blocks of the products."""
    blocks = cut.blocks
    return f"F{cut.y.outputs}x{cut.x.outputs},{blocks.filters}x{blocks.columns}d{blocks.depth}t{blocks.threads}"


def tries(form: str, problem: Problem) -> Iterator[tuple[str, AbstractContextManager[object]]]:
    """The sizes that may be taken, each with what makes the package take it; first those that it chooses itself."""
    yield CHOSEN, nullcontext()
    if form.startswith("unrolled"):
        for cut in _products(unrolled.products_of(problem), FORMS[form]):
            yield unrolled_sizes(cut), patch.object(unrolled, "cut_up", lambda *_, cut=cut: cut)
    if form == "winograd" and gpu_fused.supports(problem) is not None:
        chosen = gpu_steps.cut_up(problem)
        for blocks in shapes(chosen.products, EXACT, Tried()):
            other = replace(chosen, blocks=blocks)
            yield winograd_sizes(other), patch.object(gpu_steps, "cut_up", lambda _, cut=other: cut)


def _products(products: Any, precision: Precision) -> Iterator[Blocks | gpu_wgmma.Groups]:
    if precision is TF32 and card.capability() == gpu_wgmma.CAPABILITY:
        for shape in gpu_wgmma.SHAPES:
            yield from (replace(shape, splits=s) for s in possible_splits(products.terms, gpu_wgmma.DEPTH))
        return
    for blocks in shapes(products, precision, Tried()):
        yield from (replace(blocks, splits=s) for s in possible_splits(products.terms, blocks.depth))


def search(problem: Problem, form: str) -> Iterator[tuple[str, float, float]]:
    """Sizes, seconds of a call, and the largest difference from the first outputs over the largest of these."""
    gpu, precision = EXECUTORS["gpu"], FORMS[form]
    candidate = Candidate(form.partition("-")[0], "gpu", 1, precision.name)
    if candidate.unsupported_reason(problem) or candidate.precision_for(problem) != precision.name:
        return
    draw = np.random.default_rng(0)
    weights = (draw.standard_normal(problem.weights_shape) / problem.taps**0.5).astype(problem.dtype)
    image = draw.standard_normal(problem.input_shape).astype(problem.dtype)
    first: NDArray[Any] | None = None
    for sizes, taken in tries(form, problem):
        with taken, Plan(problem, weights, candidate) as plan:
            x, out = plan.empty_input(), plan.empty_output()
            gpu.upload(image, x)
            plan(x, out)
            result = gpu.download(out)
            first = result if first is None else first
            error = float(np.abs(result - first).max() / np.abs(first).max())
            yield sizes, seconds(plan, x, out), error


def seconds(plan: Plan, x: NDArray[Any], out: NDArray[Any]) -> float:
    """Seconds of a call by the GPU's clock: of the fastest round."""
    gpu: Any = EXECUTORS["gpu"]
    call = plan.timed(x, out)
    loops = min(MOST_CALLS, max(3, int(ROUND_SECONDS / max(1e-6, gpu.seconds(call, 1)))))
    return min(float(gpu.seconds(call, loops)) / loops for _ in range(ROUNDS))


@click.command(help=__doc__)
@click.option("--problem", "problems", multiple=True, help="A descriptor; repeatable.  [default: see above]")
@click.option(
    "--form", "forms", type=click.Choice(tuple(FORMS)), multiple=True, default=tuple(FORMS), help="[default: all]"
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A CSV file for all times.")
def main(problems: tuple[str, ...], forms: tuple[str, ...], output: Path | None) -> None:
    """Search, and say by form how far the package's own sizes are from the fastest ones."""
    if (reason := EXECUTORS["gpu"].available()) is not None:
        raise click.ClickException(reason)
    wanted = {each: Problem.parse(each) for each in problems} or searched()
    rows: list[tuple[str, str, str, float, float]] = []
    for form in forms:
        lost = []
        for name, problem in wanted.items():
            try:
                found = list(search(problem, form))
            except UnavailableError as error:
                click.echo(f"{name} {form}: {error}")
                continue
            rows += [(name, form, sizes, round(each * 1e6, 2), error) for sizes, each, error in found]
            if found:
                sizes, best, _ = min(found, key=lambda one: one[1])
                lost.append(found[0][1] / best)
                click.echo(f"{name} {form}: {found[0][1] * 1e6:.1f} us chosen, {best * 1e6:.1f} us with {sizes}")
        if lost:
            click.echo(f"{form}: {statistics.geometric_mean(lost):.3f} times the fastest, at most {max(lost):.3f}")
    if output is not None:
        with output.open("w", newline="") as file:
            csv.writer(file).writerows([TITLES, *rows])


if __name__ == "__main__":
    main()
