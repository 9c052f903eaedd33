"""One sandbox for a whole session: made, stopped between turns, started again, released.

Files always continue, because they are on the sandbox's disk. Variables continue by a checkpoint that the worker
makes and reads inside the sandbox; what could not be kept is listed, with the reason.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from fleet_rlm.errors import InvalidInput, NotFound, SandboxUnavailable
from fleet_rlm.integrations.daytona.creation import state_of
from fleet_rlm.integrations.daytona.filesystem import Files, file_errors
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.request import RESTORE_FUNCTION, SAVE_FUNCTION
from fleet_rlm.integrations.daytona.retry import retried
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec
from fleet_rlm.integrations.daytona.transport import Transport

if TYPE_CHECKING:
    from daytona import AsyncSandbox

SESSION_LABEL = "fleet.session"
PURPOSE = {"fleet.purpose": "session"}
KEPT_FOLDER = ".fleet/variables"
TTL_MINUTES = 7 * 24 * 60
CLONE_S = 30 * 60.0
LIFE_S = 90.0


class LostVariable(msgspec.Struct, frozen=True):
    """A variable that does not continue, and why."""

    name: str
    reason: str


class Checkpoint(msgspec.Struct, frozen=True):
    """The variables that a checkpoint holds (or brought back), and those that it could not."""

    kept: list[str] = []
    lost: list[LostVariable] = []


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository at a branch, tag or commit. The token reaches the server, never the sandbox's files."""

    url: str
    ref: str | None = None
    username: str | None = None
    token: str | None = field(default=None, repr=False)


