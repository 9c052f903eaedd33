"""The library's front door: `run`, `stream`, `Session` and their kin over one shared workspace per data folder."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from fleet_rlm.arguments import as_folder, as_items, as_text
from fleet_rlm.conversation import Exchange, Memory, exchanges
from fleet_rlm.errors import Conflict, InvalidInput
from fleet_rlm.notebook import Cell, here, turn_html
from fleet_rlm.runtime.agent.memory import SessionMemory
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.content.fetch import check_url
from fleet_rlm.runtime.content.sources import add_named
from fleet_rlm.runtime.execution.answering import Answerer, answering
from fleet_rlm.runtime.execution.artifacts import Artifact
from fleet_rlm.runtime.execution.coverage import Covered
from fleet_rlm.runtime.execution.events import (
    ApprovalRequested,
    Citation,
    ContextRef,
    ErrorInfo,
    Event,
    Limits,
    Mode,
    TurnStatus,
    Unit,
    Usage,
)
from fleet_rlm.runtime.execution.limit_values import checked_limits
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest
from fleet_rlm.runtime.execution.views import Workbench
from fleet_rlm.runtime.execution.workbench import reduce
from fleet_rlm.runtime.factory import Workspace, open_workspace

if TYPE_CHECKING:
    import dspy

PAGE = 5_000
PIECE_BYTES = 1 << 20
WATCH_S = 0.25
"""How often a tree in a notebook cell is drawn anew, at most."""


@dataclass(frozen=True, slots=True)
class Url:
    """A web address as a context. A plain str is always text, also when it looks like an address."""

    address: str


ContextInput = str | bytes | Path | Url | BinaryIO
"""A file or folder as Path, a text as str, a document as bytes or as an open binary file, a web address as Url."""


OnApproval = Callable[[ApprovalRequested], str | None]
"""Answers what a run asks; None: the rule decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a task may use over its whole tree. None = no limit. Units: US dollars, seconds."""

    calls: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    wall_s: float | None = None
    depth: int = 2
    children: int | None = None
    sandboxes: int = 64

    def limits(self) -> Limits:
        """The same as the engine's own type. Errors: InvalidInput for a value of another type or out of range."""
        given = Limits(
            calls=self.calls,
            tokens=self.tokens,
            cost_usd=self.cost_usd,
            wall_s=self.wall_s,
            depth=self.depth,
            children=self.children,
            sandboxes=self.sandboxes,
        )
        return Limits(**checked_limits(msgspec.structs.asdict(given), what="budget"))


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a task ended. `journal` holds its events in order, `tree` what the workspace shows of its session."""

    answer: str | None
    status: TurnStatus
    limit: Unit | None
    usage: Usage
    citations: tuple[Citation, ...]
    error: ErrorInfo | None
    session: str
    turn: str
    tree: Workbench
    journal: tuple[Event, ...]
    artifacts: tuple[Artifact, ...] = ()
    coverage: tuple[Covered, ...] = ()

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return turn_html(self.tree, self.turn, answer=self.answer, status=self.status, usage=self.usage)


class Session:
    """A conversation: questions of one session see the earlier ones and their answers."""

    def __init__(self, session: str | None = None, *, home: Path | None = None) -> None:
        self.id = None if session is None else as_text(session, "the session's id")
        self._home = home

    def ask(
        self,
        question: str,
        *,
        context: ContextInput | Sequence[ContextInput] = (),
        mode: Mode | None = None,
        lm: str | dspy.BaseLM | None = None,
        sub_lm: str | dspy.BaseLM | None = None,
        budget: Budget | None = None,
        watch: bool = True,
        on_approval: OnApproval | None = None,
    ) -> RunResult:
        """Ask and wait. Arguments and errors as `run`."""
        workspace = _workspace(self._home)
        request = _request(workspace, question, context, mode, lm, sub_lm, budget, self.id)
        submitted = workspace.submit(replace(request, present=on_approval is not None))
        self.id = submitted.session
        with answering(workspace, submitted, _answerer(on_approval)):
            return _ended(workspace, submitted, watch)

    @property
    def history(self) -> tuple[Exchange, ...]:
        """The questions so far with their answers, oldest first. Errors: NotFound."""
        return () if self.id is None else exchanges(_workspace(self._home).journal, self.id)

    @property
    def memory(self) -> Memory:
        """The blocks that stand in the agent's prompt, to read and to edit. Errors: NotFound."""
        return Memory(self._memory, self._memory_made)

    def _memory(self) -> SessionMemory | None:
        return None if self.id is None else _workspace(self._home).memory(self.id)

    def _memory_made(self) -> SessionMemory:
        """The same of a session that has none of its own yet: the edit begins it, the first question names it."""
        workspace = _workspace(self._home)
        if self.id is None:
            self.id = workspace.sessions.create("New session").sid
        return workspace.memory(self.id)


