"""The proof of isolation at start: a jailed 1+1, and escapes that must fail."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_rlm.sandboxd.jail import canary, identity
from fleet_rlm.sandboxd.jail.handle import Jail
from fleet_rlm.sandboxd.jail.inside import landlock, wire
from fleet_rlm.sandboxd.jail.memory import MemoryGroups
from fleet_rlm.sandboxd.jail.spec import Isolation, JailClosed, JailSpec, NoIsolation, Rung
from fleet_rlm.sandboxd.jail.system import EXECUTABLE, environment

_PROOF_S = 30.0
_MAX_OUTPUT = 64 * 1024
_OFFER = "or use Daytona's cloud; --unsafe-no-sandbox runs code with all your rights"
_DEGRADED_OFFER = "or accept weaker isolation by --allow-degraded (Landlock)"
_REFUSALS = (
    *("clone", "unshare", "mount", "open_tree", "move_mount", "mount_setattr", "pivot_root", "seccomp", "capset"),
    "landlock",
)
_NAMESPACES = "code runs in its own namespaces behind {walls}, without network; {memory}; the kernel is shared"
_LANDLOCK = (
    "degraded: code is held by Landlock and a system call filter alone; names and metadata of the host's files are "
    "visible, there is no process namespace and no network, survivors are swept by the host, /tmp and the disk have "
    "soft bounds; {memory}; the kernel is shared"
)
_NONE = "no isolation: code runs with all rights of this user, because it was asked for"

Spawn = Callable[[JailSpec], Awaitable[Jail]]


@dataclass(frozen=True, slots=True)
class _Aims:
    """What the canary tries to reach on the host."""

    canary: Path
    listener: socket.socket
    victim: subprocess.Popen[bytes]


async def prove(spawn: Spawn, data_dir: Path, rung: Rung, groups: MemoryGroups | None) -> Isolation:
    """Start a jail, let the canary try its escapes, and say what was reached. NoIsolation when any worked."""
    folder = Path(tempfile.mkdtemp(prefix="proof-", dir=data_dir))
    try:
        with contextlib.ExitStack() as stack:
            aims = _aims(folder, stack)
            jail = await spawn(JailSpec(id="proof", workspace=folder / "workspace"))
            try:
                text = await asyncio.wait_for(_run_canary(jail, aims), _PROOF_S)
            finally:
                await jail.kill()
            _judge(text, aims, jail.uid)
    except TimeoutError:
        raise NoIsolation(f"the jailed 1+1 gave no answer in {_PROOF_S:.0f} s: is this machine overloaded?") from None
    except JailClosed as error:
        raise NoIsolation(f"the proof's sandbox ended by itself ({error}): see the words above, {_OFFER}") from error
    except OSError as error:  # whatever step of making a jail the machine refuses, the answer is the same
        raise NoIsolation(explain(str(error), error.errno or 0)) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return _isolation(rung, groups)


def unsafe() -> Isolation:
    """What is said where nothing is proved."""
    return Isolation(rung=4, name=Rung.NONE, detail=_NONE, ok=False, advice="start without --unsafe-no-sandbox")


def check_landlock(data_dir: Path) -> None:
    """NoIsolation where Landlock is too weak to stand alone, or where, as root, jails could not reach what they
    need: their ids are nobody's, and there is no mount namespace that could show it to them."""
    if (version := landlock.abi()) < landlock.DEGRADED_ABI:
        raise NoIsolation(
            f"Landlock of this kernel has version {version}, and below {landlock.DEGRADED_ABI} (Linux 6.12) it lets "
            f"signals out: {cure(0)}, {_OFFER}"
        )
    if os.geteuid() != 0:
        return
    for what, path in (("the data folder", data_dir), ("Python", Path(EXECUTABLE).resolve())):
        if (closed := identity.closed_above(path)) is not None:
            raise NoIsolation(
                f"started as root and without namespaces, sandboxes need {what} where every user may go, but "
                f"{closed} is closed: choose another place, or start the server as a normal user"
            )


def failure(error: wire.Message) -> Exception:
    """What is raised for an error that a half-made jail told."""
    text, number = str(error.get("text", "")), int(error.get("errno", 0))
    return NoIsolation(explain(text, number)) if _is_refusal(text) else OSError(number or 5, text)


def _is_refusal(text: str) -> bool:
    """Whether an error's text says that the kernel refused a step of the jail, not that a folder is missing."""
    return text.startswith(_REFUSALS) or "uid_map" in text or "setgroups" in text


