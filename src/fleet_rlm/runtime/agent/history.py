"""Earlier turns of a session as the agent's `dspy.History`: questions, what was delegated, answers.

Made from the journal alone and always in the same way, so that the beginning of the prompt stays as it was in the turn
before and a provider's prompt cache finds it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dspy
from dspy.adapters.types.tool import ToolCallResults, ToolCalls

from fleet_rlm.integrations.database import TurnRow
from fleet_rlm.runtime.agent.compaction import closing
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.tools.bounds import cut

KEPT_TURNS: Final = 20
KEPT_STEP: Final = 10
"""Older turns leave in steps of so many, not one by one, which would change every prompt from its beginning on."""
KEPT_DELEGATED: Final = 6
TASK_CHARS: Final = 400
RESULT_CHARS: Final = 1_500
DELEGATING: Final = frozenset({"delegate", "delegate_batched"})


@dataclass(frozen=True, slots=True)
class Delegated:
    """A task that was given away in an earlier turn, and what came back; both cut."""

    name: str
    arguments: dict[str, Any]
    result: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier question of the session and its answer."""

    question: str
    answer: str
    delegated: tuple[Delegated, ...] = ()


def first_kept(turns: int) -> int:
    """How many of the oldest turns are left out: a multiple of KEPT_STEP, so that at least KEPT_TURNS stay."""
    return max(0, turns - KEPT_TURNS) // KEPT_STEP * KEPT_STEP


def delegated_in(events: Sequence[ev.Event]) -> dict[str, tuple[Delegated, ...]]:
    """By turn what its agent gave away, from a session's `tool.started` and `tool.finished` events in any order."""
    ends = {event.data.id: event.data for event in events if isinstance(event.data, ev.ToolFinished)}
    found: dict[str, list[Delegated]] = {}
    for event in sorted(events, key=lambda event: event.seq):
        start = event.data
        if not isinstance(start, ev.ToolStarted) or start.name not in DELEGATING or start.cell is not None:
            continue
        end = ends.get(start.id)
        if end is None or end.result is None:
            continue
        result = cut(end.result.head, RESULT_CHARS)
        given = Delegated(start.name, _arguments(start.arguments), result, end.status == "failed")
        found.setdefault(event.turn or "", []).append(given)
    return {turn: tuple(given[-KEPT_DELEGATED:]) for turn, given in found.items()}


def past_turns(journal: Journal, sid: str, rows: Sequence[TurnRow]) -> list[PastTurn]:
    """The answered turns among `rows` (oldest first), without the oldest that are left out."""
    kept = rows[first_kept(len(rows)) :]
    tools = [*journal.of_type(sid, ev.ToolStarted.type), *journal.of_type(sid, ev.ToolFinished.type)] if kept else []
    delegated = delegated_in(tools)
    past: list[PastTurn] = []
    for row in kept:
        found = journal.read(sid, row.accepted_seq - 1, 1, row.tid)
        ended = journal.read(sid, row.finished_seq - 1, 1, row.tid) if row.finished_seq else []
        if not found or not ended or not isinstance(found[0].data, ev.TurnAccepted):
            continue
        answer = ended[0].data.answer if isinstance(ended[0].data, ev.TurnFinished) else None
        if answer:
            past.append(PastTurn(found[0].data.question, answer, delegated.get(row.tid, ())))
    return past


def _arguments(text: ev.Text) -> dict[str, Any]:
    """The arguments as they were, long tasks cut; of a call too large for its event only that it was."""
    if text.ref is not None:
        return {"task": cut(text.head, TASK_CHARS)}
    try:
        value: Any = json.loads(text.head)
    except ValueError:
        return {"task": cut(text.head, TASK_CHARS)}
    if not isinstance(value, dict):
        return {}
    return {str(name): cut(each, TASK_CHARS) if isinstance(each, str) else each for name, each in value.items()}


def history(past: Sequence[PastTurn]) -> dspy.History:
    """As `FleetAgent` writes it: the question with the delegated tasks, then the `submit` that answered it."""
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(past):
        opening: dict[str, Any] = {"question": turn.question}
        if turn.delegated:
            messages.append(opening | {"tool_calls": _calls(turn.delegated, number)})
            opening = {}
        messages.append(opening | closing({"answer": turn.answer}, f"past_{number}"))
    return dspy.History(messages=messages)


def plain_history(past: Sequence[PastTurn]) -> dspy.History:
    """The same for a model that is not asked to call tools: questions and answers."""
    return dspy.History(messages=[{"question": turn.question, "answer": turn.answer} for turn in past])


def _calls(delegated: Sequence[Delegated], turn: int) -> ToolCalls:
    calls = ToolCalls.from_dict_list(
        [
            {"name": each.name, "args": each.arguments, "id": f"past_{turn}_{index}"}
            for index, each in enumerate(delegated)
        ]
    )
    values = [each.result for each in delegated]
    results = ToolCallResults.from_tool_calls_and_values(calls, values, [each.failed for each in delegated])
    return calls.model_copy(update={"tool_call_results": results})
