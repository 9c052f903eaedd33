"""Who is let in: keys, cookies, tokens, Host, Origin; and how the page is served."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from scripted_workspace import ScriptedWorkspace
from served import Running, Serve

from fleet_rlm.api.auth.guard import allowed_hosts
from fleet_rlm.api.auth.local import LocalAccess
from fleet_rlm.api.page import Page
from fleet_rlm.api.routers.ws.endpoint import SocketLimits
from fleet_rlm.api.server import bind
from fleet_rlm.errors import InvalidInput


def test_the_one_time_key_opens_once(running: Running) -> None:
    key = running.access.new_key()
    with httpx.Client(base_url=running.base) as client:
        answer = client.get("/", params={"k": key})
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
        assert client.get("/api/v1/sessions").status_code == 200
        assert client.get("/", params={"k": key}).status_code == 303  # known by its cookie
    with httpx.Client(base_url=running.base) as other:
        refused = other.get("/", params={"k": key})
        assert refused.status_code == 401 and "set-cookie" not in refused.headers
        assert other.get("/api/v1/sessions").status_code == 401


@pytest.mark.parametrize(
    "path", ["/api/v1/sessions", "/api/v1/status", "/api/v1/blobs/x", "/api/v1/nowhere", "/api/v1/settings/models"]
)
def test_nothing_under_api_without_identity(running: Running, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic eDp5"},
        {"Cookie": f"{running.access.cookie}=x"},
    ):
        answer = httpx.get(running.base + path, headers=headers)
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "unauthenticated"


def test_wrong_host_and_origin(running: Running) -> None:
    bearer = {"Authorization": f"Bearer {running.access.token}"}
    url = f"{running.base}/api/v1/sessions"
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{running.port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
    ):
        assert httpx.get(url, headers={**bearer, **headers}).status_code in (400, 403)
        assert httpx.get(f"{running.base}/", headers=headers).status_code in (400, 403)
    for origin in ("https://evil.example", "null", f"https://127.0.0.1:{running.port}"):
        assert httpx.post(url, headers={**bearer, "Origin": origin}).status_code == 403
    for origin in (running.base, f"http://localhost:{running.port}"):
        assert httpx.post(url, headers={**bearer, "Origin": origin}).status_code == 201
    assert httpx.get(url, headers={**bearer, "Host": f"localhost:{running.port}"}).status_code == 200


def test_cookies_survive_a_restart_and_are_kept_as_hashes(fleet_home: Path) -> None:
    first = LocalAccess(fleet_home)
    session = first.redeem(first.new_key())
    assert session is not None
    again = LocalAccess(fleet_home)
    assert again.knows_cookie(session) and again.token == first.token and not again.knows_cookie("x")
    for path in (fleet_home / "web-sessions.json", fleet_home / "local-token"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert session not in (fleet_home / "web-sessions.json").read_text()
    (fleet_home / "web-sessions.json").write_text("[broken")
    assert not LocalAccess(fleet_home).knows_cookie(session)


def test_two_workspaces_in_one_browser_keep_their_sign_ins(serve: Serve, fleet_home: Path, tmp_path: Path) -> None:
    """Cookies do not look at the port, so each data folder has a name of its own for its cookie."""
    one, other = serve(), Running(ScriptedWorkspace(tmp_path / "other"), tmp_path / "other", SocketLimits(), None)
    with contextlib.ExitStack() as stack:
        stack.callback(other.stop)
        browser = stack.enter_context(httpx.Client(timeout=30))
        for served in (one, other):
            assert browser.get(f"{served.base}/", params={"k": served.access.new_key()}).status_code == 303
        for served in (one, other):
            assert browser.get(f"{served.base}/api/v1/sessions").status_code == 200
    assert LocalAccess(fleet_home).cookie == one.access.cookie != other.access.cookie


def test_two_servers_of_one_folder_know_each_others_sign_ins(fleet_home: Path) -> None:
    one, other = LocalAccess(fleet_home), LocalAccess(fleet_home)
    sessions = [access.redeem(access.new_key()) or "" for access in (one, other, one)]
    for access in (one, other, LocalAccess(fleet_home)):
        assert [access.knows_cookie(session) for session in sessions] == [True, True, True]
        assert not access.knows_cookie("x")


def test_sign_ins_at_one_moment_are_all_kept(fleet_home: Path) -> None:
    servers = [LocalAccess(fleet_home) for _ in range(8)]
    keys = [access.new_key() for access in servers]
    with ThreadPoolExecutor(len(servers)) as threads:
        sessions = list(threads.map(lambda access, key: access.redeem(key), servers, keys))
    restarted = LocalAccess(fleet_home)
    assert all(session is not None and restarted.knows_cookie(session) for session in sessions)


def page(folder: Path) -> Page:
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><script>let theme = 1</script><p>the page</p>")
    (folder / "assets" / "main-abc.js").write_text("js()")
    (folder / "assets" / "main-abc.js.gz").write_bytes(gzip.compress(b"js()"))
    (folder / "favicon.svg").write_text("<svg/>")
    (folder.parent / "secret.txt").write_text("treasure")
    return Page(folder)


def test_the_page_and_its_files(serve: Serve, tmp_path: Path) -> None:
    base = serve(page=page(tmp_path / "dist")).base
    html = {"Accept": "text/html,*/*"}
    for path in ("/", "/sessions/ses_1", "/settings", "/" + "a" * 300, "/a" * 3000):
        answer = httpx.get(base + path, headers=html)
        assert "the page" in answer.text and answer.headers["cache-control"] == "no-cache"
        policy = answer.headers["content-security-policy"]
        assert (
            re.search(r"script-src 'self' 'sha256-[A-Za-z0-9+/=]{44}'", policy) and "frame-ancestors 'none'" in policy
        )
        assert "unsafe-inline" not in policy.split("style-src")[0] and "connect-src 'self'" in policy
        assert (
            answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"
        )
    script = httpx.get(f"{base}/assets/main-abc.js")
    assert "immutable" in script.headers["cache-control"] and script.headers["content-type"].startswith(
        "text/javascript"
    )
    packed = httpx.get(f"{base}/assets/main-abc.js", headers={"Accept-Encoding": "gzip"})
    plain = httpx.get(f"{base}/assets/main-abc.js", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert packed.text == plain.text == "js()" and packed.headers["content-type"].startswith("text/javascript")
    assert httpx.get(f"{base}/favicon.svg").status_code == 200
    assert httpx.get(f"{base}/assets/none.js").status_code == 404
    assert httpx.get(f"{base}/settings").status_code == 404  # no browser asks like this
    assert httpx.post(f"{base}/settings", headers=html).status_code == 405
    api = httpx.get(f"{base}/api/nowhere", headers={**html, "Authorization": "Bearer x"})
    assert api.status_code == 401 and "the page" not in api.text


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=1-2", 206, "sv"),
        ("Bytes = 1-2", 206, "sv"),
        ("bytes=3-", 206, "g/>"),
        ("bytes=-2", 206, "/>"),
        ("bytes=2-900", 206, "vg/>"),
        ("bytes=-900", 206, "<svg/>"),
        ("bytes=0-1,900-", 206, "<s"),
        ("bytes=5-1", 200, "<svg/>"),
        ("bytes=0-1,5-1", 200, "<svg/>"),
        ("bytes=", 200, "<svg/>"),
        ("bytes=-", 200, "<svg/>"),
        ("bytes=a-b", 200, "<svg/>"),
        ("bytes=1-2-3", 200, "<svg/>"),
        ("bytes=+1-2", 200, "<svg/>"),
        ("bytes=" + "9" * 5000 + "-", 200, "<svg/>"),
        ("bytes=" + "0-1," * 101, 200, "<svg/>"),
        ("lines=0-1", 200, "<svg/>"),
        ("bytes", 200, "<svg/>"),
        ("bytes=6-", 416, None),
        ("bytes=900-901,-0", 416, None),
    ],
)
def test_parts_of_a_file(serve: Serve, tmp_path: Path, asked: str, status: int, body: str | None) -> None:
    """A Range that is none is ignored; one beyond the end is refused in the form of all refusals."""
    url = f"{serve(page=page(tmp_path / 'dist')).base}/favicon.svg"
    answer = httpx.get(url, headers={"Range": asked, "Accept-Encoding": "identity"})
    assert answer.status_code == status
    if body is None:
        assert answer.json()["error"]["code"] == "range_not_satisfiable"
        assert answer.headers["content-range"] == "bytes */6"
        old = httpx.get(url, headers={"Range": asked, "If-Range": '"other"'})
        assert old.status_code == 200 and old.text == "<svg/>"
    else:
        assert answer.text == body


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
        "//etc/passwd",
        "/%00",
    ],
)
def test_no_path_leaves_the_page(serve: Serve, tmp_path: Path, path: str) -> None:
    running = serve(page=page(tmp_path / "dist"))
    with socket.create_connection(("127.0.0.1", running.port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b"treasure" not in answer and b"root:" not in answer and answer.split()[1] in (b"404", b"400")


def test_without_a_built_page_it_says_how(serve: Serve, tmp_path: Path) -> None:
    answer = httpx.get(serve(page=Page(tmp_path / "none")).base)
    assert answer.status_code == 503 and "make frontend" in answer.text


def test_addresses() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.com", ""):
        with pytest.raises(InvalidInput) as refused:
            bind(host, 0)
        assert "\n" not in str(refused.value)
    with bind("localhost", 0) as taken, pytest.raises(InvalidInput, match="address already in use"):
        bind("127.0.0.1", taken.getsockname()[1])
    assert "localhost" in allowed_hosts(80) and "localhost" not in allowed_hosts(8000)
