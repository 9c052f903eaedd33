"""Fixtures of the model tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleet_rlm.runtime.config import Settings, load_settings
from models.fake_models import Asked, FakeModelServer, completion


@pytest.fixture
def server():
    fake = FakeModelServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append(Asked("GET", self.path, self.headers.get("Authorization"), None))
            time.sleep(fake.delay_s)
            if self.path == "/v1/models":
                self.reply(200, {"object": "list", "data": fake.models})
            else:
                self.reply(*fake.get.get(self.path, (404, {"error": "not found"})))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.asked.append(Asked("POST", self.path, self.headers.get("Authorization"), body))
            time.sleep(fake.delay_s)
            self.reply(*(fake.answer(body) if fake.answer else completion("ready")))

        def reply(self, status: int, body: Any) -> None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda request, client_address: None  # a client that gave up is part of the test
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.address = f"http://127.0.0.1:{httpd.server_port}/v1"
    yield fake
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def settings_for(tmp_path: Path) -> Callable[..., Settings]:
    """Settings from nothing but the given variables."""

    def make(**variables: str) -> Settings:
        return load_settings(home=tmp_path / "home", environ=variables)

    return make
