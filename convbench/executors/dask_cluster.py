"""A local Dask cluster in a process of its own, which ends as soon as its input is closed.

Dask starts workers with `multiprocessing`, which runs the caller's main module again; here that is this module, so that
a script that calls `conv2d` needs no guard. The scheduler takes no time from the process that measures, either.

Each line of the input is a number of workers to have; the first line of the output is the scheduler's address.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from typing import Final

CLOSING: Final = 3.0  # seconds that workers may take to leave by themselves


def main() -> None:
    """Start as many workers of one thread each as the first line says, then as many as later lines say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent to all processes of a terminal; only the caller handles it
    from distributed import LocalCluster

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    cluster = LocalCluster(
        n_workers=int(sys.stdin.readline()),
        threads_per_worker=1,
        dashboard_address=None,
        memory_limit=0,  # a worker that spills or is paused in the middle of a sample would measure the disk
        silence_logs=logging.CRITICAL,
    )
    print(cluster.scheduler_address, file=answers, flush=True)
    for line in sys.stdin:
        cluster.scale(int(line))
    leaving = threading.Timer(CLOSING, os._exit, (0,))  # workers leave with this process, whatever they are at
    leaving.daemon = True
    leaving.start()
    with contextlib.suppress(Exception):
        cluster.close(timeout=CLOSING)


if __name__ == "__main__":
    main()
