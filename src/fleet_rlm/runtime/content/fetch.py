"""A page or file from the web, bounded: public addresses only, checked at each redirect, connected as checked.

The name is resolved once and the connection goes to that very address, so that a name cannot change in between. No
cookies, no proxy, no credentials; TLS is verified against the name.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from fleet_rlm.errors import DependencyError, InvalidInput, TooLarge
from fleet_rlm.runtime.content.addresses import IPAddress, is_public, normal_host, resolve

MAX_BYTES: Final = 20_000_000
SECONDS: Final = 30.0
MAX_REDIRECTS: Final = 3

_PIECE = 1 << 16
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "User-Agent": "fleet-rlm",
    "Accept": "text/*, application/json, application/pdf, */*;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class FetchFailed(DependencyError):
    """The address did not answer with the thing itself."""

    code = "fetch_failed"
    retryable = True


@dataclass(frozen=True, slots=True)
class Page:
    """What an address gave. `url` is the last one, after redirects; `chunks` can be read once."""

    url: str
    name: str
    content_type: str
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches with bounds in bytes and wall seconds; `allowed` judges each resolved address.

    `visits` hears each host before it is looked up, and with its addresses before they are asked anything, also those
    that redirects lead to; what it raises ends the fetch, and the seconds that it takes do not count.
    """

    max_bytes: int = MAX_BYTES
    seconds: float = SECONDS
    allowed: Callable[[IPAddress], bool] = is_public
    visits: Callable[[str, Sequence[str]], None] = lambda _, __: None

    @contextmanager
    def open(self, url: str) -> Generator[Page]:
        """GET the address. Errors: InvalidInput (malformed, private), TooLarge, FetchFailed (no or a bad answer)."""
        deadline = time.monotonic() + self.seconds
        for _ in range(MAX_REDIRECTS + 1):
            parts = check_url(url)
            deadline += self._visit(parts)
            found = self._resolve(url, parts, deadline)
            deadline += self._visit(parts, found)
            with self._exchange(url, parts, found, deadline) as exchange:
                answer = exchange.ask(parts)
                if answer.status in _REDIRECTS and (target := answer.getheader("Location")):
                    url = urljoin(url, target)
                    continue
                self._check(url, answer)
                kind = answer.getheader("Content-Type", "")
                yield Page(url, name_of(parts), kind, self._pieces(url, answer, exchange))
                return
        raise FetchFailed(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects", hint="give the last address itself")

    def _visit(self, parts: SplitResult, found: Sequence[str] = ()) -> float:
        """Say where it goes; the seconds that this took."""
        before = time.monotonic()
        self.visits(parts.hostname or "", found)
        return time.monotonic() - before

    @contextmanager
    def _exchange(self, url: str, parts: SplitResult, found: list[str], deadline: float) -> Generator[_Exchange]:
        """A connection to one of the addresses that ends with the block, and at the deadline."""
        with self._connect(url, found, _port_of(parts), deadline) as plain, plain.dup() as handle:
            exchange = _Exchange(_shown(url), plain, self.seconds)
            guard = threading.Timer(max(0.0, deadline - time.monotonic()), exchange.cut, (handle,))
            guard.daemon = True
            guard.start()
            try:
                yield exchange
            finally:
                guard.cancel()
                guard.join()
                exchange.close()

    def _resolve(self, url: str, parts: SplitResult, deadline: float) -> list[str]:
        """The addresses of the host; all of them must be allowed. Errors: InvalidInput."""
        found = resolve(parts.hostname or "", _port_of(parts), deadline - time.monotonic())
        for address in found:
            if not self.allowed(ipaddress.ip_address(address)):
                raise InvalidInput(
                    f"{_shown(url)} leads to {address}, which is no public address",
                    hint="fetch it yourself and attach the file",
                )
        return found

    def _connect(self, url: str, found: list[str], port: int, deadline: float) -> socket.socket:
        """A connection to one of the addresses. Errors: FetchFailed."""
        fault: OSError = TimeoutError("timed out")
        for address in found[:3]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                return socket.create_connection((address, port), timeout=left)
            except OSError as error:
                fault = error
        raise FetchFailed(f"{_shown(url)} cannot be reached: {_line(fault)}")

    def _check(self, url: str, answer: http.client.HTTPResponse) -> None:
        if answer.status != 200:
            raise FetchFailed(f"{_shown(url)} answered {answer.status} {_printable(answer.reason)[:80]}".rstrip())
        if answer.getheader("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise FetchFailed(f"{_shown(url)} came compressed, unasked", hint="fetch it yourself and attach the file")
        declared = answer.getheader("Content-Length", "")
        if declared.isdigit() and int(declared) > self.max_bytes:
            raise self._too_large(url)

    def _pieces(self, url: str, answer: http.client.HTTPResponse, exchange: _Exchange) -> Iterator[bytes]:
        size = 0
        while piece := exchange.read(answer):
            size += len(piece)
            if size > self.max_bytes:
                raise self._too_large(url)
            yield piece

    def _too_large(self, url: str) -> TooLarge:
        return TooLarge(f"{_shown(url)} is larger than {self.max_bytes / 1e6:g} MB", hint="attach a part as a file")


def check_url(url: str) -> SplitResult:
    """An http(s) address with a host, in its normal form, and no credentials. Errors: InvalidInput."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, normal_host(parts.hostname) if parts.hostname else ""
    except ValueError:
        raise InvalidInput(f"{_shown(url)} is no address", hint="give http://HOST/... or https://HOST/...") from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or not url.isprintable():
        raise InvalidInput(f"{_shown(url)} is no web address", hint="give http://HOST/... or https://HOST/...")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("the address holds a user name or password", hint="give one without")
    place = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=place if port is None else f"{place}:{port}")


def _port_of(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def name_of(parts: SplitResult) -> str:
    """What a context from an address is called: the last part of its path, or the host."""
    return unquote(parts.path.rstrip("/").rpartition("/")[2]).replace("/", "_") or parts.hostname or "page"


class _Exchange:
    """One question and answer over a connected socket, which another thread may cut at the deadline."""

    def __init__(self, shown: str, plain: socket.socket, seconds: float) -> None:
        self._shown = shown
        self._plain = plain
        self._seconds = seconds
        self._late = False
        self._connection: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None

    def ask(self, parts: SplitResult) -> http.client.HTTPResponse:
        """The head of the answer. Errors: FetchFailed."""
        host, port = parts.hostname or "", _port_of(parts)
        try:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(host, port, context=context)
                connection.sock = context.wrap_socket(self._plain, server_hostname=host)
            else:
                connection = http.client.HTTPConnection(host, port)
                connection.sock = self._plain
            self._connection = connection
            target = quote(parts.path or "/", safe=_PATH_SAFE)
            target += "?" + quote(parts.query, safe=_PATH_SAFE + "?") if parts.query else ""
            connection.request("GET", target, headers=_HEADERS)
            self._answer = connection.getresponse()
            return self._answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failed(error) from None

    def read(self, answer: http.client.HTTPResponse) -> bytes:
        """The next bytes, b"" at the end. Errors: FetchFailed when it broke off."""
        try:
            piece = answer.read(_PIECE)
            if not piece and (self._late or answer.length):
                raise EOFError("it broke off")
            return piece
        except (OSError, EOFError, http.client.HTTPException, ValueError) as error:
            raise self._failed(error) from None

    def cut(self, handle: socket.socket) -> None:
        """End the connection from another thread; `handle` is a duplicate, so that TLS is not disturbed."""
        self._late = True
        try:
            handle.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """Close what `ask` opened."""
        for opened in (self._answer, self._connection):
            if opened is not None:
                opened.close()

    def _failed(self, error: BaseException) -> FetchFailed:
        if self._late:
            return FetchFailed(f"{self._shown} took more than {self._seconds:g} s", hint="attach it as a file")
        return FetchFailed(f"{self._shown} did not answer as it should: {_line(error)}")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _shown(url: str) -> str:
    return _printable(url)[:200]


def _line(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's, not the system's
        return f"no TLS ({(error.reason or 'it broke off').lower().replace('_', ' ')})"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return os.strerror(error.errno) if error.errno > 0 else error.strerror
    return " ".join(str(error).split())[:120] or type(error).__name__
