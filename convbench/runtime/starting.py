"""The import of `loading`, which all other imports of the package go through; this module needs nothing but built-ins.

While `loading` is imported nothing protects that import yet: a signal handler that made its first call in the middle of
it would find half a module. So it, too, happens in another thread, and a fork waits for it.
"""

import _thread
import os
import sys

LOADING = "convbench.runtime.loading"
POLL_SECONDS = 1.0  # seconds of waiting after which the process checks whether it is a forked child
FORK_SECONDS = 5.0  # seconds that a fork waits here at most: by then `logging` waits for the forking thread

lock = _thread.RLock()  # held by the thread that imports `loading`, or runs one of its tasks, or forks


def _new_lock() -> None:
    """In a child no thread holds the lock."""
    global lock  # noqa: PLW0603
    lock = _thread.RLock()


class ForkWaits:
    """Handlers by which a fork waits for the lock, for `seconds` at most, and holds it while it forks."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._holder = 0  # the thread that forks and holds the lock

    def before(self) -> None:
        """Acquire the lock; an exception of a signal handler here is printed and ends the wait."""
        if lock.acquire(timeout=self._seconds):
            self._holder = _thread.get_ident()

    def after_in_parent(self) -> None:
        """Release the lock, unless this fork did not get it or began before the handlers were registered."""
        if self._holder == _thread.get_ident():
            self._holder = 0
            lock.release()

    def after_in_child(self) -> None:
        """Forget who forked."""
        self._holder = 0


def loading():  # type: ignore[no-untyped-def]  # `typing` is not loaded here: it could come from the current folder
    """The module `loading`, imported to completion."""
    found = sys.modules.get(LOADING)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    errors: list[BaseException] = []
    process, done = os.getpid(), _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        with lock:
            try:
                __import__(LOADING)
            except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
                errors.append(error)
            finally:
                done.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:  # no thread can be started
        __import__(LOADING)
    else:
        while not done.acquire(timeout=POLL_SECONDS):
            if os.getpid() != process:  # forked by a signal handler before the thread began
                __import__(LOADING)
                break
    if errors:
        raise errors[0]
    return sys.modules[LOADING]


if hasattr(os, "register_at_fork"):
    # These handlers wait for tasks as well: a fork that began while `loading` was imported knows no later handlers.
    _waits = ForkWaits(FORK_SECONDS)
    os.register_at_fork(
        before=_waits.before, after_in_parent=_waits.after_in_parent, after_in_child=_waits.after_in_child
    )
    os.register_at_fork(after_in_child=_new_lock)
