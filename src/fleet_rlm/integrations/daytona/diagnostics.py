"""Is this sandbox server fit for work? Step by step, each with its time; a failure comes with cause and mend."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from fleet_rlm.errors import FleetError, SandboxError, SandboxUnavailable
from fleet_rlm.integrations.daytona.filesystem import Files, file_errors
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.said import cut_between_words
from fleet_rlm.integrations.daytona.settings import DaytonaSettings
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec, VolumeMountSpec

REACH_S = 10.0
VOLUME = "fleet-diagnostics"
LABEL = "fleet.diagnose"
TTL_MINUTES = 15
_NETWORK_PROBE = """
import socket
try:
    socket.create_connection(("1.1.1.1", 53), timeout=3).close()
    print("open")
except OSError as error:
    print("closed")
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried. `cause` and `mend` are given when it failed; `ms` is its time."""

    name: str
    ok: bool
    detail: str
    ms: float
    cause: str | None = None
    mend: str | None = None


class _Failed(Exception):
    """A step's own finding."""

    def __init__(self, detail: str, cause: str, mend: str) -> None:
        super().__init__(detail)
        self.detail, self.cause, self.mend = detail, cause, mend


def diagnose(settings: DaytonaSettings) -> Iterator[Step]:
    """Try everything that a run needs, in order, in two small sandboxes. It ends at the first step that the rest needs.

    Whatever happens, its sandboxes are deleted.
    """
    probe = _Probe(settings)
    try:
        for name, act, needed in probe.steps():
            step = _tried(name, act, settings)
            yield step
            if needed and not step.ok:
                return
    finally:
        probe.close()


class _Probe:
    """The steps and what they hand on to each other."""

    def __init__(self, settings: DaytonaSettings) -> None:
        self._settings = settings
        self._runtime = SandboxRuntime(settings)
        self._labels = {LABEL: uuid.uuid4().hex}
        self._handle: SandboxHandle | None = None
        self._runtime.call(asyncio.sleep(0))  # the SDK has been loaded then, which is no step's time

    def steps(self) -> list[tuple[str, Callable[[], str], bool]]:
        """Name, act, and whether the steps after it need it."""
        return [
            ("reach", self._reach, True),
            ("authenticate", self._authenticate, True),
            ("create", self._create, True),
            ("run", self._run, False),
            ("write and read", self._write, False),
            ("mount", self._mount, False),
            ("network policy", self._network, False),
            ("delete", self._delete, False),
        ]

    def close(self) -> None:
        self._runtime.close()  # deletes what this runtime made

    def _reach(self) -> str:
        address = urlsplit(self._settings.api_url)
        port = address.port or (443 if address.scheme == "https" else 80)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise _Failed(
                f"{self._settings.api_url!r} is no http address", "the address is mistyped", "set DAYTONA_API_URL"
            )
        try:
            socket.create_connection((address.hostname, port), REACH_S).close()
        except socket.gaierror:
            cause = "the name is unknown: mistyped, or no DNS here"
            raise _Failed(f"{address.hostname} is not known", cause, "check DAYTONA_API_URL and the network") from None
        except OSError as error:
            cause = "no server listens there, or a firewall is between"
            mend = "check DAYTONA_API_URL; start the server"
            raise _Failed(f"{address.hostname} port {port}: {error}", cause, mend) from None
        return f"{address.hostname} port {port} answers"

    def _authenticate(self) -> str:
        self._runtime.list(self._labels)
        return "the key is accepted"

    def _create(self) -> str:
        self._handle = self._runtime.create(SandboxSpec(labels=self._labels, ttl_minutes=TTL_MINUTES))
        return f"sandbox {self._handle.id[:13]} started"

    def _run(self) -> str:
        with DaytonaInterpreter(runtime=self._runtime, labels=self._labels) as interpreter:
            answer = interpreter.execute("import sys\nprint(6 * 7, sys.version.split()[0])")
        if not str(answer).startswith("42 "):
            raise _Failed(f"6 * 7 gave {str(answer)[:100]!r}", "the sandbox image is unusual", "use Daytona's default")
        return f"Python {str(answer)[3:].strip()} answers through the channel"

    def _write(self) -> str:
        files = Files(self._runtime, self._made)
        data = uuid.uuid4().bytes * 4096
        files.write("fleet-diagnostics.bin", data)
        if files.read("fleet-diagnostics.bin") != data:
            raise _Failed("64 KiB came back changed", "the server's file API is broken", "report it to its operator")
        files.delete("fleet-diagnostics.bin")
        return "64 KiB there and back"

    def _mount(self) -> str:
        mount = VolumeMountSpec(VOLUME, "/diagnose", self._labels[LABEL])
        handle = self._runtime.create(SandboxSpec(labels=self._labels, mounts=(mount,), ttl_minutes=TTL_MINUTES))
        files = Files(self._runtime, handle, "/diagnose", whole_objects=True)
        files.write("object", b"fleet")
        same = files.read("object") == b"fleet"
        files.delete("object")
        self._runtime.delete(handle)
        if not same:
            raise _Failed("an object came back changed", "the volume is not mounted as asked", "report it")
        return f"volume {VOLUME} takes and gives an object"

    def _network(self) -> str:
        box = self._runtime.sandbox(self._made)
        with file_errors("the network probe"):
            found = self._runtime.call(box.process.exec(f"python3 -c '{_NETWORK_PROBE}'", timeout=20))
        if "closed" not in str(found.result):
            raise _Failed(
                "a sandbox that was made without network reaches the Internet",
                "the server ignores network policy (Daytona: tiers 1 and 2 cannot set it)",
                "use an organization of a higher tier, or accept that model-written code has network",
            )
        return "a sandbox without network has none"

    def _delete(self) -> str:
        self._runtime.delete_now(self._made)
        if self._runtime.call(self._runtime.runs(self._made)):
            raise _Failed(
                "the sandbox still runs after its deletion",
                "the key may lack the permission to delete",
                "give the key the permission to delete sandboxes, or they pile up",
            )
        return "deleted and gone"

    @property
    def _made(self) -> SandboxHandle:
        if self._handle is None:
            raise SandboxUnavailable("there is no sandbox")
        return self._handle


