"""Whether this process is one of several that a launcher of MPI has started; MPI itself is not loaded to find out."""

from __future__ import annotations

import os
from typing import Final

VARIABLES: Final = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI, Slurm's PMI
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_NTASKS"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)
"""What launchers tell a rank: its number, and how many there are."""


def place() -> tuple[int, int] | None:
    """This process's rank and the number of ranks, where it is one of several."""
    for rank, size in VARIABLES:
        words = (os.environ.get(rank, ""), os.environ.get(size, ""))
        if all(word.isdecimal() for word in words) and int(words[1]) > 1:
            return int(words[0]), int(words[1])
    return None
