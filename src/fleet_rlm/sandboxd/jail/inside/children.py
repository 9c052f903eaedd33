"""Starting a process of a jail: a program, a login shell, or a warm script in a fork."""

import atexit
import contextlib
import fcntl
import functools
import importlib
import os
import resource
import signal
import sys
import termios
import threading
import traceback
from collections.abc import Mapping
from io import TextIOWrapper
from typing import cast

from . import kernel, landlock
from .plan import Plan, Rung, Start
from .scripts import Script

_EXEC_FAILED = 127
_FIRST_TO_GO, _KEPT = b"1000", b"200"  # when memory runs out
_ABOVE = 24  # fds from here on are out of the way of those that a program is given


def launch(start: Start, scripts: Mapping[str, Script], plan: Plan, mark: int) -> tuple[int, int]:
    """Fork the process. Gives its pid and a fd that ends when it runs, or yields `errno text` when it cannot.

    `mark` is the fd of the caller's oom_score_adj: set while it forks, so that the child has it instead."""
    report, tell = os.pipe()
    os.pwrite(mark, _FIRST_TO_GO, 0)
    try:
        pid = os.fork()
    except OSError:
        os.pwrite(mark, _KEPT, 0)
        raise
    if pid:
        os.pwrite(mark, _KEPT, 0)
        os.close(tell)
        os.set_blocking(report, False)
        return pid, report
    code = _EXEC_FAILED
    try:
        tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        code = _become(start, scripts, plan, tell)
    except OSError as error:
        os.write(tell, f"{error.errno or 5} {error.strerror or error}".encode()[:4000])
    finally:
        os._exit(code)


def _become(start: Start, scripts: Mapping[str, Script], plan: Plan, tell: int) -> int:  # noqa: RET503  the last call never returns
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    _take_stdio(start, tell)
    if plan.cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (plan.cpu_s, plan.cpu_s + 1))
    os.chdir(start.cwd)
    if plan.rung is Rung.LANDLOCK:
        landlock.keep_signals_in()  # one more domain: none of its signals reaches the supervisor
    script = scripts.get(start.script or "")
    if script is not None:
        os.close(tell)
        return _run_script(script, start)
    argv = start.argv or _login_shell()
    os.execvpe(argv[0], argv, start.env)  # noqa: S606  it is the purpose


def _take_stdio(start: Start, tell: int) -> None:
    if start.tty and start.stdio[0] is not None:
        fcntl.ioctl(start.stdio[0], termios.TIOCSCTTY, 0)
    # First out of the way: what was received as 4 may have to become 3 while 3 is still to be moved.
    moved = [None if fd is None else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in start.stdio]
    for target, fd in enumerate(moved):
        if fd is not None:
            os.dup2(fd, target)
    kernel.close_all_but({tell, *range(3, len(moved))})


def _login_shell() -> list[str]:
    for path in ("/bin/bash", "/usr/bin/bash"):
        if os.access(path, os.X_OK):
            return [path, "-i", "-l"]
    return ["/bin/sh", "-i"]


@functools.cache
def own_modules() -> tuple[str, ...]:
    """The names of this package's modules. Found out ahead: looking at every module in a fork would copy them all."""
    package = __name__.partition(".")[0]
    return tuple(name for name in sys.modules if name.partition(".")[0] == package)


def reseed() -> None:
    """Give numpy's global generator, if it is loaded, a seed of its own: `random` takes one after a fork, it does
    not. A fork that does this copies the pages of all the code that it takes, so it is done ahead where it can be."""
    if "numpy.random" in sys.modules:
        importlib.import_module("numpy.random").seed()


def _run_script(script: Script, start: Start) -> int:
    """Run a warm script as `__main__` in this fork; gives its exit code."""
    env = start.env
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["<warm>"]
    # The interpreter started before this environment was known: packages of a snapshot come in here.
    sys.path[:0] = [folder for folder in env.get("PYTHONPATH", "").split(":") if folder and folder not in sys.path]
    # The streams of the warm process, unused until now, are on these descriptors; UTF-8 by its -X utf8.
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=os.isatty(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as in any Python process
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if not start.first:  # the first one has the seed that the warm process drew for this jail
        reseed()
    for name in own_modules():
        sys.modules.pop(name, None)
    result = _exit_code(script)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  there is no public word for it
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return result


def _exit_code(script: Script) -> int:
    try:
        script.start()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 0xFF
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001  the outermost frame of that process, as the interpreter does it
        traceback.print_exc()
        return 1
    return 0
