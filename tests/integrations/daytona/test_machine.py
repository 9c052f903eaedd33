"""What a process may use of the machine is what its container lets it, and what waits for use stays far below that."""

import os

import pytest

from fleet_rlm.integrations.daytona.machine import memory, processes
from fleet_rlm.integrations.daytona.settings import LOCAL_POOL, local_pool, local_spares

PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


def reading(files: dict[str, str]):
    return lambda path: files.get(str(path), "")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, PHYSICAL),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "536870912\n"}, 512 * MIB),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n"}, PHYSICAL),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/b/memory.max": "536870912\n",
                "/sys/fs/cgroup/a/memory.max": "268435456\n",
            },
            256 * MIB,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/x\n0::/\n",
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "134217728\n",
            },
            128 * MIB,
        ),
        (
            {
                "/proc/self/cgroup": "3:memory:/\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            PHYSICAL,
        ),
    ],
)
def test_memory(files: dict[str, str], expected: int) -> None:
    assert memory(reading(files)) == expected


def test_processes() -> None:
    few = {"/proc/self/cgroup": "0::/box\n", "/sys/fs/cgroup/box/pids.max": "100\n"}
    assert processes(reading(few)) == 100
    old = {"/proc/self/cgroup": "7:pids:/box\n", "/sys/fs/cgroup/pids/box/pids.max": "64\n"}
    assert processes(reading(old)) == 64


def test_this_machine() -> None:
    assert 0 < memory() <= PHYSICAL
    assert processes() is None or processes() > 0


def test_what_waits_stays_below_what_there_is() -> None:
    assert local_pool(64 << 30) == LOCAL_POOL and local_spares(64 << 30) == 64
    for size in (256 * MIB, 1 << 30, 8 << 30):
        pool = local_pool(size)
        assert pool.burst * 10_000_000 + local_spares(size) * 4 * MIB <= size / 20
    pool = local_pool(64 << 30, processes=100)  # a container's usual bound
    assert (pool.ready, pool.burst, local_spares(64 << 30, processes=100)) == (1, 1, 3)
