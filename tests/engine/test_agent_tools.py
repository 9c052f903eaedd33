"""The agent's tools on real sandboxes, real contexts and a real web server, chosen by a scripted model."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import events_of
from tests.engine.sse_model import SseModel, sse_model, tool
from tests.engine.test_turns import ask, check_journal

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.content.fetch import Fetcher
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace
from fleet_rlm.runtime.policy import ALWAYS, DENY
from fleet_rlm.runtime.tools.bounds import cut

Call = tuple[str, dict[str, Any]]


def results(body: dict[str, Any]) -> list[str]:
    """What the tools have said so far in this turn, oldest first. An earlier turn is its `submit` alone."""
    messages = body["messages"]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    submits = {call["id"] for call in calls if call["function"]["name"] == "submit"}
    return [str(m["content"]) for m in messages if m["role"] == "tool" and m["tool_call_id"] not in submits]


def script(*steps: list[Call]) -> Any:
    """A model that makes the calls of each step, then submits everything that the tools said."""

    def reply(body: dict[str, Any]) -> list[Any]:
        done = results(body)
        taken = 0
        for step in steps:
            if len(done) <= taken:
                return [piece for n, (name, args) in enumerate(step) for piece in tool(name, args, index=n)]
            taken += len(step)
        return tool("submit", {"answer": json.dumps(done)}, cut=400)

    return reply


def work(workspace: Workspace, *steps: list[Call], **options: Any) -> tuple[list[str], TurnResult]:
    with sse_model(script(*steps)) as model:
        result = ask(workspace, "do it", model=model.lm(), **options)
    assert result.status == "ok", result
    check_journal(events_of(workspace, result.session))
    return json.loads(result.answer or "[]"), result


def offered(model: SseModel) -> set[str]:
    return {each["function"]["name"] for each in model.asked[-1].get("tools", [])}


def test_the_sandbox_of_the_session_keeps_variables_and_files(workspace: Workspace) -> None:
    said, result = work(
        workspace,
        [("run_python", {"code": "x = 41\nprint('hello')\nx + 1"})],
        [("run_python", {"code": "open('a.txt', 'w').write(f'{x}\\n'); x"}), ("run_shell", {"command": "echo $((6*7)); false"})],
        [("write_file", {"path": "sub/b.txt", "text": "one\ntwo\nthree"})],
        [("list_files", {}), ("read_file", {"path": "sub/b.txt", "first_line": 2, "last_line": 2}), ("run_shell", {"command": "cat a.txt"})],
    )  # fmt: skip
    assert said[0] == "hello\n42"
    assert said[1] == "41" and "42" in said[2] and "[exit status 1]" in said[2]
    assert "a.txt (3 bytes)" in said[4] and "sub/b.txt (13 bytes)" in said[4]
    assert said[5].startswith("2: two") and "1 more line" in said[5] and said[6] == "41"
    events = events_of(workspace, result.session)
    root = next(event.run for event in events if event.type == "run.started")
    assert [event.type for event in events].count("sandbox.ready") == 1, "one sandbox for all calls"
    assert all(event.run == root for event in events if event.type.startswith(("cell.", "tool.", "sandbox.")))
    assert [event.type for event in events].count("sandbox.released") == 1
    said, _ = work(
        workspace,
        [("run_python", {"code": "x + 1"})],
        [("run_shell", {"command": "cat a.txt"})],
        session=result.session,
    )
    assert said == ["42", "41"], "both are there in the next turn"
    other, _ = work(workspace, [("run_python", {"code": "x"}), ("list_files", {})])
    assert "NameError" in other[0] and "a.txt" not in other[1], "and not in another session"


def test_a_deleted_session_leaves_no_sandbox(workspace: Workspace) -> None:
    _, result = work(workspace, [("write_file", {"path": "a.txt", "text": "mine"})])
    marks = {"fleet.session": result.session}
    assert len(workspace.sandboxes.list(marks)) == 1, "it waits for the session's next turn"
    workspace.delete_session(result.session)
    assert workspace.sandboxes.list(marks) == []


def test_code_of_the_agent_is_jailed_bounded_and_its_errors_are_told(workspace: Workspace) -> None:
    began = time.monotonic()
    said, _ = work(
        workspace,
        [("run_python", {"code": "import time; y = 5; time.sleep(60)", "seconds": 1})],
        [("run_python", {"code": "y"}), ("run_python", {"code": "1/0"}), ("run_python", {"code": "def"})],
        [("run_python", {"code": "print('x' * 100_000)"}), ("read_file", {"path": "../../etc/passwd"}), ("run_shell", {"command": " "})],
        [("run_python", {"code": "import socket; socket.create_connection(('1.1.1.1', 80), 2)"}), ("run_python", {"code": "1", "seconds": 0})],
    )  # fmt: skip
    assert said[0] == "[Error] stopped after 1 s" and time.monotonic() - began < 50
    assert said[1] == "5" and "ZeroDivisionError" in said[2] and "SyntaxError" in said[3]
    assert len(said[4]) < 21_000 and "characters left out" in said[4]
    assert "failed" in said[5] and "root:" not in said[5] and "the command is empty" in said[6]
    assert "Error" in said[7] and "seconds must be from 1" in said[8]


def test_a_stopped_turn_ends_the_agents_code(workspace: Workspace) -> None:
    with sse_model(script([("run_python", {"code": "import time; time.sleep(100)", "seconds": 200})])) as model:
        submitted = workspace.submit(TurnRequest(question="sleep", model=model.lm()))
        deadline = time.monotonic() + 60
        while not any(event.type == "cell.started" for event in events_of(workspace, submitted.session)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workspace.cancel(submitted.turn)
        result = workspace.wait(submitted.turn, timeout=30)
    assert result.status == "cancelled"
    check_journal(events_of(workspace, result.session))


def test_a_limit_of_one_sandbox_leaves_it_to_the_delegated_tasks(workspace: Workspace) -> None:
    said, _ = work(workspace, [("run_python", {"code": "1"})], limits=ev.Limits(sandboxes=1))
    assert "leaves none" in said[0]


def test_contexts_are_read_listed_and_searched_in_pieces(workspace: Workspace, tmp_path: Path) -> None:
    lines = [f"line {n} " + "y" * 90 for n in range(1, 30_001)]
    lines[24_999] = "the NEEDLE is here"
    big = workspace.contexts.add_text("big.txt", "\n".join(lines))
    folder = tmp_path / "src"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.py").write_text("import os\nneedle = 1\n")
    (folder / "deep" / "b.md").write_text("needle in b\n")
    tree = workspace.contexts.add_path(folder)
    said, result = work(
        workspace,
        [("search_context", {"name": "big.txt", "pattern": "needle"}), ("search_context", {"name": "src", "pattern": "^needle"})],
        [("search_context", {"name": "src", "pattern": "needle", "path": "*.md"}), ("list_context", {"name": "src", "path": "*.py"})],
        [("read_context", {"name": "big.txt", "first_line": 24999, "last_line": 25001}), ("read_context", {"name": "src"})],
        [("search_context", {"name": "big.txt", "pattern": "("}), ("search_context", {"name": "big.txt", "pattern": "(y+)+$z"})],
        [("search_context", {"name": "nope", "pattern": "x"}), ("search_context", {"name": "big.txt", "pattern": "line"})],
        contexts=(big, tree),
    )  # fmt: skip
    assert said[0] == "big.txt:25000: the NEEDLE is here"
    assert said[1] == "a.py:2: needle = 1\ndeep/b.md:1: needle in b"
    assert said[2] == "deep/b.md:1: needle in b" and said[3] == "a.py: 21 characters, 2 lines"
    assert said[4].splitlines()[1] == "big.txt:25000: the NEEDLE is here" and "give the path" in said[5]
    assert "not a regular expression" in said[6]
    assert "takes too long" in said[7] or said[7] == "no line matches"
    assert "there are: big.txt, src" in said[8] and said[9].endswith("stopped at 50 lines")
    assert {each.name: each.read for each in result.coverage} == {"big.txt": big.chars, "src": tree.chars}
    _, result = work(
        workspace,
        [("read_context", {"name": "big.txt", "first_line": 24999, "last_line": 25001})],
        contexts=(big,),
    )
    (read,) = [event.data for event in events_of(workspace, result.session) if event.type == "context.read"]
    assert read.sha256 == big.sha256
    assert read.spans[0].end - read.spans[0].start < 1000, "of what is not searched only what was shown counts as read"


@pytest.fixture
def site() -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><body><h1>News</h1><p>The bridge is open.</p></body></html>"
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", f"http://{self.path.removeprefix('/to/')}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path == "/long":
                body = b"<html><body>" + b"<p>The same again.</p>" * 2000 + b"</body></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_web(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace that may fetch from this machine, where the tests' web server is."""
    fetcher = Fetcher(allowed=lambda _: True)
    with Workspace(load_settings(home=tmp_path, environ={}), fetcher=fetcher) as opened:
        yield opened


