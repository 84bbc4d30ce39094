"""A sweep that waits in the middle, so that what is done to it is done to it there, however slow the test is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from conftest import DEADLINE, ROOT, briefly, command, wait_until

RUNS, CELLS = 2, 4  # serial, threads on one and on two cores, and gpu, where there is none
RUN, PLACE = 1, 2  # it waits in its last run, before the third cell
BEFORE = RUN * CELLS + PLACE  # records that it has written by then


class Held:
    """A sweep that is begun, and waits; use it as a context manager.

    Args:
        directory: Of the sweep.
        request: Of what to measure, apart from the cells and how often.
    """

    def __init__(self, directory: Path, *request: object) -> None:
        self._gate = directory.with_name(f"{directory.name}-gate")
        self._gate.mkdir()
        self._marker = f"CONVBENCH_TEST_{uuid.uuid4().hex}"
        variables = {"GATE": str(self._gate), "GATE_AT": f"{RUN}:{PLACE}", self._marker: "1"}
        self._environment = briefly(ROOT / "tests" / "gate", **variables)
        self._request = [*request, "--cores", "1,2", "--runs", RUNS, "--algorithms", "naive", "--output", directory]
        self._request += ["--executors", "serial,threads,gpu"]
        self._results = directory / "results.jsonl"
        self.process = self._start()

    def __enter__(self) -> Self:
        wait_until((self._gate / "reached").exists, alive=self.process)
        wait_until(lambda: self._results.read_bytes().count(b"\n") == BEFORE, alive=self.process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        if error is None:
            wait_until(lambda: not self._processes())  # whatever it started leaves by itself

    def kill_worker(self) -> None:
        """Kill the process that measures."""
        pid = int((self._gate / "reached").read_text())
        self._open()  # for the next one
        os.kill(pid, signal.SIGKILL)

    def go_on(self) -> None:
        """Let it measure the rest."""
        self._open()

    def said(self) -> str:
        """What it has written to standard error when it has ended."""
        return self.process.communicate(timeout=DEADLINE)[1]

    def resume(self) -> str:
        """Go on with it in another process, after it was killed; what that one says."""
        self._open()
        self.process.wait()
        self.process.stderr.close()
        self.process = self._start("--resume")
        return self.said()

    def another(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Begin the same once more, meanwhile."""
        words = command(["sweep", *self._request, *more])
        return subprocess.run(
            words, env=self._environment, capture_output=True, text=True, check=False, timeout=DEADLINE
        )

    def _open(self) -> None:
        (self._gate / "open").touch()

    def _start(self, *more: str) -> subprocess.Popen[str]:
        words = command(["sweep", *self._request, *more])
        return subprocess.Popen(words, env=self._environment, stderr=subprocess.PIPE, text=True)

    def _processes(self) -> list[psutil.Process]:
        """Every process that it has started, or one of those has; known by a variable of their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if self._marker in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
