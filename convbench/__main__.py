"""`python -m convbench` is `convbench`: unlike other modules, it does not look into the current folder for modules."""

import os
import sys


def _forget_current_folder() -> None:
    """Take off `sys.path` what `-m` put before everything else."""
    try:
        current = os.getcwd()  # noqa: PTH109  # pathlib is yet to be loaded, and from elsewhere
    except OSError:  # it was removed
        current = ""
    if not sys.flags.safe_path and sys.path[0] in ("", current):
        del sys.path[0]


if __name__ == "__main__":
    _forget_current_folder()
    from convbench.cli import main

    main()
