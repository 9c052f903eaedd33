"""A model server of one's own whose window is too small: whole turns against a server that answers as Ollama does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import events_of

from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace

WINDOW = 4096


class Cutting(BaseHTTPRequestHandler):
    """Reads at most half its window of a longer prompt, answers to that, and says nothing of it."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = sum(len(message["content"]) for message in body["messages"]) // 4
        read = tokens if tokens < WINDOW else WINDOW // 2 + 2
        answer = "[[ ## answer ## ]]\nNothing is said about it.\n\n[[ ## completed ## ]]"
        if body.get("response_format"):
            answer = '{"answer": "Nothing is said about it."}'
        usage = {"prompt_tokens": read, "completion_tokens": 9, "total_tokens": read + 9}
        base = {"id": "c", "created": 1, "model": body["model"]}
        if body.get("stream"):
            parts = [{"index": 0, "delta": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]
            chunks = [{**base, "choices": parts}, {**base, "choices": [], "usage": usage}]
            lines = [f"data: {json.dumps({**c, 'object': 'chat.completion.chunk'})}\n\n" for c in chunks]
            self.reply("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())
        else:
            message = {"role": "assistant", "content": answer}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            whole = {**base, "object": "chat.completion", "choices": choices, "usage": usage}
            self.reply("application/json", json.dumps(whole).encode())

    def reply(self, kind: str, raw: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def cutting(tmp_path: Path) -> Iterator[Workspace]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Cutting)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    variables = {"FLEET_MODEL": "ollama_chat/tiny", "FLEET_API_BASE": f"http://127.0.0.1:{httpd.server_port}/v1"}
    with open_workspace(load_settings(home=tmp_path, environ=variables)) as workspace:
        yield workspace
    httpd.shutdown()
    httpd.server_close()


def ask(workspace: Workspace, text: str) -> TurnResult:
    ref = workspace.contexts.add_text("notes.txt", text)
    submitted = workspace.submit(TurnRequest(question="what?", contexts=(ref,), mode="direct"))
    return workspace.wait(submitted.turn, timeout=60)


def test_an_answer_to_half_of_the_prompt_is_a_failure_and_says_why(cutting: Workspace) -> None:
    result = ask(cutting, "a line of some words\n" * 1500)
    assert (result.status, result.answer) == ("failed", None)
    assert result.error is not None and result.error.code == "context_too_long"
    assert "2,050 tokens" in result.error.message and "OLLAMA_CONTEXT_LENGTH" in str(result.error.hint)
    (call,) = [e.data for e in events_of(cutting, result.session) if e.type == "call.finished"]
    assert (call.status, call.prompt_tokens, call.response) == ("failed", 2050, None)


def test_a_prompt_that_fits_is_answered(cutting: Workspace) -> None:
    result = ask(cutting, "a line of some words\n" * 100)
    assert (result.status, result.answer) == ("ok", "Nothing is said about it.")
