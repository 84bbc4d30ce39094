"""The import of `loading`, which all other imports of the package go through; this module needs nothing but built-ins.

While `loading` is imported nothing protects that import yet: a signal handler that made its first call in the middle of
it would find half a module. So it, too, happens in another thread, and a fork waits for it.
"""

import _thread
import os
import sys

LOADING = "convbench.runtime.loading"
POLL_SECONDS = 1.0  # seconds of waiting after which the process checks whether it is a forked child
FORK_SECONDS = 5.0  # seconds that a fork waits here at most: by then `logging` may wait for the forking thread

lock = _thread.RLock()  # held by the thread that imports `loading`, or runs one of its tasks, or forks


def hold(seconds: float) -> None:
    """Before a fork: wait for the lock; an exception of a signal handler here is printed and ends the wait."""
    lock.acquire(timeout=seconds)


def release() -> None:
    """After a fork, in the parent: release the lock, unless it was not acquired in time.

    Handlers that were registered after a fork had begun release what they never acquired: the lock knows its owner.
    """
    try:  # noqa: SIM105  # `contextlib` could come from the current folder
        lock.release()
    except RuntimeError:
        pass


def _new_lock() -> None:
    """After a fork, in the child: no thread of it holds the lock."""
    global lock  # noqa: PLW0603
    lock = _thread.RLock()


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
    os.register_at_fork(before=lambda: hold(FORK_SECONDS), after_in_parent=release, after_in_child=_new_lock)