def run(
    question: str,
    *,
    context: ContextInput | Sequence[ContextInput] = (),
    mode: Mode | None = None,
    lm: str | dspy.BaseLM | None = None,
    sub_lm: str | dspy.BaseLM | None = None,
    budget: Budget | None = None,
    home: Path | None = None,
    watch: bool = True,
    on_approval: OnApproval | None = None,
) -> RunResult:
    """Answer a question over any amount of text, by recursion where it is large.

    Args:
        context: one or several: files and folders as Path, texts as str, documents as bytes or open binary files,
            web addresses as Url.
        mode: "auto" (the chat agent decides), "rlm" (the recursive engine at once), "direct" (one prompt).
        lm, sub_lm: a model string or any DSPy LM; None takes the settings' model.
        budget: limits over the whole tree; None takes the settings' limits.
        home: the data folder; None takes FLEET_HOME or the platform's.
        watch: in a notebook, show the tree in the cell while it grows; elsewhere nothing is shown.
        on_approval: is told what a run asks (docs/policy.md), in a thread of its own, and gives the answer: one of its
            `choices` or, without any, a text. None leaves it to the rule. Without it the rule decides at once.
    Errors: InvalidInput, NotConfigured before anything runs; a failed task is a result with status "failed".
    """
    session = Session(home=home)
    return session.ask(
        question, context=context, mode=mode, lm=lm, sub_lm=sub_lm, budget=budget, watch=watch, on_approval=on_approval
    )


def resume(
    turn: str,
    *,
    lm: str | dspy.BaseLM | None = None,
    sub_lm: str | dspy.BaseLM | None = None,
    budget: Budget | None = None,
    home: Path | None = None,
    watch: bool = True,
) -> RunResult:
    """Go on with a task that was cut off: by a limit, a failure, a cancel or the end of its process.

    What it had finished is taken from its journal and not asked again. `lm` and `sub_lm` are needed where they were
    objects; `budget` None takes the same limits. Errors: NotFound; Conflict when it runs or came to its end;
    InvalidInput when its limit would stop it again.
    """
    turn, workspace = as_text(turn, "the turn's id"), _workspace(home)
    return _ended(workspace, workspace.resume(turn, _limits(budget), lm=lm, sub_lm=sub_lm), watch)


def replay(turn: str, *, home: Path | None = None, watch: bool = True) -> RunResult:
    """A finished task once more from its journal alone: the same events but for times, and no call of a model.

    Errors: NotFound, Conflict while it runs; an answer that the journal lacks is a result with status "failed".
    """
    turn, workspace = as_text(turn, "the turn's id"), _workspace(home)
    return _ended(workspace, workspace.replay(turn), watch)


