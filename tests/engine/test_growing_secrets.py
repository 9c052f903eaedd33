"""A secret that a model writes piece by piece is never shown by its beginning; what is late or refused leaves nothing."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import dspy
import pytest
from dspy import lm15
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.conftest import events_of
from tests.engine.sse_model import CUT, say, sse_model, think
from tests.engine.test_approvals import Ledger, until
from tests.engine.test_streaming import pieces
from tests.engine.test_turns import ask, check_journal
from tests.scripted import ScriptedEngine

from fleet_rlm.errors import TooLarge
from fleet_rlm.integrations.daytona.listener import CellResult
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.artifacts import MAX_IN_TURN, ArtifactShelf
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.cells import CellRecorder
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.models.streaming import SHOWN_CHARS, GrowingText
from fleet_rlm.runtime.redaction import HIDDEN, Redactor

SECRET = "sk-a b-0123456789"
words = st.text('ab "', min_size=8, max_size=12)


@given(secrets=st.lists(words, min_size=1, max_size=3), text=st.text('ab c"\\', max_size=40), data=st.data())
def test_what_is_shown_is_always_a_beginning_of_the_redacted_whole(secrets: list[str], text: str, data) -> None:
    redact = Redactor(secrets)
    at = data.draw(st.integers(0, len(text)))
    written = data.draw(st.sampled_from([str, json.dumps, lambda text: json.dumps(json.dumps(text)), quote]))
    whole = text[:at] + written(secrets[0]) + text[at:]
    for n in range(len(whole) + 1):
        assert redact(whole).startswith(redact(whole[: redact.settled(whole[:n])]))


@pytest.mark.parametrize(
    "written",
    [
        'k-"é"\\+/=0123',
        json.dumps('k-"é"\\+/=0123'),
        json.dumps('k-"é"\\+/=0123', ensure_ascii=False),
        json.dumps(json.dumps('k-"é"\\+/=0123')),
        json.dumps(json.dumps('k-"é"\\+/=0123', ensure_ascii=False), ensure_ascii=False),
        quote('k-"é"\\+/=0123'),
        quote('k-"é"\\+/=0123', safe=""),
    ],
)
def test_a_secret_is_hidden_as_json_and_addresses_write_it(written: str) -> None:
    told = Redactor(['k-"é"\\+/=0123'])(f"<{written}>")
    assert HIDDEN in told and not re.search(r"k-|0123", told), told


def test_a_usual_secret_is_looked_for_once_and_one_more_adds_to_those_that_are_there() -> None:
    redact = Redactor(["sk-Usual_key.0123"])
    assert redact._secrets == ["sk-Usual_key.0123"]
    assert redact.also(["sk-another-4567", "short"])("sk-Usual_key.0123 sk-another-4567 short") == "••• ••• short"


def growing(redact: Redactor) -> tuple[Ledger, GrowingText]:
    ledger = Ledger()
    observer = TurnObserver(ledger, ledger, sid="s", turn="t", redact=redact, settled=redact.settled)
    return ledger, GrowingText(observer, RunScope(id="run", lease=TreeBudget(ev.Limits()).root()), "message")


def shown(ledger: Ledger) -> str:
    return "".join(event.text for event in ledger.events if isinstance(event, ev.MessageDelta))


@given(pieces=st.lists(st.text("ab sk-01", max_size=12), max_size=6), cuts=st.sets(st.integers(0, 60)))
def test_a_secret_that_a_cell_prints_in_pieces_is_hidden(pieces: list[str], cuts: set[int]) -> None:
    """However the output is cut on its way; and nothing of it is lost or comes in another order."""
    ledger, redact = Ledger(), Redactor([SECRET])
    observer = TurnObserver(ledger, ledger, sid="s", turn="t", redact=redact, settled=redact.settled)
    scope = RunScope(id="run", lease=TreeBudget(ev.Limits()).root())
    recorder = CellRecorder(observer, scope, shown_chars=100)
    whole = SECRET.join(pieces)
    recorder.cell_started("c.1", "print()")
    marks = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    for start, end in zip(marks, marks[1:], strict=False):
        recorder.cell_output("c.1", "stdout", whole[start:end])
    recorder.cell_finished("c.1", CellResult("ok", stdout=whole))
    told = "".join(event.text for event in ledger.events if isinstance(event, ev.CellOutput))
    assert SECRET not in told and told.replace(HIDDEN, SECRET) == redact(whole).replace(HIDDEN, SECRET)


def test_a_secret_that_is_cut_off_is_not_shown_either() -> None:
    ledger, text = growing(Redactor([SECRET]))
    whole = "x" * (SHOWN_CHARS - 5) + SECRET + " and more"
    text.show(whole, whole=True)
    assert shown(ledger) == "x" * (SHOWN_CHARS - 5)


def test_the_end_of_a_whole_text_is_shown_although_a_secret_begins_so() -> None:
    ledger, text = growing(Redactor([SECRET]))
    text.show("let us look")
    assert shown(ledger) == "let us look"
    text.show("let us look and ask")
    assert shown(ledger) == "let us look and a", "so does a secret begin"
    text.show("let us look and ask", whole=True)
    assert shown(ledger) == "let us look and ask"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(load_settings(home=tmp_path, environ={"FLEET_API_KEY": SECRET})) as opened:
        yield opened


@pytest.mark.parametrize("cut", [False, True])
def test_a_model_that_writes_a_secret_letter_by_letter(own: Workspace, cut: bool) -> None:
    said = pieces(f"The key is {SECRET}.", 3)
    slowly = [piece for each in (think(*said) + say(*said)) for piece in (each, 0.05)]
    broken = [*slowly[:-6], CUT]  # in the middle of the secret

    def reply(body: dict) -> list:
        return (broken if cut else slowly) if body.get("stream") else say("nothing")

    with sse_model(reply) as model:
        result = ask(own, "key?", model=model.lm(tools=False))
    assert result.status == "ok"
    events = events_of(own, result.session)
    check_journal(events)
    for kind in ("message.delta", "reasoning.delta"):
        told = "".join(event.data.text for event in events if event.type == kind)
        assert told.startswith("The key is ") and SECRET[:3] not in told, told
        assert HIDDEN in told or cut


class Deaf:
    """An asynchronous engine of a caller's own that goes on streaming, whoever has stopped listening."""

    supports_function_calling = supports_reasoning = supports_response_schema = False
    supported_params: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.go_on, self.ended = threading.Event(), threading.Event()

    async def complete(self, request: lm15.Request) -> lm15.Response:
        raise NotImplementedError

    async def stream(self, request: lm15.Request) -> AsyncIterator[object]:
        yield lm15.StreamStartEvent(model=request.model)
        for piece in ("It is ", "still "):
            yield lm15.StreamDeltaEvent(lm15.TextDelta(piece))
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.go_on.wait, 30)
        for piece in ("writing", " and writing"):
            yield lm15.StreamDeltaEvent(lm15.TextDelta(piece))
            await asyncio.sleep(0.05)
        yield lm15.StreamEndEvent(finish_reason="stop", usage=lm15.Usage(input_tokens=1, output_tokens=1))
        self.ended.set()

    async def aclose(self) -> None:
        pass


