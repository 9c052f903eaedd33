"""The server against bare and hostile HTTP: always a typed envelope, never a traceback, never a 500."""

from __future__ import annotations

import json
import socket

import pytest

ENVELOPE = {"statusCode", "error", "message", "errors", "code", "source", "timestamp", "path", "method"}


def check(response, status: int, code: str | None = None) -> dict:
    body = response.json()
    assert response.status_code == status, body
    assert set(body) == ENVELOPE
    assert body["statusCode"] == status
    assert code is None or body["code"] == code
    assert "Traceback" not in response.text
    return body


@pytest.fixture(scope="module")
def http(server):
    with server.http() as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/api/sandbox", "/api/volumes", "/toolbox/x/files", "/docs", "/openapi.json"])
@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer wrong", "Basic KEY", "KEY", "Bearer KEYx"])
def test_no_key_no_service(server, path, key):
    with server.http() as client:
        del client.headers["Authorization"]
        headers = {} if key is None else {"Authorization": key.replace("KEY", server.key)}
        check(client.get(path, headers=headers), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1:PORT.x"]
)
def test_foreign_hosts_are_refused(server, http, host):
    response = http.get("/api/sandbox", headers={"Host": host.replace("PORT", str(server.port))})
    check(response, 403, "HOST_NOT_ALLOWED")


def test_own_hosts_and_origins(server, http):
    for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        assert http.get("/api/sandbox", headers={"Host": f"{host}:{server.port}"}).status_code == 200
    check(http.get("/api/sandbox", headers={"Origin": "http://evil.example"}), 403, "ORIGIN_NOT_ALLOWED")
    check(http.get("/api/sandbox", headers={"Origin": "null"}), 403, "ORIGIN_NOT_ALLOWED")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"7",
        b'{"name": 7}',
        b'{"env": {"A": 1}}',
        b'{"labels": ["a"]}',
        b'{"volumes": [{}]}',
        b'{"volumes": "x"}',
        b'{"cpu": 1.5}',
        b'{"memory": 100000}',
        b'{"disk": -1}',
        b'{"autoStopInterval": "soon"}',
        b'{"autoStopInterval": -5}',
        b'{"ttlMinutes": 99999999999999999999999}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "' + b"x" * 1000 + b'"}',
        b'{"env": {"A": "\\u0000"}}',
        b'{"env": {"A": "' + b"x" * 70000 + b'"}}',
        b'{"labels": {"": "x"}}',
        b'{"name": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_bad_create_bodies(http, body):
    before = len(http.get("/api/sandbox?limit=200").json()["items"])
    check(http.post("/api/sandbox", content=body), 400)
    assert len(http.get("/api/sandbox?limit=200").json()["items"]) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/sandbox/absent", 404),
        ("GET", "/api/sandbox/%2e%2e%2f%2e%2e", 404),
        ("DELETE", "/api/sandbox/absent", 404),
        ("POST", "/api/sandbox/absent/start", 404),
        ("POST", "/api/sandbox/absent/autostop/5", 404),
        ("POST", "/api/sandbox/absent/autostop/soon", 400),
        ("PATCH", "/api/sandbox", 405),
        ("PUT", "/api/sandbox/absent", 405),
        ("GET", "/api/snapshots/absent", 404),
        ("POST", "/api/sandbox/absent/fork", 400),
        ("POST", "/toolbox/absent/git/clone", 404),
        ("GET", "/toolbox/absent/work-dir", 404),
        ("GET", "/toolbox/absent/unheard-of", 404),
        ("POST", "/toolbox/absent/process/execute", 404),
        ("GET", "/api/sandbox?limit=0", 400),
        ("GET", "/api/sandbox?limit=99999999999999999999", 400),
        ("GET", "/api/sandbox?labels=no", 400),
        ("GET", "/api/sandbox?labels=[1]", 400),
        ("GET", "/api/sandbox?cursor=zzz", 400),
        ("GET", "/api/sandbox?cursor=W10=", 400),
        ("GET", "/api/sandbox?minCpu=two", 400),
        ("GET", "/api/sandbox?createdAtAfter=yesterday", 400),
        ("GET", "/api/sandbox?sort=cpu", 501),
        ("GET", "/api/volumes/absent", 404),
        ("DELETE", "/api/volumes/../../etc", 404),
        ("GET", "/api/socket.io/?EIO=4", 404),
    ],
)
def test_wrong_paths_and_methods(http, method, path, status):
    check(http.request(method, path), status)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("process/execute", b"{}"),
        ("process/execute", b'{"command": 5}'),
        ("process/execute", b'{"command": "x", "timeout": "1"}'),
        ("process/execute", b'{"command": "x", "envs": {"A B": "c"}}'),
        ("process/code-run", b'{"code": "x", "argv": ["a\\u0000"]}'),
        ("process/pty", b'{"id": "a/b"}'),
        ("process/pty", b'{"id": "a", "cols": 5000}'),
        ("files/bulk-download", b'{"paths": []}'),
        ("files/bulk-download", b'{"paths": ["a\\u0000"]}'),
        ("files/bulk-download", b'{"paths": [""]}'),
        ("files/bulk-upload", b"no multipart"),
        ("files/folder", b""),
        ("files/folder?path=x&mode=999", b""),
        ("files/permissions?path=x&mode=", b""),
        ("files/move?source=a", b""),
    ],
)
def test_bad_toolbox_requests(http, sandbox, path, body):
    check(http.post(f"/toolbox/{sandbox.id}/{path}", content=body), 400)


