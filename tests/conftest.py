"""What several tests share: small problems that exercise every corner, data for them, and the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

KEPT = ("NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")  # which tests of other processors set
SAID = ("COLUMNS", "LINES", "FORCE_COLOR", "CLICOLOR_FORCE", "MYPY_FORCE_COLOR", "NO_COLOR", "PYTHONWARNINGS")
for name in list(os.environ):  # what a user has set for other programs is no business of tests
    if name in SAID or name.endswith("_NUM_THREADS") or (name.startswith("NUMBA_") and name not in KEPT):
        del os.environ[name]
DATA_HOME = tempfile.TemporaryDirectory(prefix="convbench-data-")  # no test chooses by what this machine's user tuned
os.environ["XDG_DATA_HOME"] = DATA_HOME.name
if len(os.sched_getaffinity(0)) < 2:
    os.environ["NUMBA_NUM_THREADS"] = "2"  # on one core, two threads take turns

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import simulated as simulation  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from PIL import Image  # noqa: E402

from convbench import cli  # noqa: E402
from convbench.algorithms.direct import host as direct  # noqa: E402
from convbench.executors.threads import start_pool  # noqa: E402
from convbench.measure.spec import Timing  # noqa: E402
from convbench.problem import Problem  # noqa: E402

SHORT, direct.SHORT = direct.SHORT, 0  # the small problems of tests are computed by the pool that they test
start_pool()  # before a peer that is tested loads another one
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background, for what tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fresh", settings.get_profile("fixed"), derandomize=False)  # --hypothesis-profile fresh
settings.load_profile("fixed")  # the same examples everywhere, however long they take

ROOT = Path(__file__).parents[1]
FAKE_GPU = ROOT / "tests" / "fake_gpu"
DEADLINE = 600.0  # seconds: however busy the machine is, what takes longer hangs

PROBLEMS = {
    "the experiment in small": "mb1ic1ih40iw52oc16kh11kw11",
    "one kernel of one tap": "mb1ic1ih5iw7oc1kh1kw1",
    "fewer kernels than a block": "mb1ic1ih20iw33oc3kh5kw3",
    "kernels that fill no block": "mb1ic1ih20iw33oc21kh3kw3",
    "one row": "mb1ic1ih1iw100oc9kh1kw7",
    "one column": "mb1ic1ih100iw1oc9kh7kw1",
    "a kernel as large as the image": "mb1ic1ih9iw8oc4kh9kw8",
    "a large kernel": "mb1ic1ih37iw45oc5kh31kw31",
    "channels and batch": "mb3ic5ih12iw13oc10kh3kw3",
    "padding": "mb1ic2ih12iw13oc8kh3kw5ph1pw2",
    "more padding than image": "mb1ic1ih2iw3oc4kh5kw5ph4pw4",
    "uneven padding": "mb1ic1ih10iw11oc4oh12ow10kh3kw3ph1pw0",
    "stride": "mb1ic3ih23iw31oc9kh5kw5sh2sw3",
    "stride and padding": "mb1ic3ih23iw31oc9kh5kw5sh4sw2ph2pw1",
    "dilation": "mb1ic2ih20iw30oc8kh3kw3dh1dw3",
    "dilation and padding": "mb2ic5ih13iw9oc8kh3kw5ph4pw13dh3dw6",
    "one column, padded": "mb2ic3ih40iw1oc8kh5kw1ph2pw0dh1dw0",
    "groups": "g3mb2ic6ih10iw12oc9kh3kw3ph1pw1",
    "depthwise": "g8mb1ic8ih9iw10oc8kh3kw3ph1pw1sh2sw2",
    "everything": "g2mb2ic4ih19iw23oc6kh3kw5sh2sw3ph2pw1dh1dw1",
    "float64": "--dt=f64 mb1ic2ih20iw33oc10kh5kw5ph1pw1",
}


COMPILING = ("test_algorithms.py", "test_ways.py", "test_winograd.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that compile most come first: others load their tiles, and none of them is left for the end."""
    items.sort(key=lambda item: item.path.name not in COMPILING)


