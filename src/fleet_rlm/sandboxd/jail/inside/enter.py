"""From a fork of the warm process to the first process of a jail: namespaces, file tree, identity, limits."""

# Kernel-level code: paths are relative to fds and stages, and pathlib would add only cost.
# ruff: noqa: PTH123

import contextlib
import os
import resource
import select
import signal
import socket
from types import FrameType

from . import keeper, kernel, landlock, network, root, seccomp
from .plan import TEMPORARY, Plan, Rung, Shape, System

INNER_ID = 1000  # the id inside a user namespace; as host root the jail keeps its own host id
# When memory runs out, the machine's or the jail's own, a jail goes before other programs, and in it its programs
# before the first process, which seems large because it shares the warm process's pages.
_OOM_SCORE = "200"
# Set for the new user namespace only: what a jail takes of these is also counted against the user who started it.
_OF_NAMESPACE = {
    "max_inotify_instances": 16,
    "max_inotify_watches": 4096,
    "max_fanotify_groups": 0,
    "max_user_namespaces": 0,
}
_NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS


def namespaces(shape: Shape) -> int:
    """Those that only a new process can be put in; it leaves the others itself, while the warm process goes on."""
    if shape.rung is not Rung.NAMESPACES:
        return 0
    return kernel.CLONE_NEWPID | (kernel.CLONE_NEWUSER if shape.own_users else 0)


def begin(system: System, shape: Shape, ids: tuple[int, int]) -> None:
    """What can be done before there is a plan, in a fork of the warm process. `ids`: its uid and gid."""
    os.setsid()  # of its own, which is also how the kernel shares processors: no jail crowds out the warm process
    if shape.own_users:
        _map_ids(*ids)
    _write("/proc/self/oom_score_adj", _OOM_SCORE)
    if shape.rung is Rung.NAMESPACES:
        kernel.unshare(_NAMESPACES)
        if shape.own_users:
            _bound_namespace()
        kernel.set_host_name(b"sandbox")
        network.raise_loopback()
        root.begin(system, shape.tmp_mb)


def take(plan: Plan, control: socket.socket, life: int) -> keeper.Words | None:
    """Become the first process of this jail; where there are no namespaces a keeper forks it and stays above it,
    and this returns in the first process alone."""
    if plan.control_group is not None:
        _write(plan.control_group, "0")
    if plan.rung is Rung.LANDLOCK:
        _drop_rights(plan)
        return keeper.begin(plan, control, life)
    if plan.rung is Rung.NAMESPACES:
        kernel.unshare(kernel.CLONE_NEWCGROUP)  # only now: from inside, its own group is the topmost
    else:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    return None