def test_what_comes_after_a_cancel_is_told_to_nobody(own: Workspace) -> None:
    deaf = Deaf()
    lm = dspy.LM("test/deaf", engine=ScriptedEngine(str), async_engine=deaf, cache=False)
    submitted = own.submit(TurnRequest(question="well?", model=lm))
    until(lambda: any(event.type == "message.delta" for event in events_of(own, submitted.session)), 30)
    own.cancel(submitted.turn)
    assert own.wait(submitted.turn, 20).status == "cancelled"
    before = events_of(own, submitted.session)
    assert before[-1].type == "turn.finished"
    check_journal(before)
    deaf.go_on.set()
    until(deaf.ended.is_set, 20)
    assert events_of(own, submitted.session) == before


def test_artifacts_that_are_refused_do_not_fill_the_disk(tmp_path: Path) -> None:
    ledger = Ledger()
    observer = TurnObserver(ledger, ledger, sid="s", turn="t", redact=str)
    shelf = ArtifactShelf(observer, BlobStore(tmp_path), tuple)
    scope = RunScope(id="run", lease=TreeBudget(ev.Limits()).root())
    for n in range(MAX_IN_TURN):
        shelf.publish(scope, f"{n}.txt", str(n).encode())
    for n in range(MAX_IN_TURN, MAX_IN_TURN + 20):
        with pytest.raises(TooLarge):
            shelf.publish(scope, f"{n}.txt", str(n).encode())
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == MAX_IN_TURN
    assert shelf.publish(scope, "7.txt", b"7").version == 1, "what is there already is no new one"