def answering(workspace: Workspace, submitted: Any, answer: str | dict[str, str]) -> list[ev.ApprovalRequested]:
    """Answer every question of the turn until it ends; the questions. `answer`: one for all, or by a word in them."""
    asked: dict[str, ev.ApprovalRequested] = {}
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        for event in events_of(workspace, submitted.session):
            if event.turn != submitted.turn:
                continue
            if isinstance(event.data, ev.ApprovalRequested) and event.data.id not in asked:
                asked[event.data.id] = event.data
                live = workspace._executor.live(submitted.turn)
                assert live is not None
                question = event.data.question
                said = answer if isinstance(answer, str) else next(answer[word] for word in answer if word in question)
                live.answer(event.data.id, said)
            if event.type == "turn.finished":
                return list(asked.values())
        time.sleep(0.05)
    raise AssertionError("the turn did not end")


def test_a_page_is_fetched_when_the_person_allows_its_host(open_web: Workspace, site: str) -> None:
    workspace = open_web
    steps = (
        [("fetch_page", {"url": f"{site}/news"}), ("fetch_page", {"url": f"{site}/long"})],
        [("search_context", {"name": "news", "pattern": "bridge"})],
        [("read_context", {"name": "long", "last_line": 1})],
    )
    with sse_model(script(*steps)) as model:
        submitted = workspace.submit(TurnRequest(question="news?", model=model.lm()))
        asked = answering(workspace, submitted, ALWAYS)
        result = workspace.wait(submitted.turn, timeout=60)
        assert {"fetch_page", "read_context", "delegate_batched"} <= offered(model)
    assert len(asked) == 1 and "127.0.0.1" in asked[0].question and asked[0].kind == "host", "one answer for the host"
    said = json.loads(result.answer or "[]")
    assert "The bridge is open." in said[0] and "begins with" in said[1] and len(said[1]) < 7000
    assert "bridge is open" in said[2] and "The same again" in said[3]
    added = [event.data.context.name for event in events_of(workspace, result.session) if event.type == "context.added"]
    assert sorted(added) == ["long", "news"]
    check_journal(events_of(workspace, result.session))


