"""The warm process: one thread, a clean environment, the offered packages loaded; it forks a jail's first process on
request, which waits for its plan."""

# Kernel-level code: paths are relative to fds and stages, and pathlib would add only cost.
# ruff: noqa: PTH123

import contextlib
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Sequence

from . import arenas, children, enter, kernel, seccomp, wire
from .plan import Plan, Rung, Shape, System
from .scripts import Script, prepare
from .supervisor import Supervisor

# What a small Python program imports anyway; every jail then shares it.
_STANDARD = """
    ast asyncio base64 codeop collections contextlib csv ctypes dataclasses datetime decimal enum fractions
    functools hashlib heapq inspect io itertools json linecache math operator os pathlib pickle queue random
    re select shutil signal socket statistics string struct subprocess tempfile termios textwrap threading
    time tokenize traceback tty types typing unicodedata uuid zlib
""".split()  # noqa: SIM905  a list of fifty lines reads worse
_ARENAS = 24  # what all of it, numpy and pandas included, takes on CPython 3.11


def main(control_fd: int) -> None:
    """Read the system, warm up, then fork one first process per packet until the server is gone."""
    control = socket.socket(fileno=control_fd)
    system = _read_system(control)
    sys.path.append(system.import_path)
    reserved = arenas.reserve(_ARENAS)
    loaded = _load(_STANDARD) + _load(system.preload)
    scripts = prepare(system.scripts)
    _find_out_ahead()
    _plain_signals()
    # Ended children vanish by themselves; a jail whose fork in between has ended is a child of this process.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    _raise_open_files()
    life, _life_end = os.pipe()  # nobody writes: it ends for the jails when this process does
    gc.collect()
    del reserved
    gc.freeze()
    arenas.collapse()
    wire.send(control, {"ready": True, "loaded": loaded, "scripts": sorted(scripts)})
    while (received := wire.receive(control)) is not None:
        message, fds = received
        children.reseed()
        _fork(system, scripts, Shape.read(message), fds[0], life)
        os.close(fds[0])


def _fork(system: System, scripts: dict[str, Script], shape: Shape, control_fd: int, life: int) -> None:
    ids = os.getuid(), os.getgid()  # in a new user namespace it could not tell any more
    try:
        pid, pidfd = kernel.fork(enter.namespaces(shape))
    except OSError as error:
        _tell(control_fd, {"error": wire.error_of(error)})
        return
    if pid:
        if shape.rung is not Rung.LANDLOCK:  # there the keeper says it when it can keep
            _tell(control_fd, {"pid": pid}, [pidfd])
        os.close(pidfd)
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel.close_all_but({control_fd, life})
    control = socket.socket(fileno=control_fd)
    try:
        enter.begin(system, shape, ids)
        wire.send(control, {"begun": True})
        plan = _plan(control, life)
        if plan is None:
            return
        words = enter.take(plan, control, life)
        mark = enter.finish(system, plan, control, life, words)
        Supervisor(plan, scripts, control, life, mark, words).run()
    except OSError as error:
        wire.send(control, {"error": wire.error_of(error)})
    except Exception:  # noqa: BLE001  the last frame of this process: the server must hear of it
        wire.send(control, {"error": {"errno": 5, "text": traceback.format_exc()[-2000:]}})
    finally:
        os._exit(0)


def _plan(control: socket.socket, life: int) -> Plan | None:
    """Wait for the plan, for as long as the server and the warm process are there; None when one of them is not."""
    poll = select.poll()
    for fd in (control.fileno(), life):
        poll.register(fd, select.POLLIN)
    if life in dict(poll.poll()):
        return None
    received = wire.receive(control)
    return None if received is None else Plan.read(received[0])


def _tell(control_fd: int, message: wire.Message, fds: Sequence[int] = ()) -> None:
    with contextlib.closing(socket.socket(fileno=os.dup(control_fd))) as control, contextlib.suppress(ConnectionError):
        wire.send(control, message, fds)


def _read_system(control: socket.socket) -> System:
    """The description comes as an unlinked file, since scripts may be larger than a packet."""
    received = wire.receive(control)
    if received is None:
        raise SystemExit(0)
    message, fds = received
    with open(fds[0], encoding="utf-8") as file:
        text = file.read(int(message["size"]))
    return System.read(text)


def _load(names: Iterable[str]) -> list[str]:
    loaded: list[str] = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # not offered by this machine; the report to the server says what is
        loaded.append(name)
    return loaded


def _find_out_ahead() -> None:
    """What every jail would work out for itself, at the price of its own copies."""
    seccomp.program(namespaces=True, own_id=True)
    children.own_modules()


def _plain_signals() -> None:
    """What the server's own parent had ignored is not ignored in a jail; a broken pipe is an error, not an end."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
