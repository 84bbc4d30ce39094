"""Another environment's Python and the convbench installed there: how to start it, and its description of itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from convbench.errors import RequestError

LIMIT: Final = 120.0  # seconds for the description; the first start of a new environment compiles its modules
_DESCRIBE: Final = """\
import hashlib, json, pathlib, sys
import convbench
from convbench import machine
from convbench.measure.spec import Spec
Spec.from_json(json.load(sys.stdin)).cells()
versions = machine.versions()
if "convbench-sources" not in versions:
    sources = sorted(pathlib.Path(convbench.__file__).parent.rglob("*.[cp][uy]*"))
    code = b"".join(source.read_bytes() for source in sources if source.suffix in (".py", ".cu", ".cuh"))
    versions["convbench-sources"] = hashlib.sha256(code).hexdigest()[:16]
print()
print(json.dumps({"machine": machine.describe(), "versions": versions}))
"""  # versions of convbench that have no digest of their sources get one here


def command(python: str, *words: str) -> list[str]:
    """The command that starts an interpreter which looks for no module in the current folder."""
    return [python, "-P", *words]


def environment() -> dict[str, str]:
    """This process's environment without what would make another interpreter import this convbench.

    Left out are entries of PYTHONPATH that are relative or hold a convbench, and, for processes that the other version
    starts in turn, the current folder.
    """
    entries = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    kept = [str(entry) for entry in entries if entry.is_absolute() and not (entry / "convbench").exists()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept), "PYTHONSAFEPATH": "1"}


def describe(python: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The other environment, described by its own convbench.

    Args:
        python: Path of the interpreter, or a name that is looked up in PATH.
        spec: What it will measure, as JSON.

    Returns:
        "python", the absolute path of the interpreter; "machine" and "versions", as in the header of a sweep.

    Raises:
        RequestError: It cannot be started, has no convbench, or one that does not know what `spec` names.
    """
    found = shutil.which(python)
    if found is None:
        raise RequestError(f"against={python!r} is no program; give the path of another environment's python")
    path = os.path.abspath(found)  # noqa: PTH100  # where a link leads to is not in that environment any more
    done = _run(path, python, spec)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise RequestError(
            f"against={python!r} cannot measure this ({words}); install a convbench there, or ask for what both know"
        )
    try:
        facts = json.loads(done.stdout.splitlines()[-1])
        return {"python": path, "machine": dict(facts["machine"]), "versions": dict(facts["versions"])}
    except (ValueError, KeyError, TypeError, IndexError):
        raise RequestError(f"against={python!r} is no Python interpreter; give another environment's python") from None


def _run(path: str, python: str, spec: Mapping[str, Any]) -> subprocess.CompletedProcess[bytes]:
    """Run `_DESCRIBE` in the interpreter at `path`, which the caller calls `python`."""
    try:
        return subprocess.run(
            command(path, "-c", _DESCRIBE),
            env=environment(),
            input=json.dumps(spec).encode(),
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except OSError as error:
        raise RequestError(f"against={python!r} cannot be started ({error.strerror}); give another python") from None
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"against={python!r} did not describe its convbench within {LIMIT:g} s; see whether it imports convbench"
        ) from None
