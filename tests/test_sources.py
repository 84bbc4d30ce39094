"""What tells code from other code of the same version: digests of sources, and who looks at them."""

from __future__ import annotations

import dataclasses
import io
import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, data
from simulated import SMALL

import convbench
from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.epilogue import NO_EPILOGUE
from convbench.errors import RequestError
from convbench.kernels.tile import MADE_OF
from convbench.measure import other
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.measure.turns import AGAINST, resume_in_turns, run_in_turns
from convbench.results.store import load
from convbench.runtime import sources


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, of which digests are taken."""
    place = tmp_path / "convbench"
    shutil.copytree(ROOT / "convbench", place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "resources", SimpleNamespace(files=lambda _: place))
    return place


def digests() -> tuple[str, str]:
    """Of what tiles are made of, and of everything, as they are now."""
    digest = sources.digest.__wrapped__
    return digest(*MADE_OF), digest()


CHANGES = {  # which digests a change of a file changes: that of tiles, and that of everything
    "kernels/micro_kernel.py": (True, True),
    "algorithms/direct/host.py": (True, True),
    "cuda/product.cuh": (False, True),
    "kernels/vector.py": (True, True),
    "kernels/clock.py": (True, True),
    "kernels/tile.py": (True, True),
    "measure/peaks.py": (False, True),
    "executors/driver.py": (False, True),
    "report/figures.py": (False, True),
    "__init__.py": (False, True),
    "algorithms/notes.txt": (False, False),
    "kernels/__pycache__/micro_kernel.cpython-311.pyc": (False, False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_digest_tells_whether_the_sources_in_question_have_changed(copy, name):
    before = digests()
    assert digests() == before
    (copy / name).parent.mkdir(exist_ok=True)
    with (copy / name).open("a") as file:
        file.write("# changed\n")
    assert tuple(one != other for one, other in zip(digests(), before, strict=True)) == CHANGES[name]


def test_what_is_added_removed_and_renamed_is_a_change(copy):
    seen = {digests()}
    (copy / "algorithms" / "another.py").write_text("")
    seen.add(digests())
    (copy / "algorithms" / "another.py").rename(copy / "algorithms" / "renamed.py")
    seen.add(digests())
    (copy / "algorithms" / "renamed.py").unlink()
    (copy / "kernels" / "micro_kernel.py").unlink()
    seen.add(digests())
    assert len({of_tiles for of_tiles, _ in seen}) == len({of_all for _, of_all in seen}) == 4


def test_machine_code_on_disk_goes_by_the_digest_of_what_it_is_made_of(small):
    for algorithm in ("naive", "direct"):
        tile = ALGORITHMS[algorithm].find("numba").prepare(small, data(small)[1], NO_EPILOGUE).phases[0].tile
        assert tile.load(small.dtype).py_func.__qualname__.endswith(f"-{sources.digest(*MADE_OF)}")


def test_a_sweeps_versions_have_the_digest_of_everything():
    assert machine.versions()["convbench-sources"] == sources.digest()


# -- of another version -------------------------------------------------------------------------------------------


def small_spec() -> Spec:
    spec = make_spec([SMALL], algorithms=("naive",), executors=("simulated",), cores=(1,), runs=2)
    return dataclasses.replace(spec, timing=Timing(peak_repetitions=0))


@pytest.fixture
def described(tmp_path, monkeypatch, capsys):
    """What a convbench tells of itself that is asked as another environment's is."""
    program = tmp_path / "describe.py"
    program.write_text(other._DESCRIBE)
    monkeypatch.setattr(machine, "describe", dict)

    def ask() -> dict[str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(small_spec().to_json())))
        runpy.run_path(str(program))
        return json.loads(capsys.readouterr().out.splitlines()[-1])["versions"]

    return ask


@pytest.mark.usefixtures("simulated")
def test_another_version_tells_the_digest_of_its_sources_by_itself(described):
    assert described()["convbench-sources"] == sources.digest()


@pytest.mark.usefixtures("simulated")
def test_the_sources_of_another_version_that_has_no_digest_of_its_own_are_told_apart(copy, described, monkeypatch):
    monkeypatch.setattr(machine, "versions", lambda: {"convbench": "0.0.1"})
    monkeypatch.setattr(convbench, "__file__", str(copy / "__init__.py"))
    before = described()
    assert before["convbench"] == "0.0.1"
    assert described() == before
    for name, ending in CHANGES.items():
        (copy / name).parent.mkdir(exist_ok=True)
        with (copy / name).open("a") as file:
            file.write("# changed\n")
        after = described()
        assert (after["convbench-sources"] != before["convbench-sources"]) == ending[1], name
        before = after


@pytest.mark.usefixtures("simulated")
def test_a_sweep_in_turns_is_not_gone_on_with_once_the_other_versions_code_has_changed(tmp_path, monkeypatch):
    def becomes(digest: str) -> None:
        versions = {"convbench": "1", "convbench-sources": digest}
        told = {"python": "/other/python", "machine": {}, "versions": versions}
        monkeypatch.setattr(other, "describe", lambda *_: told)

    becomes("0123456789abcdef")
    run_in_turns(small_spec(), tmp_path / "sweep", "/other/python", time_limit=0.001)
    begun = [load(tmp_path / "sweep" / side).records for side in ("", AGAINST)]
    assert 0 < sum(map(len, begun)) < 4
    becomes("fedcba9876543210")
    with pytest.raises(RequestError, match=r"is not what .* was measured with \(versions differs\); put that one back"):
        resume_in_turns(tmp_path / "sweep")
    assert [load(tmp_path / "sweep" / side).records for side in ("", AGAINST)] == begun
    becomes("0123456789abcdef")
    assert [len(found.records) for found in resume_in_turns(tmp_path / "sweep")] == [2, 2]
