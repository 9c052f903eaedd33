"""Web addresses: what is fetched, what is refused, and how an answer's kind is told."""

import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from content.documents import notebook, pdf
from fleet_rlm.errors import InvalidInput, TooLarge
from fleet_rlm.runtime.content.addresses import is_public
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.fetch import Fetcher, FetchFailed
from fleet_rlm.runtime.content.sources import add_named

HOME = ipaddress.ip_address("127.0.0.1")


class Site(BaseHTTPRequestHandler):
    """Answers by path; remembers the requests' headers."""

    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self):
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        status, headers, body = self.server.pages.get(self.path, (404, {}, b"no"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.pages, server.seen = {}, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    server.root = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path) -> ContextStore:
    return ContextStore(tmp_path / "home")


def fetcher(**bounds) -> Fetcher:
    """One that may reach this test's own server, and nothing else that is not public."""
    return Fetcher(allowed=lambda address: address == HOME or is_public(address), **bounds)


def text_of(store, ref) -> str:
    return store.read(ref.sha256, 0, ref.chars)


def test_the_content_type_decides_the_kind(store, site):
    site.pages = {
        "/page": (200, {"Content-Type": "text/html; charset=iso-8859-1"}, "<p>caf\xe9".encode("latin-1")),
        "/source.html": (200, {"Content-Type": "text/plain"}, b"<p>source"),
        "/old.txt": (200, {"Content-Type": "text/plain; charset=latin-1"}, b"caf\xe9"),
        "/a.pdf": (200, {"Content-Type": "application/octet-stream"}, pdf(["page words"])),
        "/b": (200, {"Content-Type": "application/pdf"}, pdf(["page words"])),
        "/n.ipynb": (200, {"Content-Type": "text/plain"}, notebook({"cell_type": "code", "source": "1"})),
        "/data.json?x=1": (200, {"Content-Type": "application/json"}, b'{"a": 1}'),
        "/%C3%A9%20x.txt": (200, {}, b"plain"),
    }
    expected = {
        "/page": ("page", "café\n"),
        "/source.html": ("source.html", "<p>source"),
        "/old.txt": ("old.txt", "café"),
        "/a.pdf": ("a.pdf", "=== page 1 ===\npage words\n"),
        "/b": ("b", "=== page 1 ===\npage words\n"),
        "/n.ipynb": ("n.ipynb", "=== cell 1 (code) ===\n1\n"),
        "/data.json?x=1": ("data.json", '{"a": 1}'),
        "/é x.txt": ("é x.txt", "plain"),
    }
    for path, (name, text) in expected.items():
        ref = add_named(store, site.root + path, fetcher=fetcher())
        assert (ref.name, text_of(store, ref)) == (name, text)
    assert store.index(add_named(store, f"{site.root}/b", fetcher=fetcher()).sha256).source in (
        f"{site.root}/a.pdf",  # the same document, seen there first
        f"{site.root}/b",
    )


def test_no_cookie_no_proxy_no_credential_is_sent(store, site, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    site.pages = {
        "/a": (302, {"Location": "/b", "Set-Cookie": "id=1"}, b""),
        "/b": (200, {"Content-Type": "text/plain"}, b"here"),
    }
    assert text_of(store, add_named(store, f"{site.root}/a", fetcher=fetcher())) == "here"
    assert [path for path, _ in site.seen] == ["/a", "/b"]
    for _, headers in site.seen:
        assert set(headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2/", "http://[::1]:9/", "http://169.254.169.254/latest/", "//0.0.0.0:9/"]
)
def test_each_redirect_is_checked_again(store, site, target):
    site.pages = {"/": (302, {"Location": target}, b"")}
    with pytest.raises(InvalidInput, match="no public address"):
        add_named(store, f"{site.root}/", fetcher=fetcher())


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/x", "http://a:b@example.org/", "gopher:x"])
def test_a_redirect_out_of_the_web_is_refused(store, site, target):
    site.pages = {"/": (302, {"Location": target}, b"")}
    with pytest.raises(InvalidInput):
        add_named(store, f"{site.root}/", fetcher=fetcher())


def test_at_most_three_redirects(store, site):
    site.pages = {f"/{n}": (307, {"Location": f"/{n + 1}"}, b"") for n in range(4)}
    site.pages["/4"] = (200, {"Content-Type": "text/plain"}, b"end")
    assert text_of(store, add_named(store, f"{site.root}/1", fetcher=fetcher())) == "end"
    with pytest.raises(FetchFailed, match="more than 3 redirects"):
        add_named(store, f"{site.root}/0", fetcher=fetcher())


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1/", "http://localhost/", "http://0x7f.1/", "http://2130706433/", "http://0/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "http://[::ffff:a9fe:a9fe]/", "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://100.100.100.200/", "http://[fe80::1]/",
        "http://[fd00:ec2::254]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://168.63.129.16/",
        "http://[64:ff9b:1::1]/",
        "http://224.0.0.1/", "http://255.255.255.255/", "https://127.0.0.1/", "http://[::127.0.0.1]/",
    ],
)  # fmt: skip
def test_addresses_of_this_machine_and_its_network_are_refused(store, name):
    with pytest.raises(InvalidInput) as caught:
        add_named(store, name)
    assert "no public address" in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "number", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_pass(number):
    assert is_public(ipaddress.ip_address(number))


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((404, {}, b"no"), FetchFailed, "answered 404"),
        ((204, {}, b""), FetchFailed, "answered 204"),
        ((200, {"Content-Length": "5000"}, b""), TooLarge, "larger than 0.001 MB"),
        ((200, {}, b"x" * 5000), TooLarge, "larger than 0.001 MB"),
        ((200, {"Content-Length": "900"}, b"short"), FetchFailed, "broke off"),
        ((200, {"Content-Encoding": "gzip"}, b"x"), FetchFailed, "compressed"),
        ((200, {"Content-Type": "text/plain"}, b"caf\xe9"), InvalidInput, "not UTF-8"),
        ((200, {"Content-Type": "text/plain"}, b""), InvalidInput, "empty"),
        ((200, {"Content-Type": "image/png"}, b"\x89PNG\0"), InvalidInput, "binary"),
    ],
)
def test_bad_answers_are_one_clear_line(store, site, tmp_path, answer, error, said):
    site.pages = {"/x": answer}
    with pytest.raises(error) as caught:
        add_named(store, f"{site.root}/x", fetcher=fetcher(max_bytes=1000))
    assert said in caught.value.message
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "home/contexts").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["http://", "https:///x", "http://h:99999/", "http://u:p@h/", "http://h\n/x", "http://[::1/"]
)
def test_malformed_addresses(store, name):
    with pytest.raises(InvalidInput) as caught:
        add_named(store, name)
    assert "\n" not in str(caught.value)


