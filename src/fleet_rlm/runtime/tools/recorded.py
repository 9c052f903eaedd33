"""Host tools as events, with their results from the journal when the turn is run again.

A result is kept whole: the text that a tool gave, or its JSON value. When the turn is run again, a recorded result
holds in each case; what differs is whether the tool works besides:

- tools that open runs are always entered, because the runs themselves come from the journal;
- tools that only touch what is this turn's own (its sandbox, its documents) work again, so that their state is there;
- memory belongs to the session: a resumed turn's session has those edits already, also one whose tool a crash kept
  from its end, but not those of the origin of a fork that is resumed; a replay's and a fork's has none of them; one
  that was refused is not made there either;
- everything else (the web, servers of others) is done once: of it comes what it brought, and nothing is sent.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal

import msgspec

from fleet_rlm.errors import TreeStopped
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.approvals import ASKING_TOOL
from fleet_rlm.runtime.execution.artifacts import VERSION_THEN
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.losses import FAILED_THEN, check_heard
from fleet_rlm.runtime.execution.observer import SCOPE, RunScope
from fleet_rlm.runtime.execution.record import EDITS_MEMORY, Key, RecordedTool
from fleet_rlm.runtime.execution.tree import TurnTree
from fleet_rlm.runtime.tools.memory import made
from fleet_rlm.runtime.tools.raised import as_info, from_info

OPEN_RUNS: Final = frozenset({"delegate", "delegate_batched"})
OWN: Final = frozenset(
    {
        *("run_python", "run_shell", "list_files", "read_file", "write_file"),
        *("read_context", "search_context", "list_context", "save_artifact"),
    }
)


def observed(
    tree: TurnTree,
    name: str,
    arguments: Mapping[str, Any],
    work: Callable[[], tuple[Any, bool]],
    *,
    cell: str | None = None,
    attach: Callable[[ev.ContextRef], str] | None = None,
) -> tuple[Any, bool]:
    """Run a host tool between its two events; `work` gives its value and whether that is an error in words.

    `attach` brings a document that a recorded tool fetched. Errors: whatever `work` raises.
    """
    observer, scope = tree.observer, SCOPE.get()
    check_heard(scope)
    began = time.perf_counter()
    told = observer.text(json.dumps(arguments, ensure_ascii=False, default=str))
    key = None if tree.replay is None or name in OPEN_RUNS else tree.replay.tool_asked(scope, name, told)
    started = ev.ToolStarted(id=new_id("tol"), name=name, arguments=told, cell=cell)
    observer.emit(started, scope)
    work = functools.partial(_in_its_name, started.id, work)
    known = _known(tree, scope, started, key)
    if known is not None:
        return _again(tree, scope, started, known, work, attach)
    status: Literal["ok", "failed", "cancelled"] = "cancelled"
    value: Any = None
    raised: ev.ErrorInfo | None = None
    try:
        value, failed = work()
        status = "failed" if failed else "ok"
        return value, failed
    except Exception as error:
        status, raised = "failed", as_info(error, observer.clean)
        raise
    finally:
        plain = isinstance(value, str)
        text = value if plain else json.dumps(value, ensure_ascii=False, default=str)
        ended = ev.ToolFinished(
            id=started.id,
            status=status,
            ms=round((time.perf_counter() - began) * 1000, 1),
            result=None if status == "cancelled" or (value is None and status == "failed") else observer.text(text),
            error=raised,
            json=not plain,
        )
        observer.emit(ended, scope)


def recorded(tree: TurnTree, function: Callable[..., Any]) -> Callable[..., Any]:
    """A host function for model-written code whose calls are events, and whose results come again from the journal."""

    @functools.wraps(function)
    def wrapper(**arguments: Any) -> Any:
        def work() -> tuple[Any, bool]:
            return function(**arguments), False

        return observed(tree, function.__name__, arguments, work, cell=SCOPE.get().cell)[0]

    return wrapper


def _in_its_name(tool: str, work: Callable[[], tuple[Any, bool]]) -> tuple[Any, bool]:
    """What the work asks a person is asked for this call of a tool."""
    token = ASKING_TOOL.set(tool)
    try:
        return work()
    finally:
        ASKING_TOOL.reset(token)


def _known(tree: TurnTree, scope: RunScope, started: ev.ToolStarted, key: Key | None) -> RecordedTool | None:
    """What is recorded of this call, with its end; None when it is to be run. Errors: TreeStopped in a replay."""
    if tree.replay is None or key is None:
        return None
    try:
        known = tree.replay.tool(scope, started.name, key)
    except TreeStopped:
        tree.observer.emit(ev.ToolFinished(id=started.id, status="cancelled", ms=0.0, json=True), scope)
        raise
    done = None if known is None else known.finished or _made(tree, known)
    return None if known is None or done is None else replace(known, finished=done)


def _again(
    tree: TurnTree,
    scope: RunScope,
    started: ev.ToolStarted,
    known: RecordedTool,
    work: Callable[[], tuple[Any, bool]],
    attach: Callable[[ev.ContextRef], str] | None,
) -> tuple[Any, bool]:
    """What came of it then: its result, or what it raised."""
    assert tree.replay is not None and known.finished is not None
    text = tree.replay.text(known.finished.result) if known.finished.result is not None else ""
    stands = tree.replay.kind == "resume" and not known.elsewhere
    edits = started.name in EDITS_MEMORY and not stands and known.finished.status == "ok"
    if started.name in OWN or edits:
        token = VERSION_THEN.set(_version_in(text) if started.name == "save_artifact" else None)
        failed = FAILED_THEN.set(known.finished.status == "failed")
        with suppress(Exception):  # what it gave then holds, also where it fails now
            work()
        FAILED_THEN.reset(failed)
        VERSION_THEN.reset(token)
    else:
        _bring(tree, scope, started.id, known, attach)
    ended = msgspec.structs.replace(known.finished, id=started.id, ms=0.0, replayed=True)
    tree.observer.emit(ended, scope)
    if known.finished.status == "failed" and known.finished.result is None:
        raise from_info(known.finished.error)
    return (json.loads(text or "null") if known.finished.json else text), known.finished.status == "failed"


def _made(tree: TurnTree, known: RecordedTool) -> ev.ToolFinished | None:
    """The end of a tool that edited the memory before a crash came between: in the words that it would have had."""
    edit = known.edited
    if edit is None:
        return None
    return ev.ToolFinished(id="", status="ok", ms=0.0, result=tree.observer.text(made(edit.block, edit.after)))


def _version_in(result: str) -> int | None:
    with suppress(ValueError, TypeError, KeyError):
        version = json.loads(result)["version"]
        return version if isinstance(version, int) else None
    return None


def _bring(
    tree: TurnTree,
    scope: RunScope,
    tool: str,
    known: RecordedTool,
    attach: Callable[[ev.ContextRef], str] | None,
) -> None:
    """What the tool brought into the turn: its documents, and the answers that it got from a person."""
    assert tree.replay is not None
    ends = {data.id: data for data in known.besides if isinstance(data, ev.ApprovalResolved)}
    for data in known.besides:
        if isinstance(data, ev.ContextAdded) and attach is not None:
            attach(data.context)
        elif isinstance(data, ev.ApprovalRequested):
            named = None if data.tool is None else tool
            asked = msgspec.structs.replace(data, id=new_id("apr"), tool=named)
            used = tree.replay.used_answer(scope, asked.kind, asked.question)
            end = ends.get(data.id, used)  # older journals give it to another tool that worked beside this one
            told: list[ev.EventData] = [asked]
            if end is not None:
                told.append(msgspec.structs.replace(end, id=asked.id, tool=named, replayed=True))
            tree.observer.emit_all(told, scope)