def upload(http, sandbox, *parts: bytes, boundary: str = "b", end: bytes = b"--b--\r\n"):
    return http.post(
        f"/toolbox/{sandbox.id}/files/bulk-upload",
        content=b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )


def part(name: str, data: bytes, filename: str = "") -> bytes:
    extra = f'; filename="{filename}"' if filename else ""
    return f'Content-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data


def test_malformed_uploads(http, sandbox):
    path, file = part("files[0].path", b"up.txt"), part("files[0].file", b"data", "ignored")
    assert upload(http, sandbox, path, file).json() == {"files": [{"path": "up.txt", "bytes": 4}]}
    assert upload(http, sandbox, part("files[0].file", b"data", "by-name.txt")).status_code == 200
    check(upload(http, sandbox, path, file, end=b""), 400)  # cut off
    check(upload(http, sandbox, path, file, boundary="other"), 400)
    check(upload(http, sandbox, path, file, boundary="x" * 300), 400)
    check(upload(http, sandbox, part("files[0].file", b"data")), 400)
    check(upload(http, sandbox, part("something", b"data")), 400)
    check(upload(http, sandbox, part("files[0].path", b"x" * 9000), file), 400)
    check(upload(http, sandbox, part("files[0].path", b"\xff\xfe"), file), 400)
    check(upload(http, sandbox, part("files[0].path", b"a\0b"), file), 400)
    check(upload(http, sandbox, part("files[0].path", b""), file), 400)
    check(upload(http, sandbox, b"X: " + b"y" * 20000 + b"\r\n\r\n"), 400)
    check(upload(http, sandbox, *(path for _ in range(3)), end=b"\r\nnonsense"), 400)


def test_oversized_json_body(http):
    check(http.post("/api/sandbox", content=b'{"name": "' + b"x" * (9 << 20) + b'"}'), 413, "BODY_TOO_LARGE")

    def chunks():
        for _ in range(9):
            yield b" " * (1 << 20)

    check(http.post("/api/sandbox", content=chunks()), 413, "BODY_TOO_LARGE")


def test_not_even_http(server):
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(data)
            answer = connection.recv(4096)
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403")), answer
    with server.http() as client:
        assert client.get("/api/sandbox").status_code == 200


def test_the_source_of_an_error_follows_the_path(http, sandbox):
    assert check(http.get("/api/sandbox/absent"), 404)["source"] == "DAYTONA_API"
    assert check(http.get(f"/toolbox/{sandbox.id}/files/info?path=no"), 404, "FILE_NOT_FOUND")["source"] == (
        "DAYTONA_DAEMON"
    )


def test_wrong_key_through_the_sdk(server):
    from daytona import DaytonaAuthenticationError

    with pytest.raises(DaytonaAuthenticationError):
        server.sdk(api_key="wrong-key").get("anything")


def test_the_key_is_nowhere_in_the_log(server, http):
    http.get("/api/sandbox")
    assert server.key not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert json.loads(http.get("/api/sandbox?limit=1").text)["items"] is not None
