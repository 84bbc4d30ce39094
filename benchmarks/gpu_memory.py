"""Minutes of mixed shapes on a GPU: `python -m benchmarks.gpu_memory --seconds 300`.

Random problems go through `conv2d`, a `Conv2d` and a plan, in both dtypes and with TF32, on CuPy's and, where it is
installed, on PyTorch's tensors; most come again and again, and some only once. In the second half of the time nothing
may grow: the arrays in CuPy's pool, and what the GPU holds beside the pool, such as compiled code (up to a few pieces
of the driver's). Outputs are compared with the first ones. At last an output that no GPU holds has to be refused in one
line, and the next call has to work.
"""

import contextlib
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import click
import numpy as np

import convbench
from convbench.executors import EXECUTORS
from convbench.problem import Problem

if TYPE_CHECKING:
    from convbench.executors import GpuExecutor

PROBLEMS = 40  # that come again and again
FRESH = 3  # that come once, in every pass
PASSES = 3  # at least
SLACK = 8 * 2**20  # bytes: the driver takes memory for code in pieces of 2 MiB


def random_problem(random: np.random.Generator) -> Problem:
    """Of any parameters, some hundred MFLOP at most."""
    groups = int(random.choice([1, 1, 1, 2, 8]))
    kernel = int(random.choice([1, 1, 3, 3, 3, 5, 7, 11]))
    size = int(random.integers(kernel, 90))
    padding = int(random.integers(0, kernel))
    return Problem(
        batch=int(random.integers(1, 5)),
        channels=groups * int(random.integers(1, 33)),
        height=size,
        width=int(random.integers(kernel, 90)),
        out_channels=groups * int(random.integers(1, 65)),
        kernel_height=kernel,
        kernel_width=kernel,
        stride=(int(random.integers(1, 3)),) * 2,
        padding=((padding, padding), (padding, padding)),
        groups=groups,
        dtype="float64" if random.random() < 1 / 3 else "float32",
    )


def make_call(number: int, problem: Problem, cupy: Any, torch: Any) -> Callable[[], Any]:
    """One way of computing a problem; the output as a CuPy array."""
    random = np.random.default_rng(number)
    x = cupy.asarray(random.standard_normal(problem.input_shape).astype(problem.dtype))
    weights = random.standard_normal(problem.weights_shape).astype(problem.dtype)
    options: dict[str, Any] = {
        "stride": problem.stride,
        "padding": problem.padding,
        "groups": problem.groups,
        "arithmetic": "tf32" if number % 5 == 0 else "exact",
    }
    there = torch.as_tensor(x, device="cuda") if torch is not None and number % 4 == 1 else x
    if number % 3 == 0:

        def layer() -> Any:
            with convbench.Conv2d(weights, **options) as conv:
                return cupy.asarray(conv(there))

        return layer
    if number % 3 == 1:
        return lambda: cupy.asarray(convbench.conv2d(there, weights, **options))

    def planned() -> Any:
        with convbench.plan(problem, weights, algorithm="unrolled", executor="gpu") as plan:
            return cupy.asarray(plan(there))

    return planned


@dataclass(frozen=True)
class InUse:
    """Bytes in use after a pass: of CuPy's pool by arrays, of the GPU by its pool, and of the GPU altogether."""

    seconds: float
    arrays: int
    pool: int
    gpu: int

    @classmethod
    def now(cls, cupy: Any, seconds: float) -> Self:
        """After all work has been done."""
        cast("GpuExecutor", EXECUTORS["gpu"]).wait()
        pool, (free, total) = cupy.get_default_memory_pool(), cupy.cuda.runtime.memGetInfo()
        return cls(seconds, int(pool.used_bytes()), int(pool.total_bytes()), int(total - free))

    def show(self) -> None:
        """One line."""
        arrays, pool, gpu = (size / 2**20 for size in (self.arrays, self.pool, self.gpu))
        click.echo(f"{self.seconds:6.1f} s: MiB of arrays {arrays:.2f}, of the pool {pool:.2f}, of the GPU {gpu:.2f}")


@click.command()
@click.option("--seconds", default=300.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(seconds: float, seed: int) -> None:
    """Compute, and say what memory is in use."""
    cupy = importlib.import_module("cupy")
    torch = None
    with contextlib.suppress(ImportError):
        torch = importlib.import_module("torch")
    random = np.random.default_rng(seed)
    calls = [make_call(number, random_problem(random), cupy, torch) for number in range(PROBLEMS)]
    expected = [cupy.asnumpy(call()) for call in calls]
    used: list[InUse] = []
    begin = time.monotonic()
    fresh = 0
    while len(used) < PASSES or time.monotonic() - begin < seconds:
        for number in random.permutation(PROBLEMS):
            found = cupy.asnumpy(calls[number]())
            if not np.allclose(found, expected[number], rtol=1e-3, atol=1e-2 * np.abs(expected[number]).max()):
                raise SystemExit(f"problem {number} has another output in pass {len(used)}")
        for _ in range(FRESH):
            make_call(fresh, random_problem(random), cupy, torch)()
            fresh += 1
        used.append(InUse.now(cupy, time.monotonic() - begin))
        if len(used) <= PASSES or used[-1].seconds * 10 // seconds > used[-2].seconds * 10 // seconds:
            used[-1].show()
    click.echo(f"{len(used)} passes over {PROBLEMS} problems, and {fresh} problems that came once")
    out_of_memory(cupy)
    half = used[len(used) // 2]
    grown = used[-1].arrays - half.arrays, used[-1].gpu - half.gpu - (used[-1].pool - half.pool)
    click.echo(
        f"since the middle: arrays grew by {grown[0]} bytes, what else the GPU holds by {grown[1] / 2**20:.1f} MiB"
    )
    if grown[0] > 0 or grown[1] > SLACK:
        raise SystemExit("memory grew")


def out_of_memory(cupy: Any) -> None:
    """An output of 1 TB, and the next call."""
    try:
        convbench.conv2d(cupy.zeros((1, 1, 8000, 8000), "float32"), np.ones((4096, 1, 1, 1), "float32"))
    except convbench.ConvbenchError as error:
        click.echo(f"{type(error).__name__}: {error}")
    else:
        raise SystemExit("an output of 1 TB was computed")
    out = convbench.conv2d(cupy.ones((1, 1, 9, 9), "float32"), np.ones((2, 1, 3, 3), "float32"))
    click.echo(f"the next call: {bool((cupy.asnumpy(out) == 9).all())}")


if __name__ == "__main__":
    main()