def _tried(name: str, act: Callable[[], str], settings: DaytonaSettings) -> Step:
    started = time.perf_counter()

    def step(ok: bool, detail: str, cause: str | None = None, mend: str | None = None) -> Step:
        return Step(name, ok, detail, round((time.perf_counter() - started) * 1000, 1), cause, mend)

    try:
        return step(True, act())
    except _Failed as found:
        return step(False, found.detail, found.cause, found.mend)
    except FleetError as error:
        return step(False, error.message, *_cause(error, settings))
    except RuntimeError as error:  # what an interpreter raises
        return step(
            False,
            cut_between_words(str(error), 300),
            "the Python in the sandbox does not answer",
            "see the server's log",
        )


def _cause(error: FleetError, settings: DaytonaSettings) -> tuple[str, str]:
    """The likely cause of a failed request, and what to do."""
    below = error.__cause__
    status = getattr(below, "status_code", None)
    local = settings.provider == "local"
    key = "restart fleet" if local else "check DAYTONA_API_KEY: it may be mistyped, expired or of another organization"
    known = {
        401: ("the key is not accepted", key),
        403: ("the key lacks a permission", "give the key permission to read, write and delete sandboxes and volumes"),
        402: ("the account has no credit", "look at the organization's billing page"),
        429: ("too many requests or sandboxes at once", "wait a minute, or delete sandboxes that nobody uses"),
        507: ("the disk is full", "free some space in the data folder"),
    }
    if status in known:
        return known[status]
    if type(below).__name__ == "ValidationError":
        return (
            "the server is of another version than the SDK (a self-hosted 0.190 needs the SDK of its own line)",
            "install a matching daytona package, or use Daytona's cloud",
        )
    if status is not None and status >= 500:
        return "the server fails inside", "try again; see the server's log" if local else "see Daytona's status page"
    if isinstance(error, SandboxError) and status is None:
        return "the connection failed or timed out", "check the network and the proxy settings (NO_PROXY)"
    return "the server refused it", error.hint or "see the message"