def test_a_page_is_not_fetched_when_the_person_refuses(workspace: Workspace, site: str) -> None:
    with sse_model(
        script([("fetch_page", {"url": f"{site}/news"})], [("fetch_page", {"url": "file:///etc/passwd"})])
    ) as model:
        submitted = workspace.submit(TurnRequest(question="news?", model=model.lm()))
        answering(workspace, submitted, DENY)
        said = json.loads(workspace.wait(submitted.turn, timeout=60).answer or "[]")
    assert "was not allowed" in said[0] and "no web address" in said[1]


def test_the_host_that_a_redirect_leads_to_is_asked_about_too(open_web: Workspace, site: str) -> None:
    port = site.rpartition(":")[2]
    away, here = f"{site}/to/localhost:{port}/news", f"{site}/to/127.0.0.1:{port}/news"
    for answer in (ALWAYS, DENY):
        with sse_model(script([("fetch_page", {"url": away})], [("fetch_page", {"url": here})])) as model:
            submitted = open_web.submit(TurnRequest(question="news?", model=model.lm()))
            asked = answering(open_web, submitted, {"127.0.0.1": ALWAYS, "localhost": answer})
            result = open_web.wait(submitted.turn, timeout=60)
        hosts = [question.question.split()[-1] for question in asked]
        assert hosts == ["127.0.0.1?", "localhost?"], "each host once"
        said = json.loads(result.answer or "[]")
        assert ("The bridge is open." in said[0]) == (answer == ALWAYS) and "The bridge is open." in said[1]
        assert answer == ALWAYS or "'localhost' was not allowed" in said[0]
        check_journal(events_of(open_web, result.session))


