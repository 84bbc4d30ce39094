"""How worker processes are started: with this package and its dependencies, and nothing from the current folder.

`python -m` puts the current folder before the standard library, and PYTHONPATH whatever lies beside the package: a
file `random.py` in either would be run. So a worker is started by `-c`, with `-P`, and gets this package from where it
lies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from convbench.errors import UnavailableError

_PACKAGE: Final = "convbench"
_START: Final = f"""\
import os, runpy, sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
parent, name = sys.argv[1:3]
del sys.argv[1:3]
if {_PACKAGE!r} not in sys.modules:
    spec = PathFinder.find_spec({_PACKAGE!r}, [parent])
    package = sys.modules[{_PACKAGE!r}] = module_from_spec(spec)
    spec.loader.exec_module(package)
if parent not in sys.path and not (os.path.exists(".") and os.path.samefile(parent, ".")):
    sys.path.append(parent)
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""  # dependencies may lie beside the package, as `pip install --target` puts them, but never before any other place


def command(module: str, *arguments: str) -> list[str]:
    """The words that start a module of this package in a process of its own; give it `environment` too.

    The process has the options of this interpreter (`-I`, `-E`, `-s`, `-X`, `-W`, ...), does not look into the current
    folder, and runs the package that runs here, wherever it came from.

    Raises:
        UnavailableError: Python does not know which program it is, as where another program embeds it.
    """
    if not sys.executable:
        raise UnavailableError(
            "sys.executable is empty, so worker processes cannot be started; set it to the path of a Python "
            "interpreter, or use the threads executor"
        )
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001  # as multiprocessing does
    parent = str(Path(__file__).absolute().parents[2])
    return [sys.executable, *options, "-P", "-c", _START, parent, module, *arguments]


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with `variables` changed, for a process that `command` starts.

    Of PYTHONPATH only absolute paths are passed on: an empty or relative one means a place that depends on the current
    folder.
    """
    changed = {**os.environ, **(variables or {})}
    places = [place for place in changed.pop("PYTHONPATH", "").split(os.pathsep) if Path(place).is_absolute()]
    return {**changed, "PYTHONPATH": os.pathsep.join(places)} if places else changed
