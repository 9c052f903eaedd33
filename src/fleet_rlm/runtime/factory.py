"""The one place that wires a workspace from settings.

`open_workspace` is quick: what imports DSPy is loaded on first use or by `prepare`, in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import logging
import os
import secrets
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from fleet_rlm.errors import Conflict, FleetError, SandboxError, StorageError
from fleet_rlm.integrations.database import Database, JournalStore, Sessions
from fleet_rlm.integrations.daytona.local_server import LocalServer, local_server
from fleet_rlm.integrations.daytona.settings import DaytonaSettings
from fleet_rlm.integrations.mcp.client import CONNECT_S as MCP_CONNECT_S
from fleet_rlm.runtime import again, repetition
from fleet_rlm.runtime.acceptance import accepted, checked
from fleet_rlm.runtime.agent.memory import Change, SessionMemory
from fleet_rlm.runtime.compare import compare
from fleet_rlm.runtime.config import Settings, load_settings
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.control import TurnControl
from fleet_rlm.runtime.execution.diff import TurnDiff
from fleet_rlm.runtime.execution.executor import CancelFlag, TurnExecutor
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.recovery import close_interrupted
from fleet_rlm.runtime.execution.replay import Plan
from fleet_rlm.runtime.execution.requests import ForkEdit, Submitted, TurnRequest, TurnResult
from fleet_rlm.runtime.execution.turnstiles import Turnstiles
from fleet_rlm.runtime.kept_clients import KeptClients
from fleet_rlm.runtime.redaction import redactor
from fleet_rlm.runtime.setup import attending, under

if TYPE_CHECKING:
    import dspy

    from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
    from fleet_rlm.runtime.content.fetch import Fetcher
    from fleet_rlm.runtime.models.registry import ModelRegistry
    from fleet_rlm.runtime.turns import TurnRunner

TITLE_CHARS = 60
DEMO_MODEL = "demo/search"
SANDBOX_TOOLS = frozenset({"run_python", "run_shell", "list_files", "read_file", "write_file"})
"""Tools whose use makes a sandbox that outlives the turn."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceStatus:
    """What a person sees at a glance. `isolation` is None until a sandbox server has proved one."""

    version: str
    provider: str
    isolation: str | None
    isolation_detail: str | None
    model: str | None
    model_label: str | None
    demo: bool
    configured: bool
    active_turns: int
    limits: ev.Limits
    warnings: tuple[str, ...] = ()