def wait_until(
    condition: Callable[[], object], seconds: float = 120, alive: subprocess.Popen[str] | None = None
) -> None:
    """Wait for what another process does.

    Args:
        condition: What to wait for.
        seconds: How long at most; generous, as a busy machine may not get round to it.
        alive: The process; the test fails as soon as it has ended without.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if alive is not None and alive.poll() is not None and not condition():
            pytest.fail(f"the process has ended with status {alive.returncode} before what was waited for came")
        if time.monotonic() > deadline:
            pytest.fail(f"what was waited for did not come in {seconds:g} s")
        time.sleep(0.02)


class Struck(Exception):  # noqa: N818  # an alarm is no error
    """By an alarm."""


@pytest.fixture
def alarms() -> Iterator[None]:
    """An alarm raises `Struck` in the main thread.

    Callbacks of the garbage collector, such as hypothesis leaves behind, are taken out: what is raised in one is lost.
    """

    def strike(*_: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    gc.callbacks[:] = callbacks


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> simulation.Simulated:
    """The executor `simulated`, on which sweeps take no time and last as long as its law says."""
    return simulation.install(monkeypatch)


@pytest.fixture
def told(tmp_path: Path, simulated: simulation.Simulated) -> Callable[..., simulation.Found]:
    """Measures on the simulated machine; gives what it found."""
    assert simulated.machine.now == 0
    return lambda name="sweep", **request: simulation.measure(tmp_path / name, **request)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps that this process begins without saying how long measure briefly, and no limits of the machine."""
    told = {"max_samples": 2, "min_samples": 2, "min_seconds": 0.0, "max_warmups": 2, "wake_seconds": 0.0}
    told["peak_repetitions"] = 0
    values = tuple(told.get(field.name, field.default) for field in dataclasses.fields(Timing))
    monkeypatch.setattr(Timing.__init__, "__defaults__", values)


@pytest.fixture(params=PROBLEMS.values(), ids=PROBLEMS.keys())
def problem(request: pytest.FixtureRequest) -> Problem:
    """Each of the problems in turn."""
    return Problem.parse(request.param)


@pytest.fixture
def small() -> Problem:
    """A small problem for tests that need just any."""
    return Problem.parse(PROBLEMS["kernels that fill no block"])


def data(problem: Problem, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random input and weights."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(problem.input_shape).astype(problem.dtype)
    return x, random.standard_normal(problem.weights_shape).astype(problem.dtype)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small grayscale picture with nothing regular about it."""
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(1).integers(0, 256, (40, 48), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Ten kernels of 5 x 3 in an .npy file."""
    path = tmp_path / "bank.npy"
    np.save(path, np.random.default_rng(2).standard_normal((10, 5, 3)))
    return path


def briefly(*modules: Path, **variables: str) -> dict[str, str]:
    """The environment of a process whose sweeps measure briefly, since nobody looks at the times.

    Args:
        modules: Directories whose modules take precedence over those installed.
        variables: Environment variables.
    """
    path = [*map(str, modules), str(ROOT / "tests" / "brief"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **variables}


def python(*words: object, modules: Sequence[Path] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python `briefly`."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=briefly(*modules, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def script(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script; whatever it has started and forked ends with it."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def with_fake_gpu(*words: object, modules: Sequence[Path] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python `briefly` with a CuPy, a PyTorch and a driver whose GPU is the host."""
    return python(*words, modules=[FAKE_GPU, *modules], **variables)


Convbench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def convbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Convbench:
    """Runs the command line in an empty directory: in this process, or in another one with an environment."""
    directory = tmp_path / "here"
    directory.mkdir()

    def run(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        words = command(arguments)
        if env is not None:
            return subprocess.run(
                words, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=DEADLINE
            )
        capsys.readouterr()
        with monkeypatch.context() as now:
            now.chdir(directory)
            now.setattr(sys, "argv", ["convbench", *map(str, arguments)])
            now.setattr(cli, "_hear_signals", lambda: None)
            with pytest.raises(SystemExit) as left:
                cli.main()
        return subprocess.CompletedProcess(words, int(left.value.code or 0), *capsys.readouterr())

    return run


InProcess = Callable[..., tuple[int, str, str]]


@pytest.fixture
def in_process(convbench: Convbench) -> InProcess:
    """Runs the command line; gives the exit status, and what it wrote to its two outputs."""

    def run(*arguments: object) -> tuple[int, str, str]:
        done = convbench(*arguments)
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    return run


def command(arguments: Sequence[object]) -> list[str]:
    """The words that start convbench in a process of its own."""
    return [sys.executable, "-m", "convbench", *map(str, arguments)]


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of the test's own."""
    from convbench.select.choosing import forget

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()
