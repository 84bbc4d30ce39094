"""The sweep's end of a worker process: start it, hear its records, notice when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from convbench import card, interpreter
from convbench.measure import other

_WORKER: Final = "convbench.measure.worker"


class WorkerProcess:
    """A worker that is measuring a job.

    Args:
        job: What to measure, see `worker`.
        threads: The largest number of threads that a cell of the job needs.
        python: Another environment's interpreter, whose convbench is to measure; by default this convbench does.

    Raises:
        OSError: The interpreter cannot be started.
    """

    def __init__(self, job: Mapping[str, Any], threads: int, python: str | None = None) -> None:
        command, environment = interpreter.command(_WORKER), interpreter.environment()
        if python is not None:
            command, environment = other.command(python, "-m", _WORKER), other.environment()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `stop`
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                start_new_session=True,  # so that Ctrl-C reaches the sweep alone, and the worker's children die with it
                env={**environment, "NUMBA_NUM_THREADS": str(threads)},
            )
        except OSError:
            self._complaints.close()
            raise
        with contextlib.suppress(BrokenPipeError):  # it died at once; `next_line` says so
            self._process.stdin.write(json.dumps(job).encode() + b"\n")  # type: ignore[union-attr]  # it is a pipe
            self._process.stdin.flush()  # type: ignore[union-attr]
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def next_line(self, limit: float) -> bytes | None:
        """The next line that the worker writes; None when it has ended.

        Raises:
            TimeoutError: Nothing came for `limit` seconds.
        """
        try:
            return self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None

    @classmethod
    def peaks(cls, core_counts: Iterable[int], repetitions: int, limit: float = 120.0) -> dict[str, Any]:
        """The machine's limits from a process of their own, see `measure_peaks`; what went wrong, as "reason".

        Those of a card, see `measure_card_peaks`, come from another one, as "device".
        """
        wanted = sorted(set(core_counts))
        found = cls._answer({"peaks": {"core_counts": wanted, "repetitions": repetitions}}, wanted[-1], limit)
        if card.describe() is not None:
            found["device"] = cls._answer({"card_peaks": {"repetitions": repetitions}}, 1, limit)
        return found

    @classmethod
    def _answer(cls, job: Mapping[str, Any], threads: int, limit: float) -> dict[str, Any]:
        """The one line that a job has for an answer; what went wrong, as "reason"."""
        worker = cls(job, threads)
        try:
            line = worker.next_line(limit)
            found: dict[str, Any] = json.loads(line) if line else {"reason": worker.cause_of_death()}
        except TimeoutError:
            found = {"reason": f"no end after {limit:g} s"}
        finally:
            worker.stop()
        return found

    def ended_by_itself(self) -> bool:
        """Whether it has ended as it should."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=10) == 0
        return False

    def cause_of_death(self) -> str:
        """How a worker ended that should not have, in a line, with the last words it wrote to standard error."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the worker process closed its output and hung"
        self._complaints.seek(0)
        words = self._complaints.read().decode(errors="replace").strip().rpartition("\n")[2]
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        if code == -signal.SIGKILL:
            end += " (by hand, or because memory ran out)"
        return f"the worker process {end}" + (f": {words}" if words else "")

    def stop(self) -> None:
        """Kill the worker and its children if they still run, and close every file."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        self._listener.join()
        for file in (self._process.stdin, self._process.stdout, self._complaints):
            with contextlib.suppress(BrokenPipeError):
                file.close()  # type: ignore[union-attr]  # all three are open files

    def _listen(self) -> None:
        """Pass on whole lines; half a line is the end of a worker that was killed."""
        for line in self._process.stdout:  # type: ignore[union-attr]  # it is a pipe
            if line.endswith(b"\n"):
                self._lines.put(line)
        self._lines.put(None)
