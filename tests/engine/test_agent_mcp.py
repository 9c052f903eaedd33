"""Tools of real MCP servers: started by the settings, prefixed, asked for, bounded, and ended with the workspace."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import sse_model, tool
from tests.engine.test_again import of_turn
from tests.engine.test_agent_tools import answering, offered, script
from tests.engine.test_approvals import until
from tests.engine.test_turns import ask, check_journal

from fleet_rlm.errors import InvalidInput
from fleet_rlm.integrations.mcp.client import McpClients, McpFailed
from fleet_rlm.integrations.mcp.servers import McpServer
from fleet_rlm.runtime.config import load_settings, save_settings
from fleet_rlm.runtime.execution.normalised import first_difference
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace, open_workspace
from fleet_rlm.runtime.policy import ALWAYS

SERVER = str(Path(__file__).with_name("mcp_server.py"))
ODD_SERVER = str(Path(__file__).with_name("odd_mcp_server.py"))


def settings_file(home: Path, **servers: dict[str, Any]) -> None:
    lines: list[str] = ['tools = ["memory", "mcp"]']
    for name, table in servers.items():
        lines.append(f"[mcp.{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
        for key, value in table.items():
            if isinstance(value, dict):
                lines += [f"[mcp.{name}.{key}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())]
    (home / "settings.toml").write_text("\n".join(lines))


@pytest.fixture
def mcp_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("FLEET_TEST_SECRET", "of-the-host")
    settings_file(
        tmp_path,
        calc={"command": sys.executable, "args": [SERVER], "env": {"CALC_TOKEN": "tok-123456789", "PLAIN": "given"}},
        dead={"command": "/no/such/program"},
    )
    with open_workspace(load_settings(home=tmp_path, environ={})) as opened:
        yield opened


def children_that_run(path: str) -> list[int]:
    found = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if path in line]


def test_tools_of_a_server_are_offered_asked_for_called_and_told(mcp_workspace: Workspace) -> None:
    steps = (
        [("calc_add", {"a": 41, "b": 1, "note": None}), ("calc_look_up", {"word": "PLAIN"})],
        [("calc_look_up", {"word": "FLEET_TEST_SECRET"}), ("calc_look_up", {"word": "CALC_TOKEN"})],
        [("calc_broken", {}), ("calc_long", {"chars": 100_000}), ("calc_add", {"a": "many"})],
    )
    with sse_model(script(*steps)) as model:
        submitted = mcp_workspace.submit(TurnRequest(question="add", model=model.lm()))
        asked = answering(mcp_workspace, submitted, ALWAYS)
        result = mcp_workspace.wait(submitted.turn, timeout=60)
        assert {"calc_add", "calc_look_up", "calc_broken"} <= offered(model)
        schema = next(t["function"] for t in model.asked[0]["tools"] if t["function"]["name"] == "calc_add")
    assert schema["description"] == "Add two numbers." and schema["parameters"]["properties"]["a"]["type"] == "integer"
    said = json.loads(result.answer or "[]")
    assert said[0] == "42" and said[1] == "given"
    assert said[2] == "(unset)", "nothing of our environment reaches a server"
    assert said[3] in ("tok-123456789", "•••")
    assert (
        "calc_broken failed: Error executing tool broken" in said[4]
        and len(said[5]) < 21_000
        and "calc_add failed" in said[6]
    )
    assert sorted({question.question.split()[3] for question in asked}) == [
        "calc_add",
        "calc_broken",
        "calc_long",
        "calc_look_up",
    ]
    assert all(question.kind == "tool" for question in asked)
    events = events_of(mcp_workspace, result.session)
    check_journal(events)
    assert not any("tok-123456789" in str(event.data) for event in events), "a server's secret stands in no event"
    warnings = [event.data.message for event in events if event.type == "warning"]
    assert len(warnings) == 1 and "MCP server dead" in warnings[0] and "\n" not in warnings[0]


@pytest.mark.parametrize("now", ["as before", "no server", "other tools"])
def test_a_replay_needs_no_server(mcp_workspace: Workspace, now: str) -> None:
    steps = [("calc_add", {"a": 41, "b": 1}), ("calc_broken", {})], [("calc_look_up", {"word": "CALC_TOKEN"})]
    with sse_model(script(*steps)) as model:
        submitted = mcp_workspace.submit(TurnRequest(question="add", model=model.lm()))
        answering(mcp_workspace, submitted, ALWAYS)
        first = mcp_workspace.wait(submitted.turn, timeout=60)
        assert first.status == "ok" and len(model.asked) == 3
        if now != "as before":
            odd = McpServer(name="calc", command=sys.executable, args=(ODD_SERVER,))
            servers = () if now == "no server" else (odd,)
            mcp_workspace.configure(dataclasses.replace(mcp_workspace.settings, mcp=servers))
        again = mcp_workspace.wait(mcp_workspace.replay(submitted.turn).turn, timeout=60)
        assert (again.status, again.answer, again.error) == ("ok", first.answer, None)
        assert len(model.asked) == 3
    assert first_difference(of_turn(mcp_workspace, first), of_turn(mcp_workspace, again)) is None
    (offered_then,) = [e.data for e in of_turn(mcp_workspace, again) if e.type == "tools.offered"]
    assert "MCP server dead" in offered_then.warnings[0] and TOKEN not in str(offered_then)


TOKEN = "tok-123456789"


def test_no_part_of_a_secret_is_told_where_a_text_is_cut(mcp_workspace: Workspace) -> None:
    pieces = [TOKEN[:5], TOKEN[-5:]]
    # an answer is cut after two thirds of 20,000 characters
    calls = [("calc_leak", {"word": "CALC_TOKEN", "before": 13_333 - each}) for each in (0, 4, 6, 12, 13)]
    with sse_model(script(calls)) as model:
        submitted = mcp_workspace.submit(TurnRequest(question="leak", model=model.lm()))
        answering(mcp_workspace, submitted, ALWAYS)
        said = json.loads(mcp_workspace.wait(submitted.turn, timeout=60).answer or "[]")
    assert len(said) == 5 and not any(piece in text for piece in pieces for text in said)


def test_no_part_of_a_secret_is_told_with_a_servers_error(tmp_path: Path) -> None:
    server = McpServer(name="odd", command=sys.executable, args=(ODD_SERVER,), env={"ODD_TOKEN": TOKEN})
    clients = McpClients([server])
    try:
        assert clients.tools()[1] == {}
        for before in (185, 190, 195, 199):
            with pytest.raises(McpFailed) as raised:
                clients.call("odd", "refuse", {"before": before}).result(30)
            assert "x" * before in raised.value.message and TOKEN[:1] not in raised.value.message
    finally:
        clients.close()


SECRETS = [
    ({"headers": {"Authorization": "Bearer abcdef123"}}, {"Bearer abcdef123", "abcdef123"}),
    ({"env": {"GH_TOKEN": "abc def", "PLAIN": "nothing"}}, {"abc def"}),
    ({"env": {"DATABASE": "postgres://me:pa%20ss@db/x", "MODE": "a=b"}}, {"pa%20ss", "pa ss"}),
    ({"args": ("--api-key", "s1", "--verbose", "x", "--password=s2", "--level=3")}, {"s1", "s2"}),
    ({"args": ("--header", "Authorization: Bearer s3")}, {"Bearer s3", "s3"}),
    ({"args": ("/srv/files-of-2024/Projects", "github_pat", "12345678901234567890")}, set[str]()),
    ({"args": ("ghp_9Ab8Cd7Ef6Gh5Ij4", "--x=sk-live0123456789")}, {"ghp_9Ab8Cd7Ef6Gh5Ij4", "sk-live0123456789"}),
    ({"url": "https://h/mcp?api_key=s4&page=2"}, {"s4"}),
]


@pytest.mark.parametrize(("told", "secrets"), SECRETS)
def test_what_of_a_servers_table_is_a_secret(told: dict[str, Any], secrets: set[str]) -> None:
    assert McpServer(name="x", **told).secrets() == secrets


def test_a_program_gets_its_own_environment_and_two_of_our_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "LOGNAME", "SHELL", "TERM"):
        monkeypatch.setenv(name, "of-the-host")
    server = McpServer(name="calc", command="python3-of-the-tests", args=(SERVER,), env={"SHELL": "given"})
    program = tmp_path / "python3-of-the-tests"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o700)
    clients = McpClients([dataclasses.replace(server, env={"SHELL": "given", "PATH": f"{tmp_path}:/usr/bin:/bin"})])
    absent = McpClients([server])
    try:
        assert clients.tools()[1] == {}
        names = ("USER", "LOGNAME", "TERM", "SHELL", "HOME")
        found = [clients.call("calc", "look.up", {"word": name}).result(30).text for name in names]
        assert found == ["(unset)", "(unset)", "(unset)", "given", os.environ["HOME"]]
        assert absent.tools()[1] == {"calc": "there is no program python3-of-the-tests"}
    finally:
        clients.close()
        absent.close()


def test_odd_schemas_are_put_right_or_cost_their_own_tool(tmp_path: Path) -> None:
    settings_file(tmp_path, odd={"command": sys.executable, "args": [ODD_SERVER]})
    steps = (
        [("odd_either", {"word": None, "only": 3}), ("odd_anything", {"value": [1], "type": "x"})],
        [("odd_tree", {"root": {"name": "a", "next": {"name": "b"}}}), ("odd_older", {"word": "ab"}), ("odd_bare", {})],
        [("odd_far", {"word": 5}), ("odd_lost", {"word": 5}), ("odd_either", {"word": "w", "only": "three"})],
    )
    with open_workspace(load_settings(home=tmp_path, environ={})) as opened, sse_model(script(*steps)) as model:
        submitted = opened.submit(TurnRequest(question="?", model=model.lm()))
        answering(opened, submitted, ALWAYS)
        result = opened.wait(submitted.turn, timeout=60)
        assert result.status == "ok", result
        schemas = {t["function"]["name"]: t["function"]["parameters"] for t in model.asked[0]["tools"]}
        warnings = [e.data.message for e in events_of(opened, result.session) if e.type == "warning"]
    word = schemas["odd_either"]["properties"]["word"]
    assert word == {"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 9}
    assert schemas["odd_either"]["properties"]["only"] == {"type": "integer"}
    assert set(schemas["odd_anything"]["properties"]) == {"value", "type"}, "what may never be given is not offered"
    root = schemas["odd_tree"]["properties"]["root"]
    assert root["description"] == "where it begins" and root["properties"]["next"] == {"type": "object"}
    assert schemas["odd_older"]["properties"]["word"] == {"type": "string", "minLength": 2}
    assert schemas["odd_bare"]["properties"] == {}
    said = json.loads(result.answer or "[]")
    assert said[0] == "either: {'word': None, 'only': 3}" or said[0] == "either: {'only': 3}"
    assert said[1] == "anything: {'value': [1], 'type': 'x'}" and said[3] == "older: {'word': 'ab'}"
    assert said[2] == "tree: {'root': {'name': 'a', 'next': {'name': 'b'}}}" and said[4] == "bare: {}"
    assert said[5] == "far: {'word': 5}" and said[6] == "lost: {'word': 5}", "its server judges what we cannot"
    assert "odd_either failed" in said[7] and "three" in said[7]
    assert len(warnings) == 1, warnings
    for left_out in ("odd_deep", "odd_many", "odd_wrong", "odd_listed", "odd_unlisted"):
        assert left_out in warnings[0] and left_out not in schemas


def test_a_server_is_started_once_and_ends_with_the_workspace(tmp_path: Path) -> None:
    settings_file(tmp_path, calc={"command": sys.executable, "args": [SERVER, "hang", str(tmp_path)]})
    with open_workspace(load_settings(home=tmp_path, environ={})) as opened:
        with opened._mcp.using(opened.settings.mcp) as clients, opened._mcp.using(opened.settings.mcp) as same:
            assert clients is same
        clients._connected(clients.servers[0])
        deadline = time.monotonic() + 20
        while not children_that_run(f"{SERVER} hang {tmp_path}"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    deadline = time.monotonic() + 15
    while children_that_run(f"{SERVER} hang {tmp_path}"):
        assert time.monotonic() < deadline, "the server outlives the workspace"
        time.sleep(0.1)


def test_a_hanging_server_costs_its_tools_and_not_the_turn(tmp_path: Path) -> None:
    settings_file(tmp_path, stuck={"command": sys.executable, "args": [SERVER, "hang", str(tmp_path)]})
    settings = load_settings(home=tmp_path, environ={})
    with Workspace(settings, mcp_connect_s=1.0) as opened, sse_model(script()) as model:
        for _ in range(2):
            result = ask(opened, "?", model=model.lm())
            assert result.status == "ok"
            warnings = [e.data.message for e in events_of(opened, result.session) if e.type == "warning"]
            assert len(warnings) == 1 and "stuck are missing: no answer" in warnings[0]
        deadline = time.monotonic() + 15
        while children_that_run(f"{SERVER} hang {tmp_path}"):
            assert time.monotonic() < deadline, "a server that was given up is left running"
            time.sleep(0.1)


def test_a_server_over_http(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        settings_file(tmp_path, web={"url": f"http://127.0.0.1:{port}/mcp", "headers": {"X-Who": "me"}})
        clients = McpClients(load_settings(home=tmp_path, environ={}).mcp)
        tools, faults = clients.tools()
        assert faults == {} and {"add", "look.up"} <= {tool.name for tool in tools}
        assert clients.call("web", "add", {"a": 2, "b": 3}).result(30).text == "5"
        clients.close()
    finally:
        process.kill()
        process.wait()


WRONG = [
    ({"x": {}}, "either command or url"),
    ({"x": {"command": "a", "url": "http://b"}}, "either command or url"),
    ({"x": {"command": "a", "headers": {}}}, "unknown headers"),
    ({"x": {"command": "a", "args": "b"}}, "args is no list"),
    ({"x": {"command": "a", "env": {"A": 1}}}, "env holds something else"),
    ({"x": {"url": "ftp://a"}}, "http:// or https://"),
    ({"A-b": {"command": "a"}}, "a server's name"),
]


@pytest.mark.parametrize(("servers", "fault"), WRONG)
def test_bad_tables_are_one_line(tmp_path: Path, servers: dict[str, Any], fault: str) -> None:
    settings_file(tmp_path, **servers)
    with pytest.raises(InvalidInput, match=fault) as raised:
        load_settings(home=tmp_path, environ={})
    assert "settings.toml" in raised.value.message


def test_saving_another_setting_keeps_the_servers(tmp_path: Path) -> None:
    settings_file(
        tmp_path,
        calc={"command": "c", "args": ["-x", "ü"], "env": {"A_KEY": 'v"w'}},
        web={"url": "http://h", "headers": {"X-Y": "z"}},
    )
    before = load_settings(home=tmp_path, environ={})
    after = save_settings(before, {"model": "openai/x"}, environ={})
    assert after.mcp == before.mcp and after.model == "openai/x" and len(after.mcp) == 2
    assert after.mcp[0].env == {"A_KEY": 'v"w'} and 'v"w' not in repr(after.mcp)


def test_other_settings_do_not_end_the_servers_of_a_running_turn(mcp_workspace: Workspace) -> None:
    usual = script([("calc_add", {"a": 1})], [("calc_add", {"a": 41})])
    before = children_that_run(SERVER)

    def reply(body: dict[str, Any]) -> list[Any]:
        if any(message["role"] == "tool" for message in body["messages"]) and mcp_workspace.settings.mcp:
            mcp_workspace.configure(dataclasses.replace(mcp_workspace.settings, mcp=()))
            with sse_model(lambda _: tool("submit", {"answer": "meanwhile"})) as other:
                assert ask(mcp_workspace, "another", model=other.lm()).answer == "meanwhile"
        return usual(body)

    with sse_model(reply) as model:
        submitted = mcp_workspace.submit(TurnRequest(question="add", model=model.lm()))
        answering(mcp_workspace, submitted, ALWAYS)
        result = mcp_workspace.wait(submitted.turn, timeout=60)
    assert json.loads(result.answer or "[]") == ["2", "42"]
    until(lambda: children_that_run(SERVER) == before, 20)
