"""The filter's answers, on both architectures, by a small interpreter of the program itself."""

import errno
import re
import struct
from pathlib import Path

import pytest

from fleet_rlm.sandboxd.jail.inside import seccomp, syscalls

ALLOW, KILL = "allow", "kill"


def answer(program: bytes, arch: int, number: int, *args: int) -> str | int:
    """Run classic BPF over one struct seccomp_data: `allow`, `kill` or an errno."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *[*args, 0, 0, 0, 0, 0, 0][:6])
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        code, if_true, if_false, constant = lines[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, constant)
        elif code == 0x06:
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(constant, constant & 0xFFFF)
        else:
            true = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            at += if_true if true else if_false


@pytest.fixture(params=list(syscalls.AUDIT_ARCH))
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def test_answers(arch: str) -> None:
    program = seccomp.program(arch)
    assert len(program) // 8 <= 4096  # the kernel's bound
    known = {}
    for table in (syscalls.ALLOWED, syscalls.REFUSED, syscalls.JUDGED):
        known |= syscalls.numbers(table, arch)

    def ask(name: str, *args: int) -> str | int:
        return answer(program, syscalls.AUDIT_ARCH[arch], known[name], *args)

    for name in (
        "read",
        "openat",
        "execve",
        "mmap",
        "futex",
        "wait4",
        "prctl",
        "ppoll",
        "getrandom",
        "landlock_restrict_self",
    ):
        assert ask(name) == ALLOW, name
    for name in ("ptrace", "mount", "unshare", "setns", "bpf", "io_uring_setup", "memfd_create", "keyctl", "chroot"):
        assert ask(name) == errno.EPERM, name
    assert ask("clone3") == errno.ENOSYS
    assert ask("clone", 17) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask("clone", flag | 17) == errno.EPERM
    assert ask("ioctl", 0, 0x5401) == ALLOW
    assert ask("ioctl", 0, 0x5412) == ask("ioctl", 0, 0x541C) == errno.EPERM
    assert ask("prlimit64", 0) == ALLOW
    assert ask("prlimit64", 1) == errno.EPERM
    assert [ask("socket", family) for family in (1, 2, 10)] == [ALLOW] * 3
    assert [ask("socket", family) for family in (16, 17, 40, 38)] == [errno.EAFNOSUPPORT] * 4
    assert answer(program, syscalls.AUDIT_ARCH[arch], 900) == errno.ENOSYS
    assert answer(program, 0x40000003, known["read"]) == KILL  # 32-bit calls


def test_x32_is_killed() -> None:
    assert answer(seccomp.program("x86_64"), syscalls.AUDIT_ARCH["x86_64"], 0x40000000) == KILL


def test_tables_do_not_overlap(arch: str) -> None:
    tables = [syscalls.numbers(table, arch) for table in (syscalls.ALLOWED, syscalls.REFUSED, syscalls.JUDGED)]
    all_numbers = [number for table in tables for number in table.values()]
    assert len(all_numbers) == len(set(all_numbers))


def test_without_namespaces_no_way_to_sockets_or_attributes_of_the_host(arch: str) -> None:
    known = {
        name: number
        for table in (syscalls.ALLOWED, syscalls.JUDGED)
        for name, number in syscalls.numbers(table, arch).items()
    }
    user, own = (seccomp.program(arch, namespaces=False, own_id=own_id) for own_id in (False, True))
    assert len(user) // 8 <= 4096

    def ask(program: bytes, name: str, *args: int) -> str | int:
        return answer(program, syscalls.AUDIT_ARCH[arch], known[name], *args)

    for program in (user, own):
        assert {ask(program, "socket", family) for family in (1, 2, 10, 16)} == {errno.EAFNOSUPPORT}
        assert {ask(program, name) for name in ("connect", "bind", "listen", "inotify_add_watch")} == {errno.EPERM}
        assert [ask(program, "socketpair", 1, kind) for kind in (1, 5, 1 | 0o2000000, 1 | 0o4000)] == [ALLOW] * 4
        assert [ask(program, "socketpair", 1, kind) for kind in (2, 3, 2 | 0o2000000)] == [errno.EPERM] * 3
    for name in syscalls.OWNERS:
        if name in known:
            assert ask(user, name) == errno.EPERM, name
            assert ask(own, name) == ALLOW, name
    assert set(syscalls.OWNERS) | set(syscalls.OUTWARD) <= {
        entry.split()[0] for entry in syscalls.ALLOWED.replace("\n", ";").split(";") if entry.strip()
    }


HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
# Defined in the generic header for architectures that ask for them, which this one does not.
NOT_OF_AARCH64 = {"fork", "vfork", "getdents", "time", "utime", "pause", "alarm"}


def of_header(arch: str) -> dict[str, int]:
    """Name to number, out of the kernel's own header. Empty where it is not installed (linux-libc-dev)."""
    path = next((path for path in map(Path, HEADERS[arch]) if path.exists()), None)
    defined = dict(re.findall(r"#define (__NR(?:3264)?_\w+)\s+(\w+)", path.read_text() if path else ""))
    found: dict[str, int] = {}
    for name, value in defined.items():
        value = defined.get(value, value)
        if name.startswith("__NR_") and name != "__NR_syscalls" and value.isdigit():
            found[name.removeprefix("__NR_")] = int(value)
    return found


def test_numbers_are_the_kernel_headers(arch: str) -> None:
    kernels = of_header(arch)
    if not kernels:
        pytest.skip("the kernel's headers are not installed")
    assert len(kernels) > 300
    newest = max(kernels.values())
    for table in (syscalls.ALLOWED, syscalls.REFUSED, syscalls.JUDGED):
        ours = syscalls.numbers(table, arch)
        for name, number in ours.items():
            # What is newer than these headers has one number on all architectures.
            assert kernels.get(name) == number or number > newest, name
        for name in {entry.split()[0] for entry in table.replace("\n", ";").split(";") if entry.strip()} - ours.keys():
            assert name not in kernels or name in NOT_OF_AARCH64, name


def test_newer_numbers_agree_on_both() -> None:
    for table in (syscalls.ALLOWED, syscalls.REFUSED, syscalls.JUDGED):
        one, other = (syscalls.numbers(table, arch) for arch in syscalls.AUDIT_ARCH)
        assert {name: n for name, n in one.items() if n >= 424} == {name: n for name, n in other.items() if n >= 424}