class SessionSandbox:
    """The sandbox of one session. Errors: SandboxUnavailable, NotFound, InvalidInput."""

    def __init__(self, runtime: SandboxRuntime, handle: SandboxHandle, session: str) -> None:
        self._runtime = runtime
        self.handle = handle
        self.session = session
        self.files = Files(runtime, handle)
        self.interpreter: DaytonaInterpreter | None = None

    def open(self, **options: Any) -> tuple[DaytonaInterpreter, Checkpoint]:
        """An interpreter in this sandbox, with the variables of the last checkpoint; options as for the class.

        Its `shutdown` ends Python and leaves the sandbox. One at a time.
        """
        self.close()
        interpreter = DaytonaInterpreter(runtime=_Held(self._runtime, self.handle), **options)
        self.interpreter = interpreter
        return interpreter, self._told(interpreter, RESTORE_FUNCTION)

    def checkpoint(self) -> Checkpoint:
        """Keep the variables of the open interpreter; nothing to keep when there is none."""
        return Checkpoint() if self.interpreter is None else self._told(self.interpreter, SAVE_FUNCTION)

    def close(self) -> None:
        """End the open interpreter, without a checkpoint."""
        interpreter, self.interpreter = self.interpreter, None
        if interpreter is not None:
            interpreter.shutdown()

    def stage(self, local: Path, path: str) -> int:
        """Copy a local file, or all regular files of a folder, into the workspace; how many."""
        if local.is_file():
            self.files.upload(local, path)
            return 1
        if not local.is_dir():
            raise NotFound(f"{local} is neither a file nor a folder")
        found = [each for each in sorted(local.rglob("*")) if each.is_file() and not each.is_symlink()]
        for each in found:
            self.files.upload(each, f"{path}/{each.relative_to(local).as_posix()}")
        return len(found)

    def check_out(self, repository: Repository, path: str = "repository") -> None:
        """Clone a repository at its ref. The network is open to its host alone, and for no longer than that."""
        address = urlsplit(repository.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidInput(f"{repository.url[:200]!r} is no http(s) address of a repository")
        if address.username or address.password:
            raise InvalidInput("the repository's address holds a password", hint="give the token by itself")
        box = self._runtime.sandbox(self.handle)
        token = repository.token
        try:
            with file_errors(f"repository {repository.url}" + (f" at {repository.ref}" if repository.ref else "")):
                self._runtime.call(_clone(box, repository, f"{self.files.root}/{path}"), CLONE_S)
        except (InvalidInput, NotFound, SandboxUnavailable) as error:
            if token and token in error.message:
                raise type(error)(error.message.replace(token, "•••")) from None
            raise
        if token and token.encode() in self.files.read(f"{path}/.git/config"):
            self.files.delete(path, recursive=True)
            raise SandboxUnavailable("the server wrote the token into the clone, which was deleted")

    def _told(self, interpreter: DaytonaInterpreter, function: str) -> Checkpoint:
        folder = f"{self.files.root}/{KEPT_FOLDER}"
        answer = interpreter.execute(f"{function}({folder!r})")
        try:
            return msgspec.convert(json.loads(str(answer).splitlines()[-1]), Checkpoint)
        except (ValueError, IndexError, RecursionError):
            raise SandboxUnavailable("the sandbox did not say which variables it kept") from None


class SessionSandboxes:
    """The sandboxes of sessions on one server; at most one for each."""

    def __init__(self, runtime: SandboxRuntime) -> None:
        self._runtime = runtime

    def create(self, session: str, *, labels: Mapping[str, str] | None = None) -> SessionSandbox:
        """A new sandbox for a session, without network, which outlives this process (it has a time to live)."""
        marks = {**(labels or {}), **PURPOSE, SESSION_LABEL: session}
        spec = SandboxSpec(labels=marks, ttl_minutes=TTL_MINUTES, ephemeral=False)
        return SessionSandbox(self._runtime, self._runtime.create(spec), session)

    def resume(self, session: str) -> SessionSandbox:
        """The session's sandbox, started. NotFound when there is none (any more)."""
        return SessionSandbox(self._runtime, self._runtime.call(self._resume(session), LIFE_S), session)

    def pause(self, sandbox: SessionSandbox) -> Checkpoint:
        """Keep the variables, then stop the sandbox; its files stay."""
        kept = sandbox.checkpoint()
        sandbox.close()
        box = self._runtime.sandbox(sandbox.handle)
        with file_errors(f"sandbox of session {sandbox.session}"):
            self._runtime.call(retried(lambda: box.stop()), LIFE_S)
        self._runtime.forget(sandbox.handle)
        return kept

    def release(self, session: str) -> int:
        """Delete the session's sandbox with its files; how many there were."""
        return self._runtime.delete_labelled({**PURPOSE, SESSION_LABEL: session})

    async def _resume(self, session: str) -> SandboxHandle:
        found = await self._runtime.find({**PURPOSE, SESSION_LABEL: session})
        for listed in found:  # a list may lag: what counts is what the server says of each
            with file_errors(f"sandbox of session {session}"):
                box = await retried(lambda listed=listed: self._runtime.client.sdk().get(listed.id))
                if state_of(box) in ("stopped", "stopping", "archived"):
                    await box.start()
                if state_of(box) in ("started", "starting"):
                    return self._runtime.adopt(box, lasting=True)
        raise NotFound(f"session {session} has no sandbox (any more)")


class _Held:
    """A `SandboxSource` of one sandbox, which it does not delete."""

    def __init__(self, runtime: SandboxRuntime, handle: SandboxHandle) -> None:
        self._runtime = runtime
        self._handle = handle
        self.contexts_root = runtime.contexts_root

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._runtime.loop

    @property
    def provider(self) -> str:
        return self._runtime.provider

    @property
    def isolation(self) -> str:
        return self._runtime.isolation

    async def acquire(self, spec: SandboxSpec) -> SandboxHandle:
        return self._handle

    def marks(self, spec: SandboxSpec) -> Mapping[str, tuple[str, str]]:
        return self._runtime.marks(spec)

    def terminal(self, handle: SandboxHandle) -> Transport:
        return self._runtime.terminal(handle)

    def delete(self, handle: SandboxHandle) -> None:
        return  # the worker ended with its channel; the sandbox belongs to the session

    def retire(self, handle: SandboxHandle) -> None:
        self.delete(handle)


async def _clone(box: AsyncSandbox, repository: Repository, path: str) -> None:
    address = urlsplit(repository.url)
    host, port = address.hostname or "", f":{address.port}" if address.port else ""
    allowed: dict[str, Any]
    try:
        allowed = {"network_allow_list": f"{ipaddress.ip_network(host)}{port}"}
    except ValueError:
        allowed = {"domain_allow_list": f"{host}{port}"}
    ref = repository.ref
    commit = ref if ref and len(ref) == 40 and all(c in "0123456789abcdef" for c in ref) else None
    await box.update_network_settings(network_block_all=False, **allowed)
    try:
        await box.git.clone(
            repository.url,
            path,
            branch=None if commit else ref,
            commit_id=commit,
            username=repository.username or ("git" if repository.token else None),
            password=repository.token,
        )
    finally:
        await box.update_network_settings(network_block_all=True)
