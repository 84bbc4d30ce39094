"""convbench: micro-benchmarks of the 2-D convolution primitive, and the fastest form of it as a library.

Everything here is loaded on first use, so that `import convbench` costs next to nothing.
"""

import os as _os

from convbench.runtime import starting as _starting

TYPE_CHECKING = False  # `typing` is not loaded for it: with `python -m convbench` it could come from the current folder
if TYPE_CHECKING:
    from convbench import networks
    from convbench.api import Results, load, sweep
    from convbench.errors import ConvbenchError, RequestError, UnavailableError
    from convbench.layer import Conv2d, conv2d
    from convbench.plans import Plan, plan
    from convbench.problem import Problem
    from convbench.select import Choice, choose

__version__ = "0.1.0"
__all__ = [
    "Choice",
    "Conv2d",
    "ConvbenchError",
    "Plan",
    "Problem",
    "RequestError",
    "Results",
    "UnavailableError",
    "choose",
    "conv2d",
    "load",
    "networks",
    "plan",
    "sweep",
]

_HOME = {
    "Choice": "convbench.select",
    "Conv2d": "convbench.layer",
    "ConvbenchError": "convbench.errors",
    "Plan": "convbench.plans",
    "Problem": "convbench.problem",
    "RequestError": "convbench.errors",
    "Results": "convbench.api",
    "UnavailableError": "convbench.errors",
    "choose": "convbench.select",
    "conv2d": "convbench.layer",
    "load": "convbench.api",
    "networks": "convbench.networks",
    "plan": "convbench.plans",
    "sweep": "convbench.api",
}


_process = _os.getpid()


def is_forked() -> bool:
    """Whether this process was forked from one that had imported convbench."""
    return _os.getpid() != _process


if not TYPE_CHECKING:  # type checkers know every name, and tell of those that are not there

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'convbench' has no attribute {name!r}; it offers {', '.join(__all__)}")
        home = _starting.loading().load(_HOME[name])
        found = home if home.__name__ == f"convbench.{name}" else getattr(home, name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
