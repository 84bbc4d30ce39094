"""The import of `loading`, which all other imports of the package go through; this module needs nothing but built-ins.

While `loading` is imported nothing protects that import yet: a signal handler that made its first call in the middle of
it would find half a module. So it, too, happens in another thread, and a fork waits for it.
"""

import _thread
import os
import sys

LOADING = "convbench.runtime.loading"
POLL_SECONDS = 1.0  # seconds of waiting after which the process checks whether it is a forked child
FORK_SECONDS = 5.0  # seconds that a fork waits at most: by then `logging` waits for the forking thread


class _Process:
    """State of this process that a forked child must not inherit."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make a new lock: in a child, no thread holds it."""
        self.importing = _thread.allocate_lock()  # held while `loading` is imported
        self.is_fork_waiting = False

    def before_fork(self) -> None:
        """Wait for the import; an exception of a signal handler here is printed and ends the wait."""
        self.is_fork_waiting = self.importing.acquire(timeout=FORK_SECONDS)

    def after_in_parent(self) -> None:
        """Release what `before_fork` acquired."""
        if self.is_fork_waiting:
            self.is_fork_waiting = False
            self.importing.release()


_process = _Process()


def loading():  # type: ignore[no-untyped-def]  # `typing` is not loaded here: it could come from the current folder
    """The module `loading`, imported to completion."""
    found = sys.modules.get(LOADING)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    errors: list[BaseException] = []
    process, done = os.getpid(), _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        with _process.importing:
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
    os.register_at_fork(
        before=_process.before_fork, after_in_parent=_process.after_in_parent, after_in_child=_process.reset
    )
