"""A small OpenAI-compatible server that streams what a script says, also badly: cut off, empty, garbage."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
from dspy import lm15

CUT = "CUT"
Piece = dict[str, Any] | str | float


def say(*pieces: str) -> list[Piece]:
    return [{"content": piece} for piece in pieces]


def think(*pieces: str) -> list[Piece]:
    return [{"reasoning_content": piece} for piece in pieces]


def tool(name: str, arguments: dict[str, Any], *, index: int = 0, cut: int = 12) -> list[Piece]:
    text = json.dumps(arguments)
    first = {"index": index, "id": f"c{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": index, "function": {"arguments": text[i : i + cut]}} for i in range(0, len(text), cut)]
    return [{"tool_calls": [call]} for call in (first, *rest)]


@dataclass
class SseModel:
    """`reply` gives the pieces of an answer to a request: deltas, raw lines, CUT, or seconds to wait.

    A first piece of {"refused": TEXT} is an error, {"page": HTML} what a web server answers; {"at once": True} means
    that it does not stream whatever it was asked for.
    """

    reply: Callable[[dict[str, Any]], list[Piece]]
    asked: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""
    broken: threading.Event = field(default_factory=threading.Event)

    def lm(self, *, tools: bool = True, reasons: bool = False, **options: Any) -> dspy.LM:
        """`reasons`: DSPy knows that the model thinks by itself, and reads its thoughts where the provider puts them."""
        name = f"sse-{'tools' if tools else 'plain'}{'-reasons' if reasons else ''}"
        lm15.register_provider(
            lm15.ProviderDefinition.chat(
                lm15.AccessPolicy(provider=name, base_url="http://127.0.0.1:9/v1"),
                compat=lm15.OpenAIChatCompat.preset("ollama"),
            ),
            supports=lm15.ModelSupport(function_calling=tools, response_schema=False, reasoning=reasons or None),
        )
        options = {"num_retries": 0, "cache": False, **options}
        return dspy.LM(f"{name}/tiny", api_base=f"{self.address}/v1", api_key="none", **options)


@contextmanager
def sse_model(reply: Callable[[dict[str, Any]], list[Piece]]) -> Iterator[SseModel]:
    model = SseModel(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.asked.append(body)
            pieces = model.reply(body)
            if pieces and isinstance(pieces[0], dict) and "refused" in pieces[0]:
                return self.json(400, {"error": {"message": pieces[0]["refused"], "type": "invalid_request_error"}})
            if pieces and isinstance(pieces[0], dict) and "page" in pieces[0]:
                return self.body(200, "text/html", pieces[0]["page"])
            if not body.get("stream") or {"at once": True} in pieces:
                return self.whole(pieces)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                self.pieces(pieces)
            except OSError:
                model.broken.set()

        def pieces(self, pieces: list[Piece]) -> None:
            called = False
            for piece in pieces:
                if piece == CUT:
                    return
                if isinstance(piece, float):
                    time.sleep(piece)
                elif isinstance(piece, str):
                    self.line(piece)
                else:
                    called = called or "tool_calls" in piece
                    self.chunk({"index": 0, "delta": piece, "finish_reason": None})
            self.chunk({"index": 0, "delta": {}, "finish_reason": "tool_calls" if called else "stop"})
            self.line(
                json.dumps(
                    {
                        "id": "c",
                        "object": "chat.completion.chunk",
                        "model": "tiny",
                        "choices": [],
                        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
                    }
                )
            )
            self.line("[DONE]")

        def chunk(self, choice: dict[str, Any]) -> None:
            self.line(json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "tiny", "choices": [choice]}))

        def line(self, text: str) -> None:
            self.wfile.write(f"data: {text}\n\n".encode())
            self.wfile.flush()

        def whole(self, pieces: list[Piece]) -> None:
            text = "".join(piece.get("content", "") for piece in pieces if isinstance(piece, dict))
            calls: dict[int, dict[str, Any]] = {}
            for part in (part for piece in pieces if isinstance(piece, dict) for part in piece.get("tool_calls", [])):
                whole = calls.setdefault(
                    part["index"], {"id": part.get("id"), "type": "function", "function": {"name": "", "arguments": ""}}
                )
                whole["function"]["name"] += part["function"].get("name", "")
                whole["function"]["arguments"] += part["function"].get("arguments", "")
            message: dict[str, Any] = {"role": "assistant", "content": text or None}
            if calls:
                message["tool_calls"] = list(calls.values())
            answer = {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "tiny",
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            }
            self.json(200, answer)

        def json(self, status: int, answer: dict[str, Any]) -> None:
            self.body(status, "application/json", json.dumps(answer))

        def body(self, status: int, kind: str, text: str) -> None:
            raw = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    model.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
