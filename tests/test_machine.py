"""What the machine says of itself, and what it is taken to mean."""

from __future__ import annotations

import os

import psutil
import pytest

from convbench import cgroup, machine
from convbench.errors import RequestError
from convbench.measure.spec import make_spec


def test_core_series_are_powers_of_two_and_the_most():
    assert machine.core_series(1) == (1,)
    assert machine.core_series(2) == (1, 2)
    assert machine.core_series(6) == (1, 2, 4, 6)
    assert machine.core_series(8) == (1, 2, 4, 8)
    assert machine.core_series()[-1] == machine.usable_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_only_cpus_of_the_affinity_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.allowed_cpus() == [min(before)]
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"slice/job/cpu.max": "max 100000\n", "slice/cpu.max": "300000 100000\n", "cpu.max": "800000 100000\n"}, 3.0),
        ({"cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({}, None),
    ],
)
def test_a_cgroup_quota_is_read_in_both_versions(tmp_path, monkeypatch, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text("3:cpu,cpuacct:/job\n2:memory:/elsewhere\n0::/slice/job\n")
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    cgroup._groups.cache_clear()
    assert machine.cpu_quota() == quota
    if quota == 1.5:
        assert machine.usable_cores() <= 2
    cgroup._groups.cache_clear()


V1 = "9223372036854771712"  # what version 1 says for "no limit"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "1000\n", "memory.current": "600\n", "memory.stat": "anon 100\ninactive_file 250\n"}, 650),
        ({"memory.max": "1000\n", "memory.current": "600\n"}, 400),
        ({"memory.max": "1000\n", "memory.current": "1200\n"}, 0),
        ({"memory.max": "max\n", "memory.current": "600\n"}, None),
        (
            {
                "slice/job/memory.max": "max\n",
                "slice/job/memory.current": "1\n",
                "slice/memory.max": "5000\n",
                "slice/memory.current": "2000\n",
                "memory.max": "9000\n",
                "memory.current": "2000\n",
            },
            3000,
        ),
        ({"memory/memory.limit_in_bytes": "700\n", "memory/memory.usage_in_bytes": "300\n"}, 400),
        (
            {
                "memory/elsewhere/memory.limit_in_bytes": "700\n",
                "memory/elsewhere/memory.usage_in_bytes": "300\n",
                "memory/elsewhere/memory.stat": "total_inactive_file 50\n",
                "memory/memory.limit_in_bytes": V1,
                "memory/memory.usage_in_bytes": "300\n",
            },
            450,
        ),
        ({}, None),
    ],
)
def test_what_the_control_group_leaves_of_memory_is_read_in_both_versions(tmp_path, monkeypatch, files, free):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text("3:cpu,cpuacct:/job\n2:memory:/elsewhere\n0::/slice/job\n")
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    cgroup._groups.cache_clear()
    assert cgroup.free_memory() == free
    assert machine.free_memory() <= (free or psutil.virtual_memory().total)
    cgroup._groups.cache_clear()


def test_more_memory_than_the_control_group_leaves_is_refused(monkeypatch):
    monkeypatch.setattr(cgroup, "free_memory", lambda: 2**20)
    assert make_spec("mb1ic1ih100iw100oc1kh3kw3").problems
    with pytest.raises(RequestError, match=r"needs 0\.\d GiB and 0\.0 GiB are free"):
        make_spec("mb1ic1ih1000iw1000oc10kh3kw3")


def test_a_machine_may_be_oversubscribed_several_times(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert machine.most_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert machine.most_cores() == 384
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.most_cores() == 64


def test_hardware_threads_of_a_core_come_after_the_other_cores(tmp_path, monkeypatch):
    for cpu, siblings in enumerate(["0,4", "1,5", "2,6", "3,7"] * 2):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.allowed_cpus() == [0, 1, 2, 3, 4, 5, 6, 7]
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert machine.allowed_cpus() == [0, 2, 1, 3]
