"""What an RLM's model sees of its older steps: bounded, moving in blocks, and enough for a run with a small window."""

import json
from typing import Any

import pytest
from dspy.primitives.repl_types import REPLEntry, REPLHistory
from dspy.utils.exceptions import ContextWindowExceededError, LMServerError
from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model
from tests.engine.test_turns import ask, check_journal
from tests.scripted import action

from fleet_rlm.runtime.factory import Workspace
from fleet_rlm.runtime.models.repl_history import KEPT, Shortened, StepsInView


def history(steps: int, chars: int) -> REPLHistory:
    return REPLHistory(entries=[REPLEntry(code=f"print({n})", output=f"{n} " + "x" * chars) for n in range(steps)])


def seen_by(view: StepsInView, given: REPLHistory) -> REPLHistory:
    return view.ask(lambda seen: seen, given)


def test_a_short_history_is_left_alone() -> None:
    given = history(5, 100)
    assert seen_by(StepsInView(), given) is given


def test_older_outputs_are_shortened_in_blocks_and_the_newest_stay() -> None:
    told: list[Shortened] = []
    view = StepsInView(told.append, most=20_000)
    prompts = [seen_by(view, history(n, 1000)).format() for n in range(1, 31)]
    assert max(len(prompt) for prompt in prompts) < 28_000 < len(history(30, 1000).format())
    last = seen_by(view, history(30, 1000)).entries
    assert all(len(entry.output) > 1000 for entry in last[-KEPT:]) and "print it again" in last[0].output
    same = sum(later.startswith(earlier[:-20]) for earlier, later in zip(prompts, prompts[1:], strict=False))
    assert same >= 20, f"the beginning changed {29 - same} times in 29 steps"
    assert all(each.after_chars < each.before_chars for each in told) and sum(each.steps for each in told) <= 30


def test_a_refusal_makes_it_smaller_until_it_fits_or_there_is_nothing_left() -> None:
    sizes: list[int] = []

    def picky(limit: int, seen: REPLHistory) -> int:
        size = sum(len(entry.output) for entry in seen.entries)
        sizes.append(size)
        if size > limit:
            raise ContextWindowExceededError(message="too long")
        return size

    view = StepsInView()
    assert view.ask(lambda seen: picky(9_000, seen), history(20, 3000)) <= 9_000
    assert view.ask(lambda seen: picky(9_000, seen), history(21, 3000)) <= 9_000 and len(sizes) <= 8
    with pytest.raises(ContextWindowExceededError):
        StepsInView().ask(lambda seen: picky(0, seen), history(20, 3000))
    with pytest.raises(LMServerError):
        StepsInView().ask(lambda _: (_ for _ in ()).throw(LMServerError(message="x")), history(20, 3000))


def test_a_run_goes_on_in_a_window_that_its_steps_outgrow(workspace: Workspace) -> None:
    """A server takes 24,000 characters; each of 8 cells prints 5,000."""

    def reply(body: dict[str, Any]) -> list[Any]:
        text = json.dumps(body["messages"])
        if len(text) > 24_000:
            return [{"refused": f"This model's maximum context length is 24000 tokens, not {len(text)}"}]
        done = text.count("=== Step ")
        code = f"kept = {done}\nprint('word ' * 1000)" if done < 8 else "SUBMIT(answer=str(kept))"
        return [{"content": action(code)}]

    with sse_model(reply) as model:
        result = ask(workspace, "print much", mode="rlm", model=model.lm(tools=False))
    assert (result.status, result.answer) == ("ok", "7"), result
    events = events_of(workspace, result.session)
    check_journal(events)
    assert [event.depth for event in events if event.type == "history.compacted"]
    outputs = [event.data for event in events if event.type == "cell.finished" and event.data.output_chars >= 5000]
    assert len(outputs) == 8
