"""The sweep's side of a worker process: start it, read its records, notice when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Final

from convbench.machine import gpu
from convbench.measure import other
from convbench.runtime import interpreter

_WORKER: Final = "convbench.measure.worker"

Launch = Callable[[str], list[str] | None]

OF_LAUNCHERS: Final = re.compile(r"(?:EXIT STRING: |exited on )(.*\S)")
"""Where MPI's launchers say how a process of the job ended, among what to do about it."""
LEAVING: Final = 10.0  # seconds that a launcher may take to end
LAST_WORDS: Final = 500  # characters of a worker's last line; compilers say more


class WorkerProcess:
    """A worker that is measuring a job.

    Args:
        job: What to measure, see `worker`.
        threads: The largest number of threads that a cell of the job needs.
        python: Another environment's interpreter, whose convbench is to measure; by default this convbench does.
        launch: Gives the command that runs a module with others that serve it, or None if there is none.

    Raises:
        OSError: The interpreter cannot be started.
    """

    def __init__(
        self, job: Mapping[str, Any], threads: int, python: str | None = None, launch: Launch | None = None
    ) -> None:
        command, environment = interpreter.command(_WORKER), interpreter.environment()
        launched = None if launch is None else launch(_WORKER)
        command, self._launched = launched or command, launched is not None
        if python is not None:
            command, environment = other.command(python, "-m", _WORKER), other.environment()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
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
            weakref.finalize(self, _close, self._process.stdin, self._complaints)  # and then the worker leaves
            others = self._complaints if self._launched else None  # a launcher has words of its own, on both outputs
            words = (json.dumps(job).encode() + b"\n", self._process.stdin, self._process.stdout, self._lines, others)
            listener = threading.Thread(target=_converse, args=words, daemon=True)
            listener.start()
            self._listener = listener
        except BaseException:
            self.stop()
            raise

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
        """The cores' limits from a process of their own, see `measure_peaks`; what went wrong, as "reason".

        The GPU's limits, see `measure_gpu_peaks`, come from another process, as "device".
        """
        wanted = sorted(set(core_counts))
        found = cls._answer({"peaks": {"core_counts": wanted, "repetitions": repetitions}}, wanted[-1], limit)
        if gpu.describe() is not None:
            found["device"] = cls._answer({"gpu_peaks": {"repetitions": repetitions}}, 1, limit)
        return found

    @classmethod
    def _answer(cls, job: Mapping[str, Any], threads: int, limit: float) -> dict[str, Any]:
        """The one line that answers a job; what went wrong, as "reason"."""
        worker = cls(job, threads)
        try:
            line = worker.next_line(limit)
            found: dict[str, Any] = dict(json.loads(line)) if line else {"reason": worker.cause_of_death()}
        except TimeoutError:
            found = {"reason": f"no end after {limit:g} s"}
        except (ValueError, TypeError) as error:
            found = {"reason": f"what the worker process wrote cannot be read ({error})"}
        finally:
            worker.stop()
        return found

    def ended_by_itself(self) -> bool:
        """Whether it has ended without an error."""
        return self._exit_status() == 0

    def cause_of_death(self) -> str:
        """How a worker ended that should not have, in one line, with the last line of its standard error."""
        code = self._exit_status()
        if code is None:
            return "the worker process closed its output and hung"
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip()
        told = OF_LAUNCHERS.findall(said) if self._launched else []
        words = (told or [said.rpartition("\n")[2]])[-1][:LAST_WORDS]
        end = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit status {code}"
        if code == -signal.SIGKILL:
            end += " (by hand, or because memory ran out)"
        return f"the worker process {end}" + (f": {words}" if words else "")

    def stop(self) -> None:
        """Kill the worker and its children if they still run, and close every file; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            self._complaints.close()
            return
        try:
            if self._launched:  # its launcher ends what it started, on other machines, too, once the worker has left
                _close(process.stdin)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=LEAVING)
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            if self._listener is not None:
                self._listener.join()
        finally:
            _close(process.stdin, process.stdout, self._complaints)

    def _exit_status(self) -> int | None:
        """The exit status of a worker that is ending; None if it hangs."""
        assert self._process is not None  # noqa: S101  # nobody asks after `stop`
        try:
            return self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return None


def _converse(
    job: bytes,
    stdin: IO[bytes],
    stdout: IO[bytes],
    lines: queue.SimpleQueue[bytes | None],
    others: IO[bytes] | None,
) -> None:
    """Write the job, and pass on whole lines; half a line is the end of a worker that was killed.

    Lines that are no JSON objects go to `others`, where that is given.
    """
    with contextlib.suppress(OSError, ValueError):  # it died at once, or was stopped; its last line says so
        stdin.write(job)
        stdin.flush()
    with contextlib.suppress(ValueError), stdout:  # closed by a `stop` that was interrupted
        for line in stdout:
            if others is not None and not line.startswith(b"{"):
                with contextlib.suppress(OSError, ValueError):
                    others.write(line)
            elif line.endswith(b"\n"):
                lines.put(line)
    lines.put(None)


def _close(*files: IO[bytes] | None) -> None:
    for file in files:
        with contextlib.suppress(BrokenPipeError):
            if file is not None:
                file.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals
        return f"signal {number}"
