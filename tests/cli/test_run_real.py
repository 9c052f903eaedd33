"""`fleet` on the real engine with `demo/search`: real sandboxes, real journal, as a person runs it."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scripted import action

from content.documents import pdf
from faults.broken_model import BrokenModel, Reply, hangs, says
from fleet_rlm.runtime.execution import events as ev

ROOT = Path(__file__).resolve().parents[2]
FLEET = Path(sys.executable).parent / "fleet"
DEMO = ("--model", "demo/search")
FACT = "The lighthouse keeper of Vardo hid the brass key under the third stone."
QUESTION = "Where did the lighthouse keeper of Vardo hide the brass key?"


def fleet(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLEET, *words], capture_output=True, text=True, timeout=110, **options)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of some megabytes with one fact in one line."""
    folder = tmp_path_factory.mktemp("library")
    for book in range(6):
        lines = [f"Entry {n} of volume {book}: the weather was {n % 97} and nobody wrote of it.\n" for n in range(6000)]
        if book == 4:
            lines[2345] = FACT + "\n"
        (folder / f"volume{book}.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def answered(library: Path, tmp_path_factory: pytest.TempPathFactory):
    """One answered turn; several tests look at it."""
    home = tmp_path_factory.mktemp("answered")
    environment = {**os.environ, "FLEET_HOME": str(home)}
    events = home / "events.jsonl"
    done = fleet("run", QUESTION, "-c", str(library), *DEMO, "--json", "--events", str(events), env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), events.read_text().splitlines(), environment


def test_the_fact_is_found_with_its_place(answered) -> None:
    result, _, _ = answered
    assert result["status"] == "ok" and result["limit"] is None
    assert FACT in result["answer"]
    assert "volume4.txt:2346" in result["answer"]
    assert result["runs"] >= 2 and result["max_depth_reached"] >= 1
    assert result["sandbox"] == {"provider": "local", "isolation": "namespaces"}
    assert result["model"] == "demo/search"
    assert [c["line"] for c in result["citations"] if c["path"] == "volume4.txt"] == [2346]


def test_events_are_the_journal_whole_and_without_gaps(answered) -> None:
    result, lines, _ = answered
    events = [ev.decode_event(line) for line in lines]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {event.sid for event in events} == {result["session"]}
    assert (events[0].type, events[-1].type) == ("session.created", "turn.finished")
    assert sum(event.type == "run.started" for event in events) == result["runs"]
    finished = events[-1].data
    assert isinstance(finished, ev.TurnFinished) and finished.answer == result["answer"]


def test_sessions_are_listed_shown_and_deleted(answered) -> None:
    result, lines, environment = answered
    session = result["session"]
    assert session in fleet("sessions", "list", env=environment).stdout
    assert [
        row["id"] for row in json.loads(fleet("sessions", "list", "--json", env=environment).stdout)["sessions"]
    ] == [session]
    shown = fleet("sessions", "show", session, env=environment).stdout
    assert f"> {QUESTION}" in shown and FACT in shown
    assert fleet("sessions", "show", session, "--json", env=environment).stdout.splitlines() == lines
    refused = fleet("sessions", "delete", session, env=environment, stdin=subprocess.DEVNULL)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert fleet("sessions", "delete", session, "--yes", env=environment).returncode == 0
    gone = fleet("sessions", "show", session, env=environment)
    assert (gone.returncode, len(gone.stderr.splitlines())) == (2, 1)


def test_a_turn_needs_no_stdin_and_is_kept_when_stdout_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text(f"one\n{FACT}\nthree\n")
    ask = ("run", QUESTION, "-c", str(tmp_path / "page.txt"), *DEMO)
    closed = fleet(*ask, preexec_fn=lambda: os.close(0))
    assert closed.returncode == 0 and "third stone" in closed.stdout, closed.stderr
    with open("/dev/full", "w") as full:
        refused = subprocess.run([FLEET, *ask, "-q"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=110)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert "standard output cannot be written" in refused.stderr


def test_stdin_and_a_second_turn_in_the_same_session() -> None:
    text = "\n".join([*(f"nothing in line {n}" for n in range(200)), FACT])
    first = fleet("run", QUESTION, "-c", "-", *DEMO, input=text)
    assert first.returncode == 0, first.stderr
    assert FACT in first.stdout and "stdin:201" in first.stdout
    assert "search program" in first.stdout, "the demo says what it is"
    [closing] = first.stderr.splitlines()
    session = closing.rpartition(" session ")[2]
    second = fleet("run", QUESTION, "-c", "-", *DEMO, "--session", session, "--events", "-", input=text)
    events = [ev.decode_event(line) for line in second.stdout.splitlines()]
    assert events[0].type == "turn.accepted" and events[0].sid == session and events[0].seq > 1


def test_a_document_and_a_repository_at_a_ref(tmp_path: Path) -> None:
    plan, project = tmp_path / "plan.pdf", tmp_path / "proj"
    plan.write_bytes(pdf(["Weather.", FACT]))
    project.mkdir()
    (project / "note.txt").write_text("no\nIn the boat the lighthouse keeper of Vardo did hide another brass key.\n")
    (project / "scan.pdf").write_bytes(pdf([""]))
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    (project / "note.txt").write_text("changed\n")
    done = fleet("run", QUESTION, "-c", str(plan), "-c", f"{project}@v1", *DEMO, "--json")
    assert done.returncode == 0, done.stderr
    found = {(c["context"], c["path"], c["line"], c.get("place")) for c in json.loads(done.stdout)["citations"]}
    assert {("plan.pdf", "plan.pdf", 4, "page 2"), ("proj@v1", "note.txt", 2, None)} <= found
    assert "left out: scan.pdf: its 1 pages hold no text" in done.stderr


def test_the_example_of_the_readme_is_true() -> None:
    block = re.search(r"```console\n\$ (.*?[^\\])\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block is not None
    command, shown = block.groups()
    done = subprocess.run(
        ["sh", "-c", command.replace(".venv/bin/", f"{FLEET.parent}/")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    places = re.compile(r"`(\w+\.py):\d+` (.*)")
    assert places.findall(done.stdout)[0] == places.findall(shown)[0]


def test_a_limit_is_status_3_and_the_answer_partial(library: Path) -> None:
    done = fleet("run", QUESTION, "-c", str(library), *DEMO, "--max-calls", "4", "--json")
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "limit" and result["limit"] == "calls"
    assert result["usage"]["calls"] <= 4
    assert "the limit on calls was reached" in done.stderr


def test_quiet_is_quiet_about_what_a_library_logs(library: Path, fleet_home: Path) -> None:
    """DSPy warns when a run reaches its last step: that is for the log."""
    done = fleet("run", QUESTION, "-c", str(library), *DEMO, "--mode", "rlm", "--max-calls", "2", "-q")
    assert (done.returncode, done.stderr) == (3, "the limit on calls was reached; the answer is partial\n")
    assert "dspy.predict.rlm RLM reached max iterations" in (fleet_home / "logs" / "fleet.log").read_text()


def bad_inputs(folder: Path) -> list[tuple[list[str], int, str]]:
    (folder / "binary").write_bytes(b"\x7fELF\x00\x00\x01")
    (folder / "empty").write_text("")
    (folder / "note.txt").write_text(FACT)
    unreadable = folder / "unreadable"
    unreadable.write_text("x")
    unreadable.chmod(0)
    # Root reads everything but its own memory at address 0.
    closed = unreadable if os.geteuid() else Path("/proc/self/mem")
    note = str(folder / "note.txt")
    return [
        (["-c", str(folder / "binary"), *DEMO], 2, "binary"),
        (["-c", str(folder / "empty"), *DEMO], 2, "empty"),
        (["-c", str(closed), *DEMO], 2, closed.name),
        (["-c", note], 4, "no model is configured"),
        (["-c", note, "--model", "nobody/nothing"], 2, "nobody/nothing"),
        (["-c", note, *DEMO, "--session", "ses_nowhere"], 2, "ses_nowhere"),
    ]


@pytest.mark.parametrize("case", range(6))
def test_bad_input_is_one_line_and_its_status(case: int, tmp_path: Path) -> None:
    words, status, fault = bad_inputs(tmp_path)[case]
    done = fleet("run", "why?", *words)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert fault in done.stderr


@pytest.fixture
def wrong_key_server() -> Iterator[str]:
    """A model server that knows nobody."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = b'{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}'
            self.send_response(401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_wrong_key_is_one_line_without_the_key(wrong_key_server: str, tmp_path: Path) -> None:
    key = "sk-not-a-real-key-1234"
    environment = {**os.environ, "FLEET_API_BASE": wrong_key_server, "FLEET_API_KEY": key}
    done = fleet("run", "why?", "--quiet", "--mode", "direct", "--model", "openai/any", env=environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert "key" in done.stderr and key not in done.stderr


def test_a_model_server_that_is_down_is_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        environment = {**os.environ, "FLEET_API_BASE": address, "FLEET_API_KEY": "none"}
        done = fleet("run", "why?", "--quiet", "--mode", "direct", "--model", "openai/any", env=environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert address.removesuffix("/v1") in done.stderr


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = fleet("web", "--no-open", "--port", port)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert port in done.stderr


def test_ctrl_c_stops_the_turn_and_every_process_of_it(fleet_home: Path) -> None:
    def script(_number: int, prompt: str) -> Reply:
        if prompt == "wait for me":
            return hangs
        return says(action("llm_query('wait for me')"))

    with BrokenModel(script) as model:
        process = subprocess.Popen(
            [FLEET, "run", QUESTION, "--mode", "rlm", "--model", "openai/tiny", "--events", "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "FLEET_API_BASE": model.address},
        )
        assert process.stdout is not None
        seen = b""
        while seen.count(b'"call.started"') < 2:  # in a cell, whose sandbox is there
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece, process.stderr and process.stderr.read()
            seen += piece
        os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    events = [ev.decode_event(line) for line in (seen + rest).splitlines()]
    assert [e.data.status for e in events if isinstance(e.data, ev.TurnFinished)] == ["cancelled"]
    assert [e.type for e in events].count("sandbox.ready") == 1
    deadline = time.monotonic() + 20
    while (left := processes_naming(str(fleet_home))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def processes_naming(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in command:
                found.append(command)
    return found


def test_logs_that_cannot_be_had_are_no_traceback(fleet_home: Path, tmp_path: Path) -> None:
    (fleet_home / "logs").write_text("")
    (tmp_path / "page.txt").write_text(FACT)
    done = fleet("run", QUESTION, "-c", str(tmp_path / "page.txt"), *DEMO)
    assert "Traceback" not in done.stderr
    assert "the local sandbox server cannot be started" in done.stdout + done.stderr


def test_doctor_proves_the_isolation(fleet_home: Path) -> None:
    done = fleet("doctor", "--json")
    found = json.loads(done.stdout)
    levels = {check["name"]: check["level"] for check in found["checks"]}
    assert done.returncode == 0 and found["ok"] is True, done.stdout
    assert levels["python"] == levels["data folder"] == levels["database"] == levels["isolation"] == "ok"
    assert levels["model"] == "note"
    plain = fleet("doctor", env={**os.environ, "FLEET_MODEL": "demo/search"})
    assert any(line.startswith("✓ model") for line in plain.stdout.splitlines()), plain.stdout


def test_doctor_says_what_fails(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("model = 3\n")
    done = fleet("doctor", env={**os.environ, "FLEET_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert any(line.startswith("✗ settings") for line in done.stdout.splitlines())


def test_doctor_says_that_the_data_folder_cannot_be_used() -> None:
    for home in ("/proc", "/proc/no/such"):  # nobody may write there, root neither
        done = fleet("doctor", env={**os.environ, "FLEET_HOME": home})
        assert (done.returncode, done.stderr) == (1, "")
        failed = [line for line in done.stdout.splitlines() if line.startswith("✗")]
        assert len(failed) == 1 and failed[0].startswith("✗ data folder") and home in failed[0]


def test_doctor_says_that_the_database_is_none(fleet_home: Path) -> None:
    (fleet_home / "fleet.db").write_bytes(b"no database at all, " * 100)
    done = fleet("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    failed = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert failed[0].startswith(
        "✗ database: the database refused: file is not a database -> fleet.db in the data folder"
    )


class Tells(http.server.BaseHTTPRequestHandler):
    """A server that fails and puts into its page what it was sent."""

    def do_GET(self) -> None:
        page = f"<html>failed with {self.headers['Authorization']}</html>".encode()
        self.send_response(500)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--json")])
def test_doctor_tells_no_key_that_a_server_repeats(words: tuple[str, ...]) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tells)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    cloud = {"DAYTONA_API_KEY": "dtn_0123456789", "DAYTONA_API_URL": address}
    try:
        done = fleet(*words, env={**os.environ, **cloud, "FLEET_MODEL": "demo/search"})
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 1 and "failed with Bearer •••" in done.stdout, done.stdout
    assert "dtn_" not in done.stdout + done.stderr


def test_sandboxd_serves_from_the_command_line(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [FLEET, "sandboxd", "serve", "--data", tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        first = json.loads(server.stdout.readline())
        assert first.keys() == {"api_url", "api_key", "isolation"} and first["isolation"] == "namespaces"
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0