class Workspace:
    """Everything one data folder has: sessions, journal, contexts, models, sandboxes, turns."""

    def __init__(
        self,
        settings: Settings,
        *,
        own_process: bool = False,
        fetcher: Fetcher | None = None,
        mcp_connect_s: float = MCP_CONNECT_S,
    ) -> None:
        """`own_process`: see open_workspace. `fetcher` None: public addresses only. `mcp_connect_s`: how long an MCP
        server may take to be there."""
        settings.make_home()
        self._own_process = own_process
        self.settings = settings
        self._fetcher = fetcher
        self.present = True
        """Whether somebody is there to answer the questions of turns; a request may say otherwise for its own."""
        self._database = Database(settings.home)
        self.blobs = BlobStore(settings.home)
        self.journal = Journal(JournalStore(self._database), settle=self.blobs.settle)
        self.sessions = Sessions(self._database)
        self.contexts = ContextStore(settings.home)
        self._executor = TurnExecutor()
        self._control = TurnControl(self._executor, self.journal, self.sessions)
        self._lock = threading.RLock()
        self._models: ModelRegistry | None = None
        self._sandboxes: SandboxRuntime | None = None
        self._server: LocalServer | None = None
        self._sandbox_fault: SandboxError | None = None
        self._turnstiles = Turnstiles(settings.home)
        self._mcp = KeptClients(mcp_connect_s)
        self._close_left()

    # -- parts that import DSPy or start a server ---------------------------------------------------------------

    @property
    def models(self) -> ModelRegistry:
        """The model registry of the present settings."""
        with self._lock:
            models = self._models
            if models is None:
                models = self._models = cast("ModelRegistry", _module("models.registry").ModelRegistry(self.settings))
            return models

    @property
    def sandboxes(self) -> SandboxRuntime:
        """The sandbox runtime; the local server starts on its first use."""
        with self._lock:
            sandboxes = self._sandboxes
            if sandboxes is None:
                module = importlib.import_module("fleet_rlm.integrations.daytona.runtime")
                sandboxes = self._sandboxes = cast("SandboxRuntime", module.SandboxRuntime(self.sandbox_settings))
            return sandboxes

    def sandbox_settings(self) -> DaytonaSettings:
        """Where sandboxes come from: Daytona when a key is set, else the local server, which this starts.

        Errors: SandboxError (NoIsolation and others) with the server's own sentence.
        """
        chosen = self.settings
        if chosen.daytona_api_key is not None:
            return DaytonaSettings.cloud(
                api_key=chosen.daytona_api_key.reveal(), api_url=chosen.daytona_api_url, target=chosen.daytona_target
            )
        with self._lock:
            server = self._server
            if server is not None and not server.settings.runs:  # it was killed: the next is another
                server.close()
                server = None
            if server is None:
                try:
                    server = self._server = local_server(
                        home=chosen.home,
                        allow_degraded=chosen.allow_degraded,
                        unsafe_no_sandbox=chosen.unsafe_no_sandbox,
                    )
                except SandboxError as error:
                    self._sandbox_fault = error
                    raise
                self._sandbox_fault = None
            return server.settings

    def configure(self, settings: Settings) -> None:
        """Use other settings from the next turn on (same home)."""
        with self._lock:
            self.settings = settings
            self._models = None

    def prepare(self, *, ahead: bool = False) -> None:
        """Load the engine and start the sandbox server in the background. Faults show in `status` and on use.

        `ahead`: nobody asks yet, so a process of its own also has sandboxes made that wait for the first turn."""
        threading.Thread(target=self._warm, args=(ahead,), name="fleet-prepare", daemon=True).start()

    def _warm(self, ahead: bool) -> None:
        try:
            _ = self.sandbox_settings()
            self.sandboxes.call(asyncio.sleep(0))  # its loop has loaded the SDK by then
            if ahead and self._own_process:
                self.sandboxes.make_ahead()
        except FleetError as error:
            log.warning("sandboxes: %s", error)
        _module("turns")
        self.models.probe_new()
        if self._own_process:
            # A full collection would go through all of DSPy and the SDK, which stay anyway, and hold up every thread
            # for some 150 ms in the middle of a turn.
            gc.freeze()

    # -- turns --------------------------------------------------------------------------------------------------

    def submit(self, request: TurnRequest) -> Submitted:
        """Accept a turn; when this returns, the turn is in the journal and will not be lost.

        Errors: InvalidInput, NotFound (session), NotConfigured, Conflict (a turn of the session is running).
        """
        return self.begin(request)

    def begin(self, request: TurnRequest, plan: Plan | None = None) -> Submitted:
        """See submit. With a plan the turn runs over a journal; `request.origin` says of which turn."""
        settings, request = attending(under(self.settings, request.setup), request, self.present)
        request = checked(request, settings)
        runner = self._runner(settings)
        registry = self.models if request.setup is None else _module("models.registry").ModelRegistry(settings)
        models = runner.bind(request, registry, settings.sub_model)
        clean = redactor(self.settings).also(models.secrets())
        promise = accepted(request, models, settings, clean)
        turn, servers = new_id("trn"), self.settings.mcp

        def start(sid: str, seq: int, past: list[Any]) -> Submitted:
            def work(cancel: CancelFlag) -> TurnResult:
                with self._mcp.using(servers) as mcp:
                    return runner.run(sid, turn, request, models, past, cancel, plan, mcp)

            self._executor.submit(turn, sid, work)
            return Submitted(sid, turn, seq)

        if not (sid := request.session or ""):
            sid = f"ses_{secrets.token_hex(10)}"
            created = ev.SessionCreated(title=request.title or title_of(promise.question))
            first = self.journal.begin(sid, [ev.Draft(created), ev.Draft(promise, turn=turn)])
            return start(sid, first[-1].seq, [])
        with self._turnstiles.alone(sid):
            again = self.sessions.find_turn_by_command(sid, request.command) if request.command else None
            if again is not None:
                return Submitted(sid, again.tid, again.accepted_seq, made_before=True)
            row = self.sessions.get(sid)
            if row.active_turn is not None and self._executor.active(sid) is None:
                self._close_left()  # whoever ran it may have ended since this process began
                row = self.sessions.get(sid)
            if row.active_turn is not None or self._executor.active(sid) is not None:
                raise Conflict("a turn of this session is still running", hint="wait for it or stop it")
            past = self._past(sid, request.origin) if row.turns else []
            seq = self._accept(sid, turn, promise, titled=row.turns == 0 and request.origin is None)
            return start(sid, seq, past)

    def resume(
        self,
        turn: str,
        limits: ev.Limits | None = None,
        *,
        lm: str | dspy.BaseLM | None = None,
        sub_lm: str | dspy.BaseLM | None = None,
        command: str | None = None,
    ) -> Submitted:
        """Go on with a turn that did not come to its end; see `again.resume` for errors.

        Conflict also for a command that was used for something else, as in `fork`.
        """
        with self._once("resume", turn, command):
            made = again.resume(self, turn, limits=limits, given=_given(lm, sub_lm), command=command)
            if command is not None:
                repetition.check_resume(self.journal, made, turn, limits)
            return made

    def replay(self, turn: str, *, command: str | None = None) -> Submitted:
        """A finished turn once more from its journal alone, in a session of its own; see `again.replay`."""
        with self._once("replay", turn, command):
            return again.replay(self, turn, command=command)

    def replay_events(self, events: Iterable[ev.Event]) -> Submitted:
        """The same for what `fleet run --events FILE` wrote; see `again.replay_events`."""
        return again.replay_events(self, events)

    def fork(
        self,
        turn: str,
        edit: ForkEdit,
        *,
        at: int | None = None,
        lm: str | dspy.BaseLM | None = None,
        sub_lm: str | dspy.BaseLM | None = None,
        command: str | None = None,
    ) -> Submitted:
        """A new session that shares the turn's past and differs by `edit`; see `repetition.fork`."""
        given = _given(lm, sub_lm)
        with self._once("fork", turn, command):
            return repetition.fork(self, self._database, turn, edit, at=at, given=given, command=command)

    def diff(self, turn: str, other: str) -> TurnDiff:
        """What differs between two turns, of any sessions; see `turn_diff`. Errors: NotFound."""
        return compare(self, turn, other)

    def silent_model(self, name: str) -> dspy.BaseLM:
        """A model under this name that refuses every call."""
        return cast("dspy.BaseLM", _module("models.recording").silent_model(name))

    def cancel(self, turn: str) -> bool:
        """Stop a running turn; False when it is not running in this process."""
        return self._executor.cancel(turn)

    def cancel_run(self, turn: str, run: str) -> bool:
        """Stop one run of a turn with everything below it; its parent goes on. See `TurnControl.cancel_run`."""
        return self._control.cancel_run(turn, run)

    def set_limits(self, turn: str, limits: Mapping[str, Any]) -> ev.Limits:
        """Other limits for a running turn, by their names in `Limits`. See `TurnControl.set_limits`."""
        return self._control.set_limits(turn, limits)

    def answer(self, turn: str, approval: str, answer: str | None) -> None:
        """A person's answer to a question that a run waits for; None: the rule's. See `TurnControl.answer`."""
        self._control.answer(turn, approval, answer)

    def wait(self, turn: str, timeout: float | None = None) -> TurnResult:
        """The result of a turn of this process. Errors: NotFound, TimeoutError."""
        return self._executor.wait(turn, timeout)

    def active_turn(self, session: str) -> str | None:
        """The turn that runs in a session of this process."""
        return self._executor.active(session)

    def delete_session(self, session: str) -> None:
        """Delete a session's journal, and the sandbox that its agent used, with the files in it.

        Errors: NotFound; Conflict while a turn runs in it.
        """
        tools = {event.data.name for event in self.journal.of_type(session, ev.ToolStarted.type)}  # pyright: ignore[reportAttributeAccessIssue]
        self.journal.delete(session)
        if tools & SANDBOX_TOOLS:
            module = importlib.import_module("fleet_rlm.integrations.daytona.continuity")
            try:
                module.SessionSandboxes(self.sandboxes).release(session)
            except SandboxError as error:  # no server to be had: its time to live has to do
                log.warning("the sandbox of the deleted session %s could not be released: %s", session, error)

    def memory(self, session: str) -> SessionMemory:
        """The core memory of a session, to read it and its edits."""
        return SessionMemory(self.journal, session, clean=redactor(self.settings))

    def set_memory(self, session: str, block: str, text: str | None) -> Change:
        """A person's edit of a block; None empties it.

        Errors: NotFound, InvalidInput (name, sizes), Conflict while a turn of another process runs in the session.
        """
        return self.memory(session).set(block, text, "person")

    def undo_memory(self, session: str, seq: int) -> Change:
        """Give a block the text it had before the edit at `seq`. Errors: as `set_memory`."""
        return self.memory(session).undo(seq)

    def status(self) -> WorkspaceStatus:
        """A quick look: nothing is loaded or started for it."""
        chosen = self.settings
        fault, server = self._sandbox_fault, self._server
        cloud = chosen.daytona_api_key is not None
        demo = chosen.model == DEMO_MODEL
        return WorkspaceStatus(
            version=importlib.metadata.version("fleet-rlm"),
            provider="daytona" if cloud else "local",
            isolation="daytona" if cloud else server.settings.isolation if server else None,
            isolation_detail=str(fault) if fault else None,
            model=chosen.model,
            model_label="search program, no AI model" if demo else chosen.model,
            demo=demo,
            configured=chosen.model is not None,
            active_turns=len(self._executor.running()),
            limits=chosen.limits,
            warnings=(str(fault),) if fault else (),
        )

    def close(self) -> None:
        """Stop what runs, write what is pending, end the local server. Idempotent."""
        self._executor.close()
        self._mcp.close()
        with self._lock:
            sandboxes, self._sandboxes = self._sandboxes, None
            server, self._server = self._server, None
        if sandboxes is not None:
            sandboxes.close()
        if server is not None:
            server.close()
        self.journal.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _runner(self, settings: Settings) -> TurnRunner:
        return _module("turns").TurnRunner(
            journal=self.journal,
            blobs=self.blobs,
            contexts=self.contexts,
            sandboxes=self.sandboxes,
            redact=redactor(settings),
            kit=_module("agent.toolset").AgentKit(groups=settings.tools, fetcher=self._fetcher),
            call_width=settings.call_width,
            variable_mode=settings.variable_mode,
            at_limit=settings.at_limit,
            policy=settings.policy,
        )

    def _close_left(self) -> None:
        """Close the turns that dead processes left. A disk that refuses it for now keeps nobody from reading."""
        try:
            close_interrupted(self.journal, self.sessions, self.settings.home)
        except StorageError as error:
            log.warning("a turn whose process ended is not closed yet: %s", error)

    def _once(self, kind: str, turn: str, command: str | None) -> AbstractContextManager[object]:
        """The same command twice at once, also in two processes, is done one after the other, so that the second finds
        what the first made."""
        return contextlib.nullcontext() if command is None else self._turnstiles.alone(f"{kind} {turn} {command}")

    def _accept(self, sid: str, turn: str, promise: ev.TurnAccepted, *, titled: bool) -> int:
        """`titled`: the session was made empty and gets its title from this question."""
        drafts = [ev.Draft(data=promise, turn=turn)]
        if titled:
            drafts.insert(0, ev.Draft(data=ev.SessionRenamed(title=title_of(promise.question)), turn=None))
        return self.journal.append(sid, drafts, durable=True)[-1].seq

    def _past(self, sid: str, origin: ev.Origin | None) -> list[Any]:
        """Earlier questions of the session with their answers, oldest first."""
        rows = again.turns_before(self.journal, self.sessions, sid, origin)
        return _module("agent.history").past_turns(self.journal, sid, rows)


def open_workspace(settings: Settings | None = None, *, own_process: bool = False) -> Workspace:
    """Open the data folder of the settings (default: those of the environment). Errors: InvalidInput, StorageError.

    `own_process`: this process does nothing else, so it and its threads may be scheduled for throughput, and `prepare`
    may exempt what is loaded from garbage collection.
    """
    if own_process:
        _schedule_for_throughput()
    return Workspace(settings or load_settings(), own_process=own_process)


def _schedule_for_throughput() -> None:
    """For this thread and those that it starts. A thread that wakes then does not push aside the one that holds the
    interpreter's lock, which it would only wait for: ending 64 runs at once takes half the time (bench, `cancel`)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where a container forbids it, it is only slower
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def title_of(question: str) -> str:
    """A session's first title: the beginning of its first question."""
    line = " ".join(question.split())
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rsplit(" ", 1)[0] + "…"


def _given(lm: str | dspy.BaseLM | None, sub_lm: str | dspy.BaseLM | None) -> again.Given | None:
    return again.Given(lm, sub_lm) if lm is not None or sub_lm is not None else None


def _module(name: str) -> ModuleType:
    """A heavy part of the runtime, loaded when it is first needed."""
    return importlib.import_module(f"fleet_rlm.runtime.{name}")