def test_another_spelling_of_a_host_is_no_way_round_the_question(open_web: Workspace, site: str) -> None:
    port = site.rpartition(":")[2]
    refused = replace(open_web.settings.policy, ask_hosts=("LocalHost", "127.0.0.1"), ask_seconds=0)
    for named, spelled in ((refused, "localhost."), (refused, "\uff4cocalhost"), (refused, "2130706433")):
        open_web.configure(replace(open_web.settings, policy=named))
        said, result = work(open_web, [("fetch_page", {"url": f"http://{spelled}:{port}/news"})])
        assert "was not allowed (host)" in said[0]
        asked = [e.data for e in events_of(open_web, result.session) if isinstance(e.data, ev.ApprovalRequested)]
        assert [each.kind for each in asked] == ["host"]


def test_a_host_that_leads_to_a_named_address_is_asked_about(open_web: Workspace, site: str) -> None:
    port = site.rpartition(":")[2]
    policy = replace(open_web.settings.policy, ask_hosts=("127.*",), ask_seconds=0)
    open_web.configure(replace(open_web.settings, policy=policy))
    said, result = work(open_web, [("fetch_page", {"url": f"http://localhost:{port}/news"})])
    asked = [e.data for e in events_of(open_web, result.session) if isinstance(e.data, ev.ApprovalRequested)]
    assert "was not allowed (host)" in said[0]
    assert [each.question for each in asked] == ["May something be fetched from 127.0.0.1, where localhost leads?"]


def test_private_addresses_stay_closed_even_when_allowed(workspace: Workspace, site: str) -> None:
    with sse_model(script([("fetch_page", {"url": f"{site}/news"})])) as model:
        submitted = workspace.submit(TurnRequest(question="news?", model=model.lm()))
        answering(workspace, submitted, ALWAYS)
        said = json.loads(workspace.wait(submitted.turn, timeout=60).answer or "[]")
    assert "no public address" in said[0]


def test_the_setting_says_which_tools_are_offered(workspace: Workspace, tmp_path: Path) -> None:
    chosen = load_settings(home=workspace.settings.home, environ={"FLEET_TOOLS": "memory, delegation"})
    before = workspace.settings
    workspace.configure(chosen)
    try:
        with sse_model(script()) as model:
            ask(workspace, "?", model=model.lm())
            assert offered(model) == {"submit", "delegate", "memory_append", "memory_replace", "ask_user"}
    finally:
        workspace.configure(before)
    for bad in ("memory, shell", 3, ["web", "x"]):
        with pytest.raises(InvalidInput, match="tools"):
            load_settings(home=tmp_path, environ={}, overrides={"tools": bad})
    (tmp_path / "settings.toml").write_text('tools = ["web", "contexts"]\n')
    assert load_settings(home=tmp_path, environ={}).tools == ("contexts", "web")
    assert load_settings(home=tmp_path, environ={"FLEET_TOOLS": "none"}).tools == ()


def test_a_model_without_tools_of_its_own_is_offered_only_the_tasks(workspace: Workspace) -> None:
    ref = workspace.contexts.add_text("few.txt", "only this")
    with sse_model(lambda _: [{"content": "It is this."}]) as model:
        ask(workspace, "?", model=model.lm(tools=False), contexts=(ref,))
        prompt = str(model.asked[-1]["messages"])
    assert "search_context" in prompt and "run_python" not in prompt and "memory_append" not in prompt


def test_a_result_is_cut_in_its_middle() -> None:
    short = cut("a" * 50 + "b" * 50, 30)
    assert short.startswith("a" * 20) and short.endswith("b" * 10) and "70 characters left out" in short
    assert cut("x", 30) == "x"
