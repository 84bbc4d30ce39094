"""What the machine says of itself, and what it is taken to mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from convbench import machine
from convbench.errors import RequestError
from convbench.machine import cgroup, cpus
from convbench.measure.spec import make_spec
from convbench.report.conditions import machine_table


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


@pytest.fixture
def control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mapping[str, str]], None]]:
    """Has this process be in groups of both versions, for which the system tells what files say."""

    def tell(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "own").write_text("3:cpu,cpuacct:/job\n2:memory:/elsewhere\n0::/slice/job\n")
        monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
        monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
        cgroup._groups.cache_clear()

    yield tell
    cgroup._groups.cache_clear()


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
def test_a_cgroup_quota_is_read_in_both_versions(control_groups, files, quota):
    control_groups(files)
    assert cgroup.cpu_quota() == quota
    if quota == 1.5:
        assert machine.usable_cores() <= 2


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
def test_what_the_control_group_leaves_of_memory_is_read_in_both_versions(control_groups, files, free):
    control_groups(files)
    assert cgroup.free_memory() == free
    assert machine.free_memory() <= (free or psutil.virtual_memory().total)


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
    monkeypatch.setattr(cpus, "_CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.allowed_cpus() == [0, 1, 2, 3, 4, 5, 6, 7]
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert machine.allowed_cpus() == [0, 2, 1, 3]


def tree(root, files: dict[str, str]) -> None:
    """Files of the kernel's."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def cache(cpu: int, number: int, **files: str) -> dict[str, str]:
    return {f"cpu{cpu}/cache/index{number}/{name}": text + "\n" for name, text in files.items()}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, []),
        ({"cpu0/cache/uevent": ""}, []),
        (cache(0, 0, type="Data", level="1", size="1024", shared_cpu_list="0"), [(1, 1024, 1)]),
        (cache(0, 0, type="Data", level="1", size="48K", shared_cpu_list=""), [(1, 49152, 1)]),
        (cache(0, 0, type="Data", level="1", size="48K"), [(1, 49152, 1)]),
        (cache(0, 0, type="Data", level="1", size="48K", shared_cpu_list="none"), [(1, 49152, 1)]),
        (cache(0, 0, type="Unified", level="3", size="2M", shared_cpu_list="0-1,4-5"), [(3, 2**21, 4)]),
        (cache(0, 0, type="Data", level="1", size="", shared_cpu_list="0"), []),
        (cache(0, 0, type="Data", level="1", size="0K", shared_cpu_list="0"), []),
        (cache(0, 0, type="Data", level="", size="48K", shared_cpu_list="0"), []),
        (cache(0, 0, type="Data", level="1", size="big", shared_cpu_list="0"), []),
        (cache(0, 0, type="Data", level="1", shared_cpu_list="0"), []),
        (cache(0, 0, type="Instruction", level="1", size="32K", shared_cpu_list="0"), []),
        (  # two sorts of cores
            cache(0, 0, type="Data", level="1", size="48K", shared_cpu_list="0")
            | cache(0, 10, type="Unified", level="2", size="2M", shared_cpu_list="0")
            | cache(0, 2, type="Unified", level="3", size="30M", shared_cpu_list="0-1")
            | cache(1, 0, type="Data", level="1", size="32K", shared_cpu_list="1")
            | cache(1, 2, type="Unified", level="3", size="30M", shared_cpu_list="0-1"),
            [(1, 49152, 1), (1, 32768, 1), (2, 2**21, 1), (3, 30 * 2**20, 2)],
        ),
    ],
)
def test_caches_are_read_from_whatever_there_is(tmp_path, monkeypatch, files, found):
    tree(tmp_path, files)
    monkeypatch.setattr(cpus, "_CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert [tuple(one.values()) for one in machine.caches()] == found
    assert machine.caches([7]) == []


def test_lists_of_cpus():
    assert cpus._cpu_list("0-2,5\n") == [0, 1, 2, 5]
    assert cpus._cpu_list("") == cpus._cpu_list("\n") == []
    for wrong in ("a", "0-x", "-1"):
        with pytest.raises(ValueError, match="invalid literal"):
            cpus._cpu_list(wrong)


@pytest.mark.parametrize(
    ("allowed", "siblings", "order"),
    [
        ({0, 1, 3}, ["0-1", "0-1", "2-3", "2-3"], [0, 3, 1]),  # 3 has its core to itself
        ({1, 3}, ["0-1", "0-1", "2-3", "2-3"], [1, 3]),
        ({0, 1, 2, 3}, ["0-1", "0-1", "", "nonsense"], [0, 2, 3, 1]),  # offline, or not known
        ({0, 1, 2, 3}, ["0-1", "0-1", "2", "3"], [0, 2, 3, 1]),  # large cores with two threads, small ones with one
        ({0, 1}, [], [0, 1]),
    ],
)
def test_cpus_with_a_core_to_themselves_come_first(tmp_path, monkeypatch, allowed, siblings, order):
    tree(tmp_path, {f"cpu{cpu}/topology/thread_siblings_list": text + "\n" for cpu, text in enumerate(siblings)})
    monkeypatch.setattr(cpus, "_CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    assert machine.allowed_cpus() == order


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Makes the control groups that `cgroup` reads."""

    def make(own: str, files: dict[str, str]) -> None:
        tree(tmp_path, {"own": own, **files})
        cgroup._groups.cache_clear()

    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    yield make
    cgroup._groups.cache_clear()


@pytest.mark.parametrize(
    ("own", "files", "quota", "throttled"),
    [
        ("", {}, None, None),
        ("nonsense\n\n0::/\n", {"cpu.max": "50000 100000\n"}, 0.5, None),
        ("0::/../..\n", {"cpu.max": "50000 100000\n"}, 0.5, None),
        ("0::/\n", {"cpu.max": "max\n"}, None, None),
        ("0::/\n", {"cpu.max": ""}, None, None),
        ("0::/\n", {"cpu.max": "50000 0\n"}, None, None),
        ("0::/\n", {"cpu.max": "50000 often\n"}, None, None),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "50000\n"}, None, None),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "\n"}, None, None),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "0\n"}, None, None),
        ("0::/\n", {"cpu.stat": "\nnr_periods 3\nthrottled_usec 2000000\n"}, None, 2.0),
        ("0::/\n", {"cpu.stat": "throttled_usec many\n"}, None, None),
        ("0::/\n", {"cpu.stat": "throttled_time\n"}, None, None),
    ],
)
def test_odd_control_groups_are_no_error(groups, own, files, quota, throttled):
    groups(own, files)
    assert cgroup.cpu_quota() == quota
    assert cgroup.throttled_seconds() == throttled
    assert machine.usable_cores() >= 1


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, []),
        ({"online": "0\n", "node0/cpulist": "0-1\n"}, [{"node": 0, "cpus": [0, 1]}]),
        (
            {
                "node0/cpulist": "0-1,4\n",
                "node0/meminfo": "Node 0 MemTotal:       2048 kB\nNode 0 MemFree: 1 kB\n",
                "node2/cpulist": "2-3\n",
                "node2/meminfo": "Node 2 MemTotal:       1024 kB\n",
                "node10/cpulist": "\n",
                "node10/meminfo": "nothing\n",  # memory without a CPU
                "node3/meminfo": "",
                "node4/cpulist": "all\n",
                "nodeless/cpulist": "0\n",
            },
            [
                {"node": 0, "cpus": [0, 1, 4], "memory_bytes": 2**21},
                {"node": 2, "cpus": [2, 3], "memory_bytes": 2**20},
                {"node": 10, "cpus": []},
            ],
        ),
    ],
)
def test_nodes_of_memory_are_described_and_shown(tmp_path, monkeypatch, files, found):
    tree(tmp_path, files)
    monkeypatch.setattr(cpus, "_NODES", tmp_path)
    assert machine.numa() == found
    described = machine.describe()
    assert described.get("numa", []) == found
    shown = dict(machine_table(described, {}).rows)["memory nodes"]
    assert (
        shown
        == {
            0: "not known or none",
            1: "1",
            3: "0: CPUs 0-1,4, 0 GiB; 2: CPUs 2-3, 0 GiB; 10: no CPUs",
        }[len(found)]
    )


CPUINFO = """processor\t: 0
model name\t: a processor
cpu MHz\t\t: 2596.126

processor\t: 1
cpu MHz\t\t: 3100.5

processor\t: 2
cpu MHz\t\t: 0.000
"""


@pytest.mark.parametrize(
    ("files", "clocks"),
    [
        ({}, {}),
        ({"cpuinfo": CPUINFO}, {"0": 2596.126, "1": 3100.5}),
        ({"cpuinfo": "processor : 0\nBogoMIPS : 50\n"}, {}),
        ({"cpu0/cpufreq/scaling_cur_freq": "3400000\n", "cpuinfo": CPUINFO}, {"0": 3400.0, "1": 3100.5}),
        ({"cpu0/cpufreq/scaling_cur_freq": "<unknown>\n", "cpu1/cpufreq/scaling_cur_freq": "0\n"}, {}),
        ({f"cpu{cpu}/cpufreq/scaling_cur_freq": "800123\n" for cpu in range(4)}, dict.fromkeys("0123", 800.123)),
    ],
)
def test_clocks_are_what_the_system_tells_of_them(tmp_path, monkeypatch, files, clocks):
    tree(tmp_path, files)
    monkeypatch.setattr(cpus, "_CPUS", tmp_path)
    monkeypatch.setattr(cpus, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.clocks(range(4)) == clocks