async def arun(
    question: str,
    *,
    context: ContextInput | Sequence[ContextInput] = (),
    mode: Mode | None = None,
    lm: str | dspy.BaseLM | None = None,
    sub_lm: str | dspy.BaseLM | None = None,
    budget: Budget | None = None,
    home: Path | None = None,
    on_approval: OnApproval | None = None,
) -> RunResult:
    """`run` for asynchronous code: the event loop goes on meanwhile. A cancelled await cancels the task."""
    workspace = await asyncio.to_thread(_workspace, home)
    request = await asyncio.to_thread(_request, workspace, question, context, mode, lm, sub_lm, budget, None)
    submitted = await _submitted(workspace, replace(request, present=on_approval is not None))
    try:
        with answering(workspace, submitted, _answerer(on_approval)):
            return await asyncio.to_thread(_result, workspace, submitted.session, submitted.turn)
    except asyncio.CancelledError:
        workspace.cancel(submitted.turn)
        raise


async def stream(
    question: str,
    *,
    context: ContextInput | Sequence[ContextInput] = (),
    mode: Mode | None = None,
    lm: str | dspy.BaseLM | None = None,
    sub_lm: str | dspy.BaseLM | None = None,
    budget: Budget | None = None,
    home: Path | None = None,
    on_approval: OnApproval | None = None,
) -> AsyncIterator[Event]:
    """The events of one task as they are committed, the same as on the socket. Arguments and errors as `run`.

    Leaving the loop early cancels the task.
    """
    workspace = await asyncio.to_thread(_workspace, home)
    request = await asyncio.to_thread(_request, workspace, question, context, mode, lm, sub_lm, budget, None)
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def hear(events: Sequence[Event]) -> None:
        with suppress(RuntimeError):  # the loop has ended while this listener left
            loop.call_soon_threadsafe(_put_all, queue, events)

    leave = workspace.journal.listen(None, hear)
    submitted: Submitted | None = None
    try:
        submitted = await _submitted(workspace, replace(request, present=on_approval is not None))
        with answering(workspace, submitted, _answerer(on_approval)):
            while True:
                event = await queue.get()
                if event.turn != submitted.turn:
                    continue
                yield event
                if event.type == "turn.finished":
                    return
    finally:
        leave()
        if submitted is not None:
            workspace.cancel(submitted.turn)


async def _submitted(workspace: Workspace, request: TurnRequest) -> Submitted:
    """Submit in a thread. When the await is cancelled, so is the turn, also one that is accepted only after that."""
    accepted: Future[Submitted] = Future()  # of the thread and not of the loop, which may end before it

    def submit() -> Submitted:
        try:
            accepted.set_result(workspace.submit(request))
        except BaseException as error:
            accepted.set_exception(error)
            raise
        return accepted.result()

    def cancel(done: Future[Submitted]) -> None:
        if done.exception() is None:
            workspace.cancel(done.result().turn)

    try:
        return await asyncio.to_thread(submit)
    except asyncio.CancelledError:
        accepted.add_done_callback(cancel)
        raise


def _answerer(on_approval: OnApproval | None) -> Answerer | None:
    return None if on_approval is None else lambda question: on_approval(question.asked)


def _put_all(queue: asyncio.Queue[Event], events: Sequence[Event]) -> None:
    for event in events:
        queue.put_nowait(event)


_workspaces: dict[Path, Workspace] = {}
_lock = threading.Lock()
_forked = False


def _after_fork() -> None:
    """A fork copies a workspace without its threads: nothing in it would ever answer, and its end is its parent's."""
    global _forked, _lock
    _lock, _forked = threading.Lock(), _forked or bool(_workspaces)
    for workspace in _workspaces.values():
        atexit.unregister(workspace.close)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


def _workspace(home: Path | None) -> Workspace:
    if _forked:
        raise Conflict(
            "this process was forked from one that used fleet_rlm, and has none of its threads",
            hint='fork before its first use, or start processes with multiprocessing.get_context("spawn")',
        )
    settings = load_settings(home=as_folder(home))
    with _lock:
        found = _workspaces.get(settings.home)
        if found is None:
            found = _workspaces[settings.home] = open_workspace(settings)
            found.present = False  # but for calls with on_approval
            atexit.register(found.close)
        else:
            found.configure(settings)
        return found


