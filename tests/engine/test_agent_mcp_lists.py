"""What becomes of a server's list of tools: bad ones, too many, two of one name, arguments with names of DSPy's own."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tests.engine.sse_model import sse_model
from tests.engine.test_again import of_turn
from tests.engine.test_agent_mcp import settings_file
from tests.engine.test_agent_tools import answering, script

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import open_workspace
from fleet_rlm.runtime.policy import ALWAYS, ONCE

SERVER = str(Path(__file__).with_name("raw_mcp_server.py"))
Call = tuple[str, dict[str, Any]]


@dataclasses.dataclass
class Seen:
    """A turn with such servers: what a model was offered, what its calls gave, what the person was told and asked."""

    schemas: dict[str, Any]
    said: list[str]
    warnings: list[str]
    asked: list[ev.ApprovalRequested]


def turn(home: Path, *calls: Call, answer: str = ALWAYS, environ: dict[str, str] | None = None, **servers: Any) -> Seen:
    """One turn that makes these calls one after the other; its replay must be the same without a call."""
    tables = {name: {"command": sys.executable, "args": [SERVER, json.dumps(pages)]} for name, pages in servers.items()}
    settings_file(home, **tables)
    with (
        open_workspace(load_settings(home=home, environ=environ or {})) as opened,
        sse_model(script(*([call] for call in calls))) as model,
    ):
        submitted = opened.submit(TurnRequest(question="?", model=model.lm()))
        asked = answering(opened, submitted, answer)
        result = opened.wait(submitted.turn, timeout=60)
        assert result.status == "ok", result
        made = len(model.asked)
        again = opened.wait(opened.replay(submitted.turn).turn, timeout=60)
        assert again.answer == result.answer and len(model.asked) == made
        assert first_difference(of_turn(opened, result), of_turn(opened, again)) is None
        offered = {t["function"]["name"]: t["function"]["parameters"] for t in model.asked[0]["tools"]}
        told = [e.data.message for e in of_turn(opened, result) if e.type == "warning"]
    return Seen(offered, json.loads(result.answer or "[]"), told, asked)


BAD = {
    "listed": {"name": "listed", "inputSchema": {"type": "array"}},
    "boolean": {"name": "boolean", "inputSchema": {"type": "object", "required": True}},
    "bare": {"name": "bare"},
    "hint": {"name": "hint", "inputSchema": {"type": "object"}, "annotations": "none"},
}


def test_a_tool_that_the_sdk_refuses_costs_itself_and_no_other(tmp_path: Path) -> None:
    pages = [["first", BAD["listed"], 7], [BAD["boolean"], BAD["bare"], BAD["hint"], {"inputSchema": {}}, "last"]]
    seen = turn(tmp_path, ("raw_first", {}), ("raw_last", {}), raw=pages)
    assert seen.said == ["first {}", "last {}"]
    assert {name for name in seen.schemas if name.startswith("raw_")} == {"raw_first", "raw_last"}
    assert len(seen.warnings) == 1, seen.warnings
    for name in BAD:
        assert f"raw_{name} (" in seen.warnings[0]
    assert "object" in seen.warnings[0], "it says why"


def test_a_use_is_asked_about_once_whatever_the_policy_names(tmp_path: Path) -> None:
    calls: list[Call] = [
        ("raw_first", {"n": 1}),
        ("raw_last", {"n": 2}),
        ("memory_append", {"block": "notes", "text": "x"}),
    ]
    asks = {"FLEET_ASK_TOOLS": "*"}
    seen = turn(tmp_path, *calls, answer=ONCE, environ=asks, raw=[["first", "last"]])
    assert seen.said[:2] == ['first {"n": 1}', 'last {"n": 2}']
    names = ["memory_append", "raw_first", "raw_last"]
    assert sorted(question.question.split()[3] for question in seen.asked) == names