def explain(text: str, number: int) -> str:
    """One sentence: what the kernel refused and how to get it."""
    offer = f"{_DEGRADED_OFFER}, {_OFFER}" if landlock.abi() >= landlock.DEGRADED_ABI else _OFFER
    return f"this machine refused to isolate code ({text}): {cure(number)}, {offer}"


def _isolation(rung: Rung, groups: MemoryGroups | None) -> Isolation:
    memory = "memory of the whole tree is bounded by "
    memory += "a watchdog" if groups is None else f"{groups.name} and a watchdog"
    advice = ""
    if groups is None:
        advice = "for a hard bound on memory start the server by `systemd-run --user --scope -p Delegate=yes`"
    if rung is Rung.LANDLOCK:
        return Isolation(rung=2, name=rung, detail=_LANDLOCK.format(memory=memory), ok=True, advice=cure(0))
    version = landlock.abi()
    walls = "a system call filter"
    walls += (
        f" and Landlock (version {version})" if version >= landlock.USEFUL_ABI else " (this kernel has no Landlock)"
    )
    detail = _NAMESPACES.format(walls=walls, memory=memory)
    return Isolation(rung=1, name=rung, detail=detail, ok=True, advice=advice)


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def cure(number: int, read: Callable[[str], str] = _sysctl) -> str:
    """How to get namespaces here. `number`: the errno with which they were refused, 0 when unknown; `read` gives
    a setting of the kernel, empty when it has none of that name."""
    if read("kernel/apparmor_restrict_unprivileged_userns") == "1":
        profile = f"profile fleet {Path(EXECUTABLE).resolve()} flags=(unconfined) {{ userns, }}"
        return (
            "AppArmor (Ubuntu 23.10 and later) keeps user namespaces from programs without a profile: put "
            f"'abi <abi/4.0>, {profile}' into /etc/apparmor.d/fleet and run `sudo apparmor_parser -r "
            "/etc/apparmor.d/fleet`; switching the rule off for all programs is not needed"
        )
    if read("user/max_user_namespaces") == "0" or number == 28:
        return "raise the sysctl user.max_user_namespaces"
    if read("kernel/unprivileged_userns_clone") == "0":
        return "set the sysctl kernel.unprivileged_userns_clone to 1"
    if os.geteuid() == 0:
        return "in a container, give it CAP_SYS_ADMIN and a seccomp profile that allows unshare and mount"
    return "in a container, use a seccomp profile that allows unshare and mount, and an unmasked /proc"


def _aims(folder: Path, stack: contextlib.ExitStack) -> _Aims:
    path = folder / "canary"
    path.write_text(secrets.token_hex(16))
    path.chmod(0o644)
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.setblocking(False)
    victim = subprocess.Popen(["sleep", "120"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(victim.wait)
    stack.callback(victim.kill)
    return _Aims(path, listener, victim)


async def _run_canary(jail: Jail, aims: _Aims) -> str:
    aim = {"canary": str(aims.canary), "port": aims.listener.getsockname()[1], "victim": aims.victim.pid}
    source = await asyncio.to_thread(Path(canary.__file__).read_text)
    process = await jail.run(["python3", "-I", "-S", "-c", source, json.dumps(aim)])
    try:
        code = await process.wait()
        # A pipe holds 64 KiB; the canary writes one short line, so nothing is lost by reading at the end.
        text = os.read(process.stdout, _MAX_OUTPUT).decode(errors="replace").strip()
    finally:
        process.close()
    if code != 0:
        raise NoIsolation(f"Python does not run in the sandbox (exit {code}): {text.splitlines()[-1:] or 'no output'}")
    return text


def _judge(text: str, aims: _Aims, uid: int | None) -> None:
    try:
        said: dict[str, Any] = json.loads(text)
        answer, escapes, names = said["answer"], list(said["escapes"]), set(said["env"])
        seen_uid = int(said["uid"])
    except (ValueError, KeyError, TypeError) as error:
        raise NoIsolation(f"the proof's answer is unreadable: {text[:200]!r}") from error
    with contextlib.suppress(BlockingIOError):
        aims.listener.accept()[0].close()
        escapes.append("host network")
    if aims.victim.poll() is not None:
        escapes.append("host process killed")
    if uid is not None and seen_uid != uid:
        escapes.append(f"runs as uid {seen_uid}")
    strange = names - set(environment("", {}, "", ""))
    if strange:
        escapes.append(f"environment has {', '.join(sorted(strange)[:3])}")
    if answer != 2 or escapes:
        raise NoIsolation(f"a canary escaped the jail ({'; '.join(escapes) or 'wrong answer'}): no code will run here")