def _request(
    workspace: Workspace,
    question: str,
    context: ContextInput | Sequence[ContextInput],
    mode: Mode | None,
    lm: str | dspy.BaseLM | None,
    sub_lm: str | dspy.BaseLM | None,
    budget: Budget | None,
    session: str | None,
) -> TurnRequest:
    items: Sequence[Any] = [context] if _is_one(context) else as_items(context, _CONTEXT_HINT)
    return TurnRequest(
        question=as_text(question, "the question"),
        session=session,
        contexts=tuple(_stored(workspace, item, number, len(items)) for number, item in enumerate(items, 1)),
        mode=mode or workspace.settings.mode,
        model=lm,
        sub_model=sub_lm,
        limits=_limits(budget),
    )


def _limits(budget: object) -> Limits | None:
    if budget is None:
        return None
    if not isinstance(budget, Budget):
        raise InvalidInput(f"the budget is a {type(budget).__name__}", hint="pass a fleet_rlm.Budget")
    return budget.limits()


def _is_one(context: object) -> bool:
    return isinstance(context, str | bytes | Path | Url) or callable(getattr(context, "read", None))


def _stored(workspace: Workspace, item: Any, number: int, of: int) -> ContextRef:
    store, name = workspace.contexts, "context" if of == 1 else f"context-{number}"
    if isinstance(item, Path):
        return store.add_path(item)
    if isinstance(item, str):
        return store.add_text(name, item)
    if isinstance(item, Url):
        check_url(as_text(item.address, "the address of a Url"))  # `add_named` takes names of files too
        return add_named(store, item.address)
    if isinstance(item, bytes):
        return store.add_stream(name, iter([item]))
    if callable(getattr(item, "read", None)):
        return store.add_stream(Path(str(getattr(item, "name", name))).name, _pieces(item, number))
    raise InvalidInput(f"context {number} is a {type(item).__name__}", hint=_CONTEXT_HINT)


_CONTEXT_HINT = "pass a Path, a str, bytes, an open binary file or fleet_rlm.Url"


def _pieces(file: BinaryIO, number: int) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        if not isinstance(piece, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - a file opened as text
            raise InvalidInput(f"context {number} is a file that was opened as text", hint='open it with mode "rb"')
        yield piece


def _ended(workspace: Workspace, submitted: Submitted, watch: bool) -> RunResult:
    """Wait for a turn, in a notebook visibly; an interrupt stops it."""
    try:
        _wait(workspace, submitted, here() if watch else None)
    except KeyboardInterrupt:
        workspace.cancel(submitted.turn)
        workspace.wait(submitted.turn)
        raise
    return _result(workspace, submitted.session, submitted.turn)


def _wait(workspace: Workspace, submitted: Submitted, cell: Cell | None) -> None:
    """Until the turn has ended; in a notebook its tree is drawn meanwhile."""
    if cell is None:
        workspace.wait(submitted.turn)
        return
    bench, after = Workbench(sid=submitted.session), 0
    while True:
        try:
            ended = workspace.wait(submitted.turn, WATCH_S)
        except TimeoutError:
            ended = None
        while page := workspace.journal.read(submitted.session, after, PAGE):
            bench, after = reduce(bench, page), page[-1].seq
        if ended is not None:  # the result shows itself
            cell.show("")
            return
        cell.show(turn_html(bench, submitted.turn, answer=None, status="running", usage=None))


def _result(workspace: Workspace, session: str, turn: str) -> RunResult:
    ended = workspace.wait(turn)
    events = _events_of(workspace, session)
    return RunResult(
        answer=ended.answer,
        status=ended.status,
        limit=ended.limit,
        usage=ended.usage,
        citations=ended.citations,
        error=ended.error,
        session=session,
        turn=turn,
        tree=reduce(Workbench(sid=session), events),
        journal=tuple(event for event in events if event.turn == turn),
        artifacts=ended.artifacts,
        coverage=ended.coverage,
    )


def _events_of(workspace: Workspace, session: str) -> list[Event]:
    events: list[Event] = []
    after = 0
    while page := workspace.journal.read(session, after, PAGE):
        events += page
        after = page[-1].seq
    return events
