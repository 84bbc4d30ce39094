"""The command that starts worker processes with this package and its dependencies, without the current folder.

`python -m` puts the current folder before the standard library, and an entry of PYTHONPATH for this package's folder
would do the same for files next to the package: a file `random.py` in either would shadow the module. So a worker is
started with `-P` and `-c`, and imports this package from its path.
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
"""  # after all others: `pip install --target` puts dependencies beside the package


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this package in a new process, to be started in `environment`.

    The process has the options of this interpreter (`-I`, `-E`, `-s`, `-X`, `-W`, ...), does not import from the
    current folder, and runs the same copy of this package as this process.

    Raises:
        UnavailableError: The path of the interpreter is unknown, for instance where another program embeds Python.
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

    Only absolute paths of PYTHONPATH are passed on: empty and relative ones depend on the current folder.
    """
    changed = {**os.environ, **(variables or {})}
    places = [place for place in changed.pop("PYTHONPATH", "").split(os.pathsep) if Path(place).is_absolute()]
    return {**changed, "PYTHONPATH": os.pathsep.join(places)} if places else changed
