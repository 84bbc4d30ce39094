"""Every peer on the GPU, or on what stands for one, against the reference; run as a program, it prints what it did."""

from __future__ import annotations

import sys

from conftest import PROBLEMS, data

from convbench.executors import EXECUTORS
from convbench.measure.reference import Reference
from convbench.peers import LIBRARY, PEERS
from convbench.plans import Candidate, bind
from convbench.precision import EXACT, TF32
from convbench.problem import Problem


def check(peer: str, problem: Problem, *, allow_tf32: bool) -> float:
    """The largest error of two images one after the other."""
    gpu = EXECUTORS["gpu"]
    image, weights = data(problem)
    x, out = gpu.empty(problem.input_shape, problem.dtype), gpu.empty(problem.output_shape, problem.dtype)
    errors = []
    with bind(problem, weights, Candidate(peer, "gpu", 1, "tf32" if allow_tf32 else "exact")) as plan:
        can_round = allow_tf32 and problem.dtype == "float32" and gpu.unsupported_precision(TF32) is None
        assert plan.precision is (TF32 if can_round else EXACT)
        for seen in (image, image[..., ::-1].copy()):
            gpu.upload(seen, x)
            plan(x, out)
            checked = Reference(problem, seen, weights, 0).check(plan.result(out), plan.precision)
            assert checked["passed"], (peer, str(problem), allow_tf32, checked)
            assert checked["tolerance"] == plan.precision.tolerance[problem.dtype]
            errors.append(checked["max_relative_error"])
            x = x.copy()  # elsewhere, so that it is taken anew
        assert plan.threads() == 1
    return max(errors)


def main() -> None:
    """Exact, then with TF32, then exact again, since what a library is told stays with it."""
    for peer in (name for name in PEERS if PEERS[name].executor != LIBRARY):
        for allow_tf32 in (False, True, False):
            errors = {
                name: check(peer, Problem.parse(descriptor), allow_tf32=allow_tf32)
                for name, descriptor in PROBLEMS.items()
                if Candidate(peer, "gpu", 1).unsupported_reason(Problem.parse(descriptor)) is None
            }
            rounded = sum(error > EXACT.tolerance["float32"] for error in errors.values())
            sys.stdout.write(f"{peer} {len(errors)} {rounded}\n")


if __name__ == "__main__":
    main()
