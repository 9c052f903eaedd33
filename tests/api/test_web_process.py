"""`fleet web` as a process: start, entrance, graceful end, and what a kill leaves."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from served import Serve, Tab
from websockets.sync.client import connect

from fleet_rlm.api.auth.local import LocalAccess

SERVE = """
import sys
from fleet_rlm.api.serve import serve
from fleet_rlm.runtime.config import load_settings
sys.exit(serve(load_settings(overrides={"port": 0, "model": "demo/search"}), open_browser=False))
"""


@contextmanager
def web(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(the process, the address it printed)."""
    command = [sys.executable, "-u", "-c", SERVE]
    environment = {**os.environ, "FLEET_HOME": str(home)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def test_start_entrance_and_graceful_end(fleet_home: Path) -> None:
    """Prints its entrance, prints another one when it was used, ends on Ctrl-C although a stream is open."""
    with web(fleet_home) as (process, link):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?k=[\w-]{32}", link)
        assert process.stdout is not None and process.stderr is not None
        with httpx.Client(base_url=link.partition("/?")[0], timeout=30) as client:
            assert client.get(link).status_code == 303
            assert process.stdout.readline().strip() == "stop with Ctrl-C"
            assert "another browser" in process.stdout.readline()
            sid = client.post("/api/v1/sessions").json()["id"]
            accept = {"Accept": "text/event-stream"}
            with client.stream("GET", f"/api/v1/sessions/{sid}/events", headers=accept) as stream:
                next(stream.iter_lines())
                process.send_signal(2)
                began = time.monotonic()
                assert process.wait(60) == 0
                assert time.monotonic() - began < 30
        assert process.stderr.read() == ""
    assert stat.S_IMODE((fleet_home / "logs" / "web.log").stat().st_mode) == 0o600


OTHER = """
import sys, time
from pathlib import Path
from fleet_rlm.integrations.database import Database, JournalStore, Sessions
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.journal import Journal
database = Database(Path(sys.argv[1]))
sid = Sessions(database).create("of another process").sid
accepted = ev.TurnAccepted(question="q", mode="auto", model="m", sub_model="m", limits=ev.Limits())
Journal(JournalStore(database)).append(sid, [ev.Draft(accepted, turn="trn_other")], durable=True)
print(sid, flush=True)
time.sleep(120)
"""


def test_a_turn_of_another_process_is_respected_while_that_lives(serve: Serve, fleet_home: Path) -> None:
    with (
        serve().bearer() as api,
        subprocess.Popen([sys.executable, "-c", OTHER, str(fleet_home)], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        sid = process.stdout.readline().strip()
        assert api.delete(f"/sessions/{sid}").status_code == 409
        assert api.patch(f"/sessions/{sid}", json={"title": "x"}).status_code == 409
        assert api.post("/turns/trn_other/cancel").status_code == 409
        process.kill()
        process.wait(30)
        started = api.post(f"/sessions/{sid}/turns", json={"question": "go on"})
        assert started.status_code == 202
        assert api.get("/turns/trn_other").json()["status"] == "interrupted"
        while api.get(f"/turns/{started.json()['turn']}").json()["status"] == "running":
            time.sleep(0.05)
        assert api.delete(f"/sessions/{sid}").status_code == 204


def test_kill_9_in_a_turn_and_start_again(fleet_home: Path) -> None:
    """The page's cursor stays good over the crash, and the turn ends as interrupted."""

    @contextmanager
    def tab(base: str) -> Iterator[Tab]:
        bearer = {"Authorization": f"Bearer {LocalAccess(fleet_home).token}"}
        url = f"{base.replace('http', 'ws')}/api/v1/ws"
        with connect(url, additional_headers=bearer, compression=None) as ws:
            opened = Tab(ws)
            opened.say("hello", v=1)
            yield opened

    text = "".join(f"{n} INFO ok\n" for n in range(400_000))
    with web(fleet_home) as (process, link):
        base = link.partition("/?")[0]
        bearer = {"Authorization": f"Bearer {LocalAccess(fleet_home).token}"}
        with httpx.Client(base_url=f"{base}/api/v1", headers=bearer, timeout=60) as client:
            sha = client.post("/contexts", files={"file": ("a.log", text.encode())}).json()["sha256"]
            sid = client.post("/sessions").json()["id"]
        with tab(base) as page:
            page.say("subscribe", sid=sid)
            args = {"question": "What failed?", "contexts": [sha]}
            page.say("cmd", id="c1", sid=sid, op="turn.start", args=args)
            events = page.events_until("run.started", timeout=60)
            process.kill()
            process.wait(30)
    with web(fleet_home) as (_, link), tab(link.partition("/?")[0]) as page:
        page.say("subscribe", sid=sid, after=events[-1]["seq"], epoch=events[-1]["epoch"])
        assert page.until("subscribed")[0]["mode"] == "replay"
        events = page.events_until("turn.finished", events, timeout=60)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    end = events[-1]["data"]
    assert end["status"] == "interrupted" and end["error"]["retryable"] and len(json.dumps(end)) < 2000
    runs = [event["type"] for event in events if event["type"].startswith("run.")]
    assert runs.count("run.started") == runs.count("run.finished")
