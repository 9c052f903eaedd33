"""A provider with limits of its own: a real HTTP server that speaks /v1/chat/completions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy


@dataclass
class Arrival:
    prompt: str
    status: int
    beside: int


@dataclass
class FakeProvider:
    """`bears`: requests at once, more get 429; `status` decides otherwise by prompt and how often it came before."""

    delay_s: float = 0.02
    bears: int = 1_000
    retry_after: str | None = "0.05"
    status: Callable[[str, int], int] = lambda prompt, before: 200
    arrivals: list[Arrival] = field(default_factory=list)
    in_flight: int = 0
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lm(self, **options: Any) -> dspy.LM:
        return dspy.LM("openai/fake", api_base=self.address, api_key="none", cache=False, **options)

    def prompts(self, status: int = 200) -> list[str]:
        return [arrival.prompt for arrival in self.arrivals if arrival.status == status]

    def arrive(self, prompt: str) -> Arrival:
        with self.lock:
            before = sum(arrival.prompt == prompt for arrival in self.arrivals)
            status = 429 if self.in_flight >= self.bears else self.status(prompt, before)
            arrival = Arrival(prompt, status, self.in_flight)
            self.arrivals.append(arrival)
            if status == 200:
                self.in_flight += 1
        return arrival


def answer_to(prompt: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"answer to {prompt}"}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


@contextmanager
def fake_provider(**options: Any) -> Iterator[FakeProvider]:
    """The provider, listening on loopback."""
    fake = FakeProvider(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            arrival = fake.arrive(prompt if isinstance(prompt, str) else prompt[0]["text"])
            if arrival.status == 200:
                time.sleep(fake.delay_s)
                with fake.lock:
                    fake.in_flight -= 1
            self.reply(arrival)

        def reply(self, arrival: Arrival) -> None:
            good = arrival.status == 200
            raw = json.dumps(answer_to(arrival.prompt) if good else {"error": {"message": "not now"}}).encode()
            self.send_response(arrival.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            if not good and fake.retry_after is not None:
                self.send_header("Retry-After", fake.retry_after)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