def finish(system: System, plan: Plan, control: socket.socket, life: int, words: keeper.Words | None) -> int:
    """Make the first process what it stays: in its own tree, without rights, bounded, unreadable, filtered.

    Gives the fd of its own mark for when memory runs out: no path leads there any more."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # makes the file this user's for a moment; no hostile code is near yet
    mark = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    if plan.rung is Rung.NAMESPACES:
        uid = INNER_ID if plan.uid is None else plan.uid
        root.finish(system, plan, uid, uid)
        os.chdir("/workspace")
        _drop_rights(plan)
    else:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        os.chdir(plan.workspace)
    kernel.close_all_but({control.fileno(), life, mark, *([] if words is None else [words.fd])})
    _null_stdio()
    os.umask(0o002 if plan.shared else 0o022)
    _die_with_the_warm_process(life, kept=words is not None)
    # Same user as the hostile code: unreadable and untraceable for it, and a pid 1 takes no signal from it.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    limit(plan)
    if plan.rung is Rung.NAMESPACES:
        if landlock.abi() >= landlock.USEFUL_ABI:
            landlock.restrict(_rules_in_tree(plan), tcp=True)
        seccomp.apply()
    elif plan.rung is Rung.LANDLOCK:
        landlock.restrict(_rules_on_host(system, plan), tcp=False)
        seccomp.apply(namespaces=False, own_id=plan.uid is not None)
    return mark


def _rules_in_tree(plan: Plan) -> list[landlock.Rule]:
    """What the mounts allow, said once more: a second wall should the first have a hole."""
    writable = ["/workspace", "/tmp", "/dev/shm"]  # noqa: S108  the jail's own
    writable += [target for _, target, read_only in plan.mounts if not read_only]
    devices = [(f"/dev/{name}", landlock.DEVICE) for name in root.DEVICES]
    return [("/", landlock.READ), *((path, landlock.WRITE) for path in writable), *devices]


def _rules_on_host(system: System, plan: Plan) -> list[landlock.Rule]:
    """The same places by their paths on the host. /proc is not among them: it shows the user's own processes."""
    readable = [*system.binds, system.import_path, system.programs]
    readable += [source for source, _, read_only in plan.mounts if read_only]
    writable = [
        plan.workspace,
        plan.workspace + TEMPORARY,
        *(source for source, _, read_only in plan.mounts if not read_only),
    ]
    devices = [(f"/dev/{name}", landlock.DEVICE) for name in root.DEVICES]
    figures = [(f"/proc/{name}", landlock.READ) for name in ("cpuinfo", "meminfo")]
    rules = [(path, landlock.READ) for path in readable]
    return [*rules, *((path, landlock.WRITE) for path in writable), *devices, *figures]


def limit(plan: Plan) -> None:
    """The bounds that the kernel keeps for every process of the jail."""
    own = _address_space()
    bounds = {
        resource.RLIMIT_AS: (plan.memory_mb << 20) + own,
        resource.RLIMIT_FSIZE: plan.file_size_mb << 20,
        resource.RLIMIT_NOFILE: plan.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_SIGPENDING: 256,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
    }
    if plan.rung is Rung.NAMESPACES or plan.uid is not None:
        # Elsewhere this would count the user's other processes; the watchdog counts there.
        bounds[resource.RLIMIT_NPROC] = plan.processes
    for kind, value in bounds.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _map_ids(uid: int, gid: int) -> None:
    """Who this process is in its new user namespace; outside it has these ids."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{INNER_ID} {uid} 1")
    _write("/proc/self/gid_map", f"{INNER_ID} {gid} 1")


def _bound_namespace() -> None:
    for name, value in _OF_NAMESPACE.items():
        with contextlib.suppress(OSError):  # one more bound; a container may show /proc/sys read-only
            _write(f"/proc/sys/user/{name}", str(value))


def _drop_rights(plan: Plan) -> None:
    kernel.drop_bounding_set()
    if plan.uid is not None:
        os.setgroups(plan.groups)
        os.setresgid(plan.uid, plan.uid, plan.uid)
        os.setresuid(plan.uid, plan.uid, plan.uid)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _die_with_the_warm_process(life: int, *, kept: bool) -> None:
    """`life` is a pipe whose only writer is the warm process. The parent's death also sends a signal whose
    handler looks at the pipe, so even a busy supervisor notices; armed after every change of identity, which
    clears it. Any process may send the signal: harmless.
    A supervisor with a keeper goes with that too, and takes the jail along itself.
    """
    parent = os.getppid()

    def look(_signal: int, _frame: FrameType | None) -> None:
        if kept and os.getppid() != parent:
            keeper.sweep()
            os._exit(1)
        if not kept and select.select([life], [], [], 0)[0]:
            os._exit(1)

    signal.signal(signal.SIGUSR1, look)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGUSR1)
    look(0, None)


def _null_stdio() -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def _address_space() -> int:
    """Bytes mapped by this process: what a fork of the warm process starts with, added to its allowance."""
    with open("/proc/self/statm", "rb") as file:  # text would load a codec in each jail
        return int(file.read().split()[0]) * resource.getpagesize()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
