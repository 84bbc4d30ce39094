"""The import of `loading`, which all other imports of the package go through; this module needs nothing but built-ins.

While `loading` is imported nothing protects that import yet: a signal handler that made its first call in the middle of
it would find half a module. So it, too, happens in another thread, and a fork waits for it.
"""

import _thread
import os
import sys

LOADING = "convbench.runtime.loading"

_importing = _thread.allocate_lock()  # held while `loading` is imported


def loading():  # type: ignore[no-untyped-def]  # `typing` is not loaded here: it could come from the current folder
    """The module `loading`, imported to completion."""
    found = sys.modules.get(LOADING)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    errors: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        with _importing:
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
        done.acquire()
    if errors:
        raise errors[0]
    return sys.modules[LOADING]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release
    )
