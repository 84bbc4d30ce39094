"""Another commit of this repository as an environment of its own, and how both versions' tiles are compiled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

from convbench.errors import RequestError
from convbench.measure import other

ROOT = Path(__file__).absolute().parents[1]
EXPORTS = ROOT / "build" / "bench"  # ignored by git; the last export stays, with the machine code that it compiled
_COMPLETE = ".complete"
_COMPILE = """\
import json, sys
import numpy as np
import convbench
for descriptor, algorithm, executor, cores in json.load(sys.stdin):
    problem = convbench.Problem.parse(descriptor)
    weights = np.ones(problem.weights_shape, problem.dtype)
    try:
        convbench.plan(problem, weights, algorithm=algorithm, executor=executor, cores=cores).close()
    except convbench.ConvbenchError:
        pass  # it cannot compute this problem; the sweep's record says so
"""


def default_revision(root: Path = ROOT) -> str:
    """The last commit that this tree differs from: HEAD if the package has changes, otherwise HEAD~1."""
    return "HEAD" if _git(root, "status", "--porcelain", "--", "convbench") else "HEAD~1"


def export(revision: str, root: Path = ROOT, exports: Path = EXPORTS) -> Path:
    """Put a commit into a folder with an environment of its own.

    Args:
        revision: As git names it.
        root: The repository.
        exports: The folder of exports; those of other commits are removed.

    Returns:
        The environment's interpreter, which imports that commit's package, and everything else from where this
        interpreter does.

    Raises:
        RequestError: There is no such commit.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    place = exports / commit[:12]
    python = place / "venv" / "bin" / "python"
    if (place / _COMPLETE).exists():
        return python
    shutil.rmtree(exports, ignore_errors=True)
    tree = place / "tree"
    tree.mkdir(parents=True)
    archive = place / "tree.tar"
    _git(root, "archive", "--output", str(archive), commit)
    with tarfile.open(archive) as files:
        files.extractall(tree, filter="data")
    archive.unlink()
    venv.create(place / "venv", with_pip=False, symlinks=True)
    [packages] = (place / "venv" / "lib").glob("python*/site-packages")
    (packages / "of-a-commit.pth").write_text("".join(f"{path}\n" for path in (tree, *_places())))
    (place / _COMPLETE).touch()
    return python


def compile_tiles(python: Path, cells: Sequence[tuple[str, str, str, int]]) -> None:
    """Compile the tiles of cells in both versions side by side, so that no run waits for that.

    Raises:
        RequestError: A version cannot be started.
    """
    this = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *_places())))}
    versions = ((sys.executable, this), (str(python), other.environment()))
    started = [
        subprocess.Popen(
            other.command(interpreter, "-c", _COMPILE), stdin=subprocess.PIPE, env=environment, text=True, cwd="/"
        )
        for interpreter, environment in versions
    ]
    for process in started:
        assert process.stdin is not None  # noqa: S101  # for the type checker
        process.stdin.write(json.dumps(cells))
        process.stdin.close()
    for process, (interpreter, _) in zip(started, versions, strict=True):
        if process.wait():
            raise RequestError(f"{interpreter} cannot compile (exit status {process.returncode}); see its last lines")


def _places() -> list[Path]:
    """Where this interpreter finds modules, except this package."""
    places = [Path(entry) for entry in sys.path if entry]
    return [place for place in places if place.is_absolute() and not (place / "convbench" / "__init__.py").exists()]


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2] or "no such commit"
        raise RequestError(f"git {' '.join(words)} failed ({said}); give a commit by --against")
    return done.stdout.strip()
