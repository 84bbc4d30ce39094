"""Loading, compiling and starting in threads of their own, one at a time, that nothing breaks off.

Signal handlers run in the main thread, between any two steps of it. An exception of one in the middle of an import
leaves modules that are half there, and a call of one may begin what is going on already; Numba bears neither. A fork
copies whatever locks other threads hold at that moment, for ever. So what must be done as a whole is done by another
thread: the calling one waits, and may be interrupted in that, and a fork waits too.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import logging  # noqa: F401  # its lock is taken before a fork, too: whoever asks later to be told of forks is told first
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

PATIENCE: Final = 1.0  # seconds that a wait lasts before it is looked whether this is a forked child
LONGEST: Final = 60.0  # seconds that a fork waits; an errand that takes longer may wait for who forks

_one_at_a_time = threading.RLock()
_errands = threading.local()  # `running` is true in a thread that is on one


class _Errand(Generic[T]):
    """One call in a thread of its own."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._done = _thread.allocate_lock()
        self._done.acquire()

    def run(self) -> None:
        """What the thread does; it is done before a fork can come between."""
        _errands.running = True
        with _one_at_a_time:
            try:
                self._found.append(self._function(*self._arguments))
            except BaseException as error:  # noqa: BLE001  # raised by whoever waits
                self._error = error
            finally:
                self._done.release()

    def result(self) -> T:
        """Wait; a child that was forked in the middle of that has no such thread, and goes on the errand itself."""
        process = os.getpid()
        while not self._done.acquire(timeout=PATIENCE):
            if os.getpid() != process and not self._found and self._error is None:
                return whole(self._function, *self._arguments)
        if self._error is not None:
            raise self._error
        return self._found[0]


def whole(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns or raises, called in another thread so that it comes to its end whatever happens here."""
    if getattr(_errands, "running", False):
        return function(*arguments)
    errand = _Errand(function, arguments)
    try:
        _thread.start_new_thread(errand.run, ())
    except RuntimeError:  # no thread can be had
        with _one_at_a_time:
            return function(*arguments)
    return errand.result()


def load(module: str) -> ModuleType:
    """The module of a name, imported as a whole."""
    found = sys.modules.get(module)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    return whole(importlib.import_module, module)


def _after_in_child() -> None:
    """There is one thread, whose lock nobody holds."""
    global _one_at_a_time  # noqa: PLW0603
    _one_at_a_time = threading.RLock()


def _after_in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # it did not get it
        _one_at_a_time.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _one_at_a_time.acquire(timeout=LONGEST),
        after_in_parent=_after_in_parent,
        after_in_child=_after_in_child,
    )
