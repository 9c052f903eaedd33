"""What becomes of a server's list of tools: bad ones, too many, two of one name, arguments with names of DSPy's own."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
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
    for name, pages in servers.items():
        (home / f"{name}.json").write_text(json.dumps(pages))
    tables = {name: {"command": sys.executable, "args": [SERVER, str(home / f"{name}.json")]} for name in servers}
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


@pytest.mark.parametrize(
    ("pages", "taken"),
    [
        ([[f"t{n}" for n in range(200)]], "64 of 200"),
        ([[f"t{n}" for n in range(40)], [f"t{n}" for n in range(40, 80)], ["more"]], "64 of more than 80"),
        ([[f"t{n}"] for n in range(11)], "10 of more than 10"),
    ],
)
def test_tools_beyond_the_number_of_a_server_are_told(tmp_path: Path, pages: list[Any], taken: str) -> None:
    seen = turn(tmp_path, ("raw_t0", {}), raw=pages)
    assert seen.said == ["t0 {}"]
    assert sum(name.startswith("raw_") for name in seen.schemas) == int(taken.split()[0])
    assert seen.warnings == [f"tools of the MCP server raw are missing: {taken} are taken"]


def test_of_tools_that_are_left_out_for_either_reason_both_are_told(tmp_path: Path) -> None:
    long = [{"name": f"t{n}", "inputSchema": {"type": "object"}, "description": "d" * 990} for n in range(200)]
    seen = turn(tmp_path, raw=[long])
    offered = sum(name.startswith("raw_") for name in seen.schemas)
    assert 0 < offered < 64 and len(seen.warnings) == 2
    assert "64 of 200 are taken" in seen.warnings[0] and seen.warnings[1].startswith(f"{64 - offered} tools of MCP")


def test_of_tools_with_one_name_the_first_is_offered_and_the_others_told(tmp_path: Path) -> None:
    long = "n" * 70
    seen = turn(
        tmp_path, ("raw_a_b", {}), ("memory_append", {"block": "notes", "text": "mine"}),
        raw=[["a.b", "a_b", f"{long}1", f"{long}2"], ["a.b"]], memory=[["append", "other"]],
    )  # fmt: skip
    assert seen.said[0] == "a.b {}" and "notes now has" in seen.said[1], "the agent's own tool stays"
    assert "memory_other" in seen.schemas
    (warning,) = seen.warnings
    assert warning.count("there is another tool of this name") == 3, warning
    for name in ("raw_a_b (a_b:", f"{long}2:", "memory_append (append:"):
        assert name in warning


def test_an_argument_may_have_any_name(tmp_path: Path) -> None:
    texts = {name: {"type": "string"} for name in ("self", "self_", "instance", "class", "name", "run", "a-b")}
    odd = {"name": "odd", "inputSchema": {"type": "object", "properties": texts, "required": ["self"]}}
    given = {"self_": "1", "self__": "2", "instance_": "3", "class": "4", "name": "5", "run": "6", "a-b": "7"}
    seen = turn(tmp_path, ("raw_odd", given), raw=[[odd]])
    assert list(seen.schemas["raw_odd"]["properties"]) == list(given)
    name, _, arguments = seen.said[0].partition(" ")
    assert name == "odd" and json.loads(arguments) == dict(zip(texts, given.values(), strict=True))
