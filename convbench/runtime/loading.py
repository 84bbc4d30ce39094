"""Importing, compiling and starting as tasks that run to completion, one at a time, each in a separate thread.

Signal handlers run in the main thread, between any two of its bytecodes. A handler that raises in the middle of an
import leaves a partly initialised module, and a handler that makes calls may re-enter an operation in progress; Numba
tolerates neither. A fork copies the locks that other threads hold, and no thread of the child releases them. So a task
that must not be interrupted runs in another thread: the calling thread waits and may be interrupted while it waits, and
a fork waits for the task.
"""

from __future__ import annotations

import _thread
import importlib
import logging  # noqa: F401  # registers its own fork handlers first: handlers that are registered later run before them
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

from convbench.runtime import starting

T = TypeVar("T")

POLL_SECONDS: Final = 1.0  # seconds of waiting after which the process checks whether it is a forked child
FORK_SECONDS: Final = 60.0  # seconds that a fork waits here at most; a longer task may wait for the forking thread

_tasks = threading.local()  # `running` is true in a thread that runs a task


class _Task(Generic[T]):
    """One function call in a separate thread."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._done = _thread.allocate_lock()
        self._done.acquire()

    def run(self) -> None:
        """The thread's function: it holds the lock, so that no fork happens before the task is complete."""
        _tasks.running = True
        with starting.lock:
            try:
                self._found.append(self._function(*self._arguments))
            except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
                self._error = error
            finally:
                self._done.release()

    def result(self) -> T:
        """Wait for the task; a child that was forked meanwhile lacks the task's thread and runs the task itself."""
        process = os.getpid()
        while not self._done.acquire(timeout=POLL_SECONDS):
            if os.getpid() != process and not self._found and self._error is None:
                return run_to_completion(self._function, *self._arguments)
        if self._error is not None:
            raise self._error
        return self._found[0]


def run_to_completion(function: Callable[..., T], *arguments: Any) -> T:
    """Call `function` in another thread, where no exception of a signal handler interrupts it.

    Returns:
        The result of `function`.

    Raises:
        BaseException: The exception of `function`.
    """
    if getattr(_tasks, "running", False):
        return function(*arguments)
    task = _Task(function, arguments)
    try:
        _thread.start_new_thread(task.run, ())
    except RuntimeError:  # no thread can be started
        with starting.lock:
            return function(*arguments)
    return task.result()


def load(module: str) -> ModuleType:
    """The module of that name, imported to completion."""
    found = sys.modules.get(module)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    return run_to_completion(importlib.import_module, module)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: starting.hold(FORK_SECONDS), after_in_parent=starting.release)
