"""What a sandbox may reach: nothing by default, else what its allow lists name, through the server's proxy."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import ipaddress
import os
import socket
import threading

import pytest
from daytona import CreateSandboxFromSnapshotParams, CreateSnapshotParams, DaytonaBadRequestError

from fleet_rlm.sandboxd.egress import Refused, is_public, policy

HOST = "127.0.0.2"  # of this machine; 127.0.0.1 is the sandbox itself, which needs no proxy
GET = """
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1], data=sys.argv[2].encode() if sys.argv[2:] else None, timeout=20).read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except Exception as error:
    print("failed:", error)
"""
TUNNEL = """
import http.client, os, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
connection.set_tunnel("127.0.0.2", int(sys.argv[1]))
try:
    connection.request("GET", "/through-a-tunnel")
    print(connection.getresponse().read().decode())
except OSError as error:
    print("failed:", error)
"""
RAW = """
import os, socket, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTP_PROXY"])
with socket.create_connection((proxy.hostname, proxy.port), timeout=20) as s:
    s.sendall(sys.argv[1].encode().decode("unicode_escape").encode("latin-1"))
    s.shutdown(socket.SHUT_WR)
    data = b""
    while chunk := s.recv(65536):
        data += chunk
print(data.decode("latin-1"))
"""


class Web:
    """A web server on this machine that remembers what it was asked."""

    def __init__(self, host: str = HOST) -> None:
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen.append((self.path, dict(self.headers), body))
                text = f"hello {self.path} {body.decode()}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, *args):
                return

        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://{HOST}:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def web():
    started = Web()
    yield started
    started.server.shutdown()
    started.server.server_close()


def run(sandbox, code: str, *argv: str) -> str:
    from daytona.common.process import CodeRunParams

    return sandbox.process.code_run(code, CodeRunParams(argv=list(argv))).result.strip()


def test_nothing_is_reached_by_default(sandbox, web):
    assert sandbox.network_block_all is True
    assert run(sandbox, GET, web.url).startswith("failed:")
    assert "proxy" not in sandbox.process.exec("env").result.lower()


def test_an_allowed_network_and_nothing_beside_it(make, web):
    sandbox = make(ephemeral=True, network_allow_list=f"{HOST}/32:{web.port}")
    assert (sandbox.network_block_all, sandbox.network_allow_list) == (False, f"{HOST}/32:{web.port}")
    assert run(sandbox, GET, f"{web.url}/a?b=c") == "hello /a?b=c"
    assert run(sandbox, GET, f"{web.url}/post", "x" * 50_000).endswith("x" * 50_000)
    assert run(sandbox, TUNNEL, str(web.port)) == "hello /through-a-tunnel"
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        refusal = f"{HOST} port {port} is not on the sandbox's allow list"
        assert refusal in run(sandbox, GET, f"http://{HOST}:{port}")
        assert "403" in run(sandbox, TUNNEL, str(port))
    for url in ("http://169.254.169.254/", "http://10.0.0.1/", "http://example.com/"):
        assert "403" in run(sandbox, GET, url)
    own = "import http.server, threading, urllib.request\n"
    own += "s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
    own += "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
    own += "print(urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}/').status)"
    assert run(sandbox, own).endswith("200"), "its own servers are reached without the proxy"


def test_a_name_that_leads_to_this_machine_is_no_way_in(make, web):
    sandbox = make(ephemeral=True, domain_allow_list=f"localhost:{web.port},*.example.com")
    before = len(web.seen)
    assert "not public" in run(sandbox, RAW, f"GET http://localhost:{web.port}/ HTTP/1.1\\r\\n\\r\\n")
    assert "403" in run(sandbox, GET, web.url)
    assert len(web.seen) == before
    own = Web("127.0.0.1")
    both = make(ephemeral=True, network_allow_list=f"127.0.0.0/8:{own.port}", domain_allow_list=f"localhost:{own.port}")
    assert "hello /named" in run(both, RAW, f"GET http://localhost:{own.port}/named HTTP/1.1\\r\\n\\r\\n")
    own.server.shutdown()
    own.server.server_close()


def test_one_request_for_the_judged_host_only(make, web):
    sandbox = make(ephemeral=True, network_allow_list=f"{HOST}/32:{web.port}")
    web.seen.clear()
    request = f"GET {web.url}/one HTTP/1.1\\r\\nHost: evil.example\\r\\nProxy-Authorization: x\\r\\n\\r\\n"
    answer = run(sandbox, RAW, f"{request}GET /smuggled HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n")
    assert "hello /one" in answer
    assert [path for path, _, _ in web.seen] == ["/one"]
    headers = {name.lower(): value for name, value in web.seen[0][1].items()}
    assert headers["host"] == f"{HOST}:{web.port}"
    assert "proxy-authorization" not in headers
    chunks = (
        f"POST {web.url}/two HTTP/1.1\\r\\nContent-Length: 3\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n"
    )
    for bad in (chunks, "GET / HTTP/1.1\\r\\n\\r\\n", "x\\r\\n\\r\\n", "GET https://a/ HTTP/1.1\\r\\n\\r\\n", "GET"):
        assert run(sandbox, RAW, bad).startswith(("HTTP/1.1 400", "HTTP/1.1 502"))
    assert [path for path, _, _ in web.seen] == ["/one"]


def test_settings_change_while_it_runs(make, client, web):
    sandbox = make()
    allowed = f"{HOST}/32:{web.port}"
    sandbox.update_network_settings(network_allow_list=allowed)
    assert client.get(sandbox.id).network_allow_list == allowed
    assert run(sandbox, GET, web.url) == "hello /"
    hold = TUNNEL.replace(
        "print(connection.getresponse().read().decode())", "connection.sock.recv(9999); connection.sock.recv(1)"
    )
    sandbox.fs.upload_file(hold.encode(), "hold.py")
    sandbox.process.exec(f"(python3 hold.py {web.port}; echo over > ended) >/dev/null 2>&1 &")
    sandbox.process.exec("sleep 1")
    sandbox.update_network_settings(network_block_all=True)
    assert client.get(sandbox.id).network_block_all is True
    assert run(sandbox, GET, web.url).startswith("failed:"), "blocking wins over the list that is still there"
    assert (
        sandbox.process.exec("for i in $(seq 100); do [ -e ended ] && break; sleep 0.1; done; cat ended").result
        == "over\n"
    )
    sandbox.update_network_settings(network_block_all=False)
    assert run(sandbox, GET, web.url) == "hello /"
    sandbox.stop()
    sandbox.start()
    assert run(sandbox, GET, web.url) == "hello /", "kept over a stop"
    sandbox.update_network_settings(network_allow_list="", domain_allow_list="")
    assert client.get(sandbox.id).network_block_all is True, "without a list nothing is reached"


@pytest.mark.parametrize(
    "lists",
    [
        {"network_allow_list": "example.com"},
        {"network_allow_list": "10.0.0.0/99"},
        {"network_allow_list": "10.0.0.0/8:99999"},
        {"domain_allow_list": "10.0.0.1"},
        {"domain_allow_list": "a b"},
        {"domain_allow_list": "*"},
        {"domain_allow_list": "http://example.com"},
        {"domain_allow_list": ",".join(f"a{n}.com" for n in range(300))},
    ],
)
def test_malformed_lists(sandbox, lists):
    with pytest.raises(DaytonaBadRequestError, match=r"AllowList|a port is"):
        sandbox.update_network_settings(**lists)


def test_a_deleted_sandbox_leaves_no_door(make, server, web):
    def sockets() -> int:
        links = []
        for fd in os.listdir(f"/proc/{server.process.pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{server.process.pid}/fd/{fd}"))
        return sum(link.startswith("socket:") for link in links)

    make(ephemeral=True).delete(wait=True)
    before = sockets()
    for _ in range(5):
        sandbox = make(ephemeral=True, network_allow_list=f"{HOST}/32:{web.port}")
        assert run(sandbox, GET, web.url) == "hello /"
        sandbox.delete(wait=True)
    deadline = 100
    while sockets() > before + 2 and (deadline := deadline - 1):
        threading.Event().wait(0.1)
    assert sockets() <= before + 2


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
    ]
    + ["::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "240.0.0.1", "ff02::1"],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


def test_rules_of_names_and_ports():
    rules = policy(
        block_all=False, networks="2606:4700::/32, 192.0.2.0/24:8080", domains="Example.com,*.sub.net,x.org:8443"
    )
    fits = {
        (host, port): any(rule.fits(host, port) for rule in rules.domains)
        for host in ("example.com", "www.example.com", "notexample.com", "a.sub.net", "a.b.sub.net", "sub.net", "x.org")
        for port in (80, 443, 8443, 22)
    }
    assert {key for key, fit in fits.items() if fit} == {
        *((host, port) for host in ("example.com", "a.sub.net", "a.b.sub.net") for port in (80, 443)),
        ("x.org", 8443),
    }
    assert asyncio.run(rules.addresses("192.0.2.7", 8080)) == ["192.0.2.7"]
    assert asyncio.run(rules.addresses("[2606:4700::1]", 443)) == ["2606:4700::1"]
    for host, port in (("192.0.2.7", 80), ("8.8.8.8", 443), ("2130706433", 80), ("0x7f.1", 80), ("a" * 300, 80)):
        with pytest.raises(Refused):
            asyncio.run(rules.addresses(host, port))
    assert not policy(block_all=True, networks="10.0.0.0/8", domains="example.com")


def test_async_network_and_snapshots(server, web):
    async def run() -> None:
        async with server.async_sdk() as client:
            snapshot = await client.snapshot.create(CreateSnapshotParams(name="async", image="python:3.11"))
            allowed = f"{HOST}/32:{web.port}"
            params = CreateSandboxFromSnapshotParams(snapshot="async", network_allow_list=allowed, ephemeral=True)
            sandbox = await client.create(params)
            try:
                script = f"import urllib.request; print(urllib.request.urlopen('{web.url}/async').read().decode())"
                assert (await sandbox.process.code_run(script)).result.startswith("hello /async")
                await sandbox.update_network_settings(network_block_all=True)
                assert "hello" not in (await sandbox.process.code_run(script)).result
            finally:
                await sandbox.delete()
            await client.snapshot.delete(snapshot)

    asyncio.run(run())
