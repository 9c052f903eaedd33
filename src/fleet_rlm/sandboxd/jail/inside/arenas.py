"""Where the warm process's objects lie in memory: side by side, on huge pages.

A fork copies the page tables of what it shares, and its end takes every page out of them again. On huge pages, and
in one piece rather than between the files of loaded libraries, both cost up to a quarter less, for each process of a
jail.
"""

# Kernel-level code: files of /proc and /sys.
# ruff: noqa: PTH123

import contextlib
import ctypes
import mmap

from . import kernel

_MIB = 1 << 20  # the size of an arena, from which CPython takes objects (Objects/obmalloc.c)
_FILLERS = 64
_OBJECT = 512  # bytes of the largest object that comes out of an arena
_OVERHEAD = bytes(0).__sizeof__()
_COLLAPSE = 25  # MADV_COLLAPSE of linux/mman.h, from Linux 6.1 on


def reserve(count: int) -> list[bytes]:
    """Let the interpreter have this many arenas in one piece. Drop the answer when they have been used; those that
    were not needed then go back to the system."""
    fillers = _fill_gaps()
    objects: list[bytes | None] = [None] * (count * _MIB // _OBJECT)  # made first: it lies in no arena
    for number in range(len(objects)):
        objects[number] = bytes(_OBJECT - _OVERHEAD)
    kept: list[bytes] = []
    last = -1
    for each in objects:
        if each is not None and id(each) // _MIB != last:
            last = id(each) // _MIB
            kept.append(each)
    for filler in fillers:
        filler.close()
    return kept


def collapse() -> None:
    """Put this process's own memory on huge pages, as far as its kernel does so."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", encoding="ascii") as file:
            size = int(file.read())
    except OSError:
        return
    for first, end in _own_memory():
        for address in range(-(-first // size) * size, end // size * size, size):
            with contextlib.suppress(OSError):  # nothing there yet, or no huge page to be had
                kernel.syscall("madvise", address, size, _COLLAPSE)


def _fill_gaps() -> list[mmap.mmap]:
    """Take the places between what is mapped, so that what is mapped next comes below it all, in one piece."""
    taken = [mmap.mmap(-1, _MIB)]
    row = 0
    while row < 3 and len(taken) < _FILLERS:
        taken.append(mmap.mmap(-1, _MIB))
        row = row + 1 if _address(taken[-2]) - _address(taken[-1]) == _MIB else 0
    return taken


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _own_memory() -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            if fields[1].startswith("rw") and (len(fields) < 6 or fields[5] == "[heap]"):
                first, end = fields[0].split("-")
                found.append((int(first, 16), int(end, 16)))
    return found
