"""A model server on loopback that misbehaves as it is told: one OpenAI-compatible address, one script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler", dict[str, Any]], None]


@dataclass
class BrokenModel:
    """`script(number, prompt)` chooses the reply to each chat request; `gone` is set when a client hung up on one."""

    script: Callable[[int, str], Reply]
    prompts: list[str] = field(default_factory=list)
    in_flight: int = 0
    gone: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    address: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> BrokenModel:
        handler = type("OwnHandler", (Handler,), {"model": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that give up are part of the tests
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def enter(self, prompt: str) -> int:
        with self._lock:
            self.prompts.append(prompt)
            self.in_flight += 1
            return len(self.prompts) - 1

    def leave(self) -> None:
        with self._lock:
            self.in_flight -= 1


class Handler(BaseHTTPRequestHandler):
    model: BrokenModel

    def do_GET(self) -> None:
        send(self, 200, json.dumps({"object": "list", "data": [{"id": "tiny"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = "\n\n".join(_text(message.get("content")) for message in body["messages"])
        number = self.model.enter(prompt)
        try:
            self.model.script(number, prompt)(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.model.gone.set()
        finally:
            self.model.leave()

    def log_message(self, format: str, *args: Any) -> None: ...


def send(handler: Handler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def says(
    text: str,
    *,
    tool: tuple[str, dict[str, Any]] | None = None,
    usage: dict[str, Any] | None = None,
    ends: str | None = None,
    **more: Any,
) -> Reply:
    """A whole answer, streamed where a stream is asked for. `ends`: its finish reason; `more` of its message."""
    shaped = partial(_chat, usage=usage)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": text, **more}
        if tool is not None:
            function = {"name": tool[0], "arguments": json.dumps(tool[1])}
            message["tool_calls"] = [{"index": 0, "id": "t1", "type": "function", "function": function}]
        finish = ends or ("tool_calls" if tool else "stop")
        if not body.get("stream"):
            send(handler, 200, json.dumps(shaped("chat.completion", message=message, finish_reason=finish)).encode())
            return
        chunks = [shaped("chat.completion.chunk", delta=message), shaped("chat.completion.chunk", finish_reason=finish)]
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
        send(handler, 200, "".join(lines).encode(), Content_Type="text/event-stream")

    return reply


def refuses(status: int, message: str = "no", **headers: str) -> Reply:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        send(handler, status, json.dumps({"error": {"message": message}}).encode(), **headers)

    return reply


def raw(body: bytes, content_type: str = "text/html") -> Reply:
    """Status 200 with a body that is no answer."""
    return lambda handler, _: send(handler, 200, body, Content_Type=content_type)


def cut_short(handler: Handler, body: dict[str, Any]) -> None:
    """Half of an answer, then the connection is gone."""
    whole = json.dumps(_chat("chat.completion", message={"role": "assistant", "content": "x" * 500})).encode()
    part = b'data: {"choices": [{"index": 0, "delta": {"content": "half' if body.get("stream") else whole[:200]
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream" if body.get("stream") else "application/json")
    handler.send_header("Content-Length", str(len(whole) + 10_000))
    handler.end_headers()
    handler.wfile.write(part)
    handler.wfile.flush()
    handler.connection.shutdown(2)


def hangs(handler: Handler, body: dict[str, Any]) -> None:
    """No answer at all, until the client leaves or the test is over."""
    handler.connection.settimeout(0.05)
    while not handler.model.over.is_set():
        try:
            if handler.connection.recv(1) == b"":
                handler.model.gone.set()
                return
        except TimeoutError:
            continue
        except OSError:
            handler.model.gone.set()
            return


def _chat(kind: str, *, usage: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    usage = usage or {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    shape = {"id": "c1", "object": kind, "created": 1, "model": "tiny", "choices": [{"index": 0, **choice}]}
    return shape | ({"usage": usage} if "finish_reason" in choice else {})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [])
