"""Ports and preview links: requests, bodies, WebSockets, keys, expiry, and what keeps a hostile page apart."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
from daytona import CreateSandboxFromSnapshotParams, DaytonaBadRequestError, DaytonaNotFoundError

PATIENCE_S = 60

APP = r"""
import base64, hashlib, http.server, json, socketserver
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        if self.headers.get("upgrade") == "websocket":
            return self.tunnel()
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size); self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/large":
            reply = b"x" * 5_000_000
        elif self.path == "/switch":
            self.wfile.write(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\nraw"); return
        elif self.path == "/broken":
            self.wfile.write(b"nonsense\r\n\r\n"); self.close_connection = True; return
        else:
            headers = {k.lower(): v for k, v in self.headers.items()}
            reply = json.dumps({"method": self.command, "path": self.path, "headers": headers, "size": len(body)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.send_header("set-cookie", "app=1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply)
    do_GET = do_POST = do_PUT = do_HEAD = answer
    def tunnel(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response_only(101)
        self.send_header("upgrade", "websocket"); self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        head = self.rfile.read(6)
        size = head[1] & 127
        data = bytes(b ^ head[2 + i % 4] for i, b in enumerate(self.rfile.read(size)))
        self.wfile.write(bytes([0x81, size]) + data[::-1] + b"\x88\x02\x03\xe8")
        self.close_connection = True
    def log_message(self, *args): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
Server(("127.0.0.1", 8000), App).serve_forever()
"""


def serve(sandbox):
    sandbox.fs.upload_file(APP.encode(), "app.py")
    sandbox.process.exec("python3 app.py >/dev/null 2>&1 &")
    deadline = time.monotonic() + PATIENCE_S
    while not port_in_use(sandbox, 8000):
        assert time.monotonic() < deadline, "the app does not listen"
        time.sleep(0.05)


def port_in_use(sandbox, port):
    return toolbox(sandbox, f"/port/{port}/in-use")["isInUse"]


def toolbox(sandbox, path):
    key = sandbox._toolbox_api.default_headers["Authorization"]
    url = f"{sandbox.toolbox_proxy_url}/{sandbox.id}{path}"
    return httpx.get(url, headers={"Authorization": key}, timeout=PATIENCE_S).raise_for_status().json()


@pytest.fixture(scope="module")
def app(client):
    sandbox = client.create(CreateSandboxFromSnapshotParams(ephemeral=True))
    serve(sandbox)
    yield sandbox
    sandbox.delete()


def web(**headers):
    return httpx.Client(trust_env=False, timeout=PATIENCE_S, headers=headers)


def test_ports(app, sandbox):
    assert 8000 in toolbox(app, "/port")["ports"]
    assert not port_in_use(sandbox, 8000)  # a port of another sandbox
    assert not port_in_use(app, 8001)


def test_a_private_preview_needs_its_token_or_the_key(app, server):
    link = app.get_preview_link(8000)
    with web() as http:
        assert http.get(link.url).status_code == 401
        assert http.get(link.url, headers={"X-Daytona-Preview-Token": "wrong"}).status_code == 401
        seen = http.get(f"{link.url}/a/b?c=d", headers={"X-Daytona-Preview-Token": link.token, "X-Mine": "1"}).json()
        assert (seen["method"], seen["path"], seen["headers"]["x-mine"]) == ("GET", "/a/b?c=d", "1")
        assert link.token not in json.dumps(seen)
        seen = http.get(link.url, headers={"Authorization": f"Bearer {server.key}"}).json()
        assert server.key not in json.dumps(seen)
        seen = http.get(link.url, headers={"X-Daytona-Preview-Token": link.token, "Authorization": "Basic eDp5"}).json()
        assert seen["headers"]["authorization"] == "Basic eDp5"  # the app's own


def test_bodies_of_every_kind(app):
    link = app.get_preview_link(8000)
    with web(**{"X-Daytona-Preview-Token": link.token}) as http:
        assert http.post(link.url, content=b"y" * 3_000_000).json()["size"] == 3_000_000
        assert http.put(link.url, content=iter([b"y" * 100_000] * 10)).json()["size"] == 1_000_000
        assert len(http.get(f"{link.url}/large").content) == 5_000_000
        head = http.head(link.url)
        assert head.status_code == 200 and head.content == b"" and head.headers["set-cookie"] == "app=1"


async def test_websockets(app):
    link = app.get_preview_link(8000)
    headers = {"X-Daytona-Preview-Token": link.token}
    url = link.url.replace("http", "ws")
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url) as ws:
        await ws.send_str("hello")
        assert (await asyncio.wait_for(ws.receive(), PATIENCE_S)).data == "olleh"
        closed = await asyncio.wait_for(ws.receive(), PATIENCE_S)
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1000)


def test_signed_urls_until_they_expire(app):
    signed = app.create_signed_preview_url(8000, expires_in_seconds=600)
    assert signed.port == 8000
    with web() as http:
        answer = http.get(f"{signed.url}/deep?x=1")
        assert answer.json()["path"] == "/deep?x=1" and signed.token not in answer.text
        origin = "http://" + urlsplit(signed.url).netloc
        seen = http.get(f"{origin}/root", headers={"Cookie": f"daytona-preview={signed.token}; app=1"}).json()
        assert seen["path"] == "/root" and seen["headers"]["cookie"] == "app=1"
        page = http.get(f"{signed.url}//evil.example/", headers={"Sec-Fetch-Mode": "navigate"})
        assert page.status_code == 303 and page.headers["location"] == "/evil.example/"
        assert "HttpOnly" in page.headers["set-cookie"]
    app.expire_signed_preview_url(8000, signed.token)
    with web() as http:
        assert http.get(signed.url).status_code == 401
    with pytest.raises(DaytonaNotFoundError):
        app.expire_signed_preview_url(8000, signed.token)
    short = app.create_signed_preview_url(8000, expires_in_seconds=1)
    deadline = time.monotonic() + PATIENCE_S
    with web() as http:
        while http.get(short.url).status_code != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_public_sandbox_needs_no_token(make, server):
    sandbox = make(public=True)
    serve(sandbox)
    link = sandbox.get_preview_link(8000)
    with web() as http:
        assert http.get(link.url).status_code == 200
        with server.http() as api:
            api.post(f"/api/sandbox/{sandbox.id}/public/false").raise_for_status()
        assert http.get(link.url).status_code == 401


def test_each_sandbox_is_another_host_and_none_is_the_api(app, sandbox, server):
    hosts = {urlsplit(box.get_preview_link(8000).url).hostname for box in (app, sandbox)}
    assert len(hosts) == 2 and not hosts & {"127.0.0.1", "localhost", urlsplit(server.api).hostname}
    first, second = app.get_preview_link(8000), app.get_preview_link(8001)
    assert first.url != second.url and first.url == app.get_preview_link(8000).url
    with web(**{"X-Daytona-Preview-Token": app.get_preview_link(8000).token}) as http:
        assert http.get(sandbox.get_preview_link(8000).url).status_code == 401  # a token opens one door
        assert http.get(first.url, headers={"Host": "evil.example"}).status_code == 403
        origin = {"Origin": first.url, "Authorization": f"Bearer {server.key}"}
        assert http.get(f"{server.api}/sandbox", headers=origin).status_code == 403  # a page there, with a stolen key


def test_nothing_listens_and_answers_that_are_none(app):
    closed = app.get_preview_link(8001)
    with web(**{"X-Daytona-Preview-Token": closed.token}) as http:
        answer = http.get(closed.url)
        assert answer.status_code == 502 and "nothing listens on port 8001" in answer.text
    link = app.get_preview_link(8000)
    with web(**{"X-Daytona-Preview-Token": link.token}) as http:
        assert http.get(f"{link.url}/broken").status_code == 502
        assert http.get(f"{link.url}/switch").status_code == 502
        assert http.get(link.url).status_code == 200
    for port in (0, 65536):
        with pytest.raises(DaytonaBadRequestError):
            app.get_preview_link(port)
    with pytest.raises(DaytonaBadRequestError):
        app.create_signed_preview_url(8000, expires_in_seconds=0)


def raw(url, data: bytes) -> bytes:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), PATIENCE_S) as connection:
        connection.sendall(data.replace(b"HOST", place.netloc.encode()))
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: HOST\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nno colon here\r\n\r\n",
        b"\x16\x03\x01\x00\x00\r\n\r\n",
    ],
)
def test_requests_that_are_none(app, data):
    assert raw(app.get_preview_link(8000).url, data).startswith(b"HTTP/1.1 400 ")


def test_a_second_request_on_the_connection_goes_nowhere(app, server):
    link = app.get_preview_link(8000)
    one = f"GET /one HTTP/1.1\r\nHost: HOST\r\nX-Daytona-Preview-Token: {link.token}\r\n\r\n".encode()
    got = raw(link.url, one + one.replace(b"/one", b"/two"))
    assert got.count(b"HTTP/1.1 200") == 1 and b"/two" not in got and b"connection: close" in got.lower()


def test_doors_close_with_their_sandbox(make):
    sandbox = make()
    link = sandbox.get_preview_link(8000)
    sandbox.stop()
    with web(**{"X-Daytona-Preview-Token": link.token}) as http:
        answer = http.get(link.url)
        assert answer.status_code == 400 and "not started" in answer.text
        sandbox.delete()
        with pytest.raises(httpx.ConnectError):
            http.get(link.url)
