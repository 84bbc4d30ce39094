"""What is there: cores, caches, control groups, clocks, memory, GPU. Nothing is measured here."""

from convbench.machine.cpus import affinity, allowed_cpus, caches, clocks, core_series, most_cores, numa, usable_cores
from convbench.machine.facts import cpu_name, describe, free_memory, thread_variables, vector, versions

__all__ = [
    "affinity",
    "allowed_cpus",
    "caches",
    "clocks",
    "core_series",
    "cpu_name",
    "describe",
    "free_memory",
    "most_cores",
    "numa",
    "thread_variables",
    "usable_cores",
    "vector",
    "versions",
]