@contextmanager
def raw_server(*pieces: bytes):
    """Sends the pieces, one each 0.2 s, over and over the last one."""
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve():
        with server, server.accept()[0] as connection:
            for piece in pieces:
                connection.sendall(piece)
            while not done.wait(0.2):
                try:
                    connection.sendall(pieces[-1])
                except OSError:
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "pieces",
    [(b"HTTP/1.0 200 OK\r\n", b"X: y\r\n"), (b"HTTP/1.0 200 OK\r\n\r\n", b"drip"), (b"H",)],
)
def test_a_dripping_server_is_left_at_the_deadline(store, pieces):
    with raw_server(*pieces) as url, pytest.raises(FetchFailed, match=r"took more than 1.5 s"):
        add_named(store, url, fetcher=fetcher(seconds=1.5))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_tls_is_verified_against_the_name(store, site, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += [
        "-keyout",
        key,
        "-out",
        certificate,
        "-days",
        "2",
        "-subj",
        "/CN=x",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    site.pages = {"/a.txt": (200, {"Content-Type": "text/plain"}, b"over tls")}
    url = site.root.replace("http:", "https:") + "/a.txt"
    with pytest.raises(FetchFailed, match="its certificate is not trusted"):
        add_named(store, url, fetcher=fetcher())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert text_of(store, add_named(store, url, fetcher=fetcher())) == "over tls"
    assert site.seen[-1][1]["host"] == url.split("/")[2]
    with pytest.raises(FetchFailed, match="its certificate is not trusted"):  # the same server by another name
        add_named(store, url.replace("127.0.0.1", "localhost"), fetcher=fetcher())


def test_no_server_and_no_protocol(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchFailed, match="cannot be reached: Connection refused"):
        add_named(store, f"http://127.0.0.1:{port}/", fetcher=fetcher())
    with raw_server(b"SSH-2.0-OpenSSH\r\n") as url, pytest.raises(FetchFailed, match="did not answer as it should"):
        add_named(store, url, fetcher=fetcher())
    with raw_server(b"hello") as url, pytest.raises(FetchFailed, match=r"as it should: no TLS \("):
        add_named(store, url.replace("http:", "https:"), fetcher=fetcher())
