"""Every example as a person runs it: a process of its own, a fresh data folder, no network, no key."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LOG = "all is well\n" * 200 + "ERROR: the pump of unit 7 stopped at 04:12\n" + "all is well\n" * 200


def ran(name: str, home: Path, *arguments: str, **variables: str) -> str:
    environ = {**os.environ, "FLEET_HOME": str(home / "data"), **variables}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    file = tmp_path / "logs" / "pump.log"
    file.write_text(LOG)
    return file


def test_ask_a_folder(log: Path, tmp_path: Path) -> None:
    said = ran("ask_a_folder.py", tmp_path, str(log.parent), "which pump of unit 7 stopped?")
    assert "pump.log:201" in said and "the pump of unit 7 stopped at 04:12" in said and "ok: " in said


def test_without_arguments_they_ask_about_themselves(tmp_path: Path) -> None:
    said = ran("ask_a_folder.py", tmp_path)
    assert "budget_and_partial.py" in said and said.rstrip().splitlines()[-1].startswith("ok: ")
    assert ran("stream_events.py", tmp_path).rstrip().endswith("turn.finished")
    vowels = sum(letter in "aeiou" for letter in "recursive language models ")
    assert ran("interpreter_in_dspy_rlm.py", tmp_path) == f"{vowels * 1000}\n"


def test_stream_events(log: Path, tmp_path: Path) -> None:
    said = ran("stream_events.py", tmp_path, str(log), "which pump stopped?")
    assert "run.started" in said and "cell.finished" in said and said.rstrip().endswith("turn.finished")


def test_own_lm(tmp_path: Path) -> None:
    assert ran("own_lm.py", tmp_path) == "I am a function, not a model. 1 100\n"


def test_budget_and_partial(tmp_path: Path) -> None:
    head, _, answer = ran("budget_and_partial.py", tmp_path).partition("\n")
    assert head == "limit calls 8"
    said = answer.splitlines()[-1].split()
    assert said == [f"page-{page}-fine" for page in range(1, 5)], "what it had when the limit came"


def test_agent_with_tools(tmp_path: Path) -> None:
    said = ran("agent_with_tools.py", tmp_path).splitlines()
    assert said == ["3 pumps are there, 2 valves are ordered. {'pump': 3, 'valve': 2}", "Valves."]


def test_resume_and_replay(tmp_path: Path) -> None:
    cut, whole, known, again = ran("resume_and_replay.py", tmp_path).splitlines()
    assert cut == "limit calls" and again == "ok True 0 calls made"
    assert whole == "ok " + " ".join(f"summary-{page}" for page in range(8))
    replayed, _, calls, *_ = known.split()
    assert 1 <= int(replayed) < int(calls)


def test_interpreter_in_dspy_rlm(tmp_path: Path) -> None:
    code = "SUBMIT(vowels=sum(c in 'aeiou' for c in text))"
    reply = f"[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"

    class Model(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            body = {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }
            raw = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{httpd.server_port}/v1"
        said = ran("interpreter_in_dspy_rlm.py", tmp_path, FLEET_MODEL="openai/m", FLEET_API_BASE=base)
    finally:
        httpd.shutdown()
        httpd.server_close()
    assert said.strip() == str(sum(c in "aeiou" for c in "recursive language models ") * 1000)


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text()
    names = [file.name for file in EXAMPLES.glob("*.py")]
    assert names and all(f'"{name}"' in text for name in names)
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}`" in listed for name in names)
