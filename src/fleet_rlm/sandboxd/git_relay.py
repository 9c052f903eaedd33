"""What git in a jail reaches of a repository on the web: a relay on the server's side, for one repository, as long
as one command runs. The name and password are added here, so they are never inside the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from fleet_rlm.sandboxd.doorway import open_door
from fleet_rlm.sandboxd.egress import Policy, Refused
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.outbound import check, session

UPLOAD_PACK: Final = "git-upload-pack"
RECEIVE_PACK: Final = "git-receive-pack"
_ASKED: Final = ("accept", "content-type", "content-encoding", "git-protocol", "user-agent")
_ANSWERED: Final = ("content-type", "content-encoding", "cache-control")
_REDIRECTS: Final = 3
_CHUNK: Final = 64 * 1024
_CONNECTIONS: Final = 16
_CLOSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and password for one host. Its text shows neither."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def header(self) -> str:
        """The Authorization header."""
        return aiohttp.BasicAuth(self.username, self.password, encoding="utf-8").encode()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What git is told too vaguely: a refusal of the policy, or a server that cannot be reached."""

    words: str
    refused: bool


class Relay:
    """Answers git's smart HTTP requests for one repository; `services` are the git services that may be used."""

    def __init__(
        self,
        base: URL,
        client: aiohttp.ClientSession,
        policy: Policy,
        credentials: Credentials | None,
        *,
        services: frozenset[str],
        verify: bool,
    ) -> None:
        self.token = secrets.token_urlsafe(18)
        self.trouble: Trouble | None = None  # why a request could not be passed on, the last time
        self._base = base
        self._client = client
        self._policy = policy
        self._credentials = credentials
        self._services = services
        self._verify = verify

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass one request on, or refuse it."""
        prefix = f"/{self.token}/"
        if not secrets.compare_digest(request.path[: len(prefix)].encode(), prefix.encode()):
            return web.Response(status=404)
        rest = request.path[len(prefix) :]
        service = request.query.get("service", "") if rest == "info/refs" else rest
        method = "GET" if rest == "info/refs" else "POST"
        if request.method != method or service not in self._services:
            return web.Response(status=404)
        try:
            return await self._pass_on(request, rest, service)
        except Refused as error:
            self.trouble = Trouble(str(error), refused=True)
            return web.Response(status=403, text=self.trouble.words)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.trouble = Trouble(f"{self._base.host}: {error or type(error).__name__}"[:300], refused=False)
            return web.Response(status=502, text=self.trouble.words)

    async def _pass_on(self, request: web.BaseRequest, rest: str, service: str) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        for _ in range(_REDIRECTS + 1):
            url = self._base.with_path(f"{self._base.path.rstrip('/')}/{rest}", keep_query=False)
            if request.method == "GET":
                url = url.with_query(service=service)
            await check(self._policy, url)
            if self._credentials is not None:
                headers["authorization"] = self._credentials.header()
            async with self._client.request(
                request.method,
                url,
                headers=headers,
                data=request.content.iter_chunked(_CHUNK) if request.method == "POST" else None,
                allow_redirects=False,
                ssl=self._verify,
            ) as response:
                if response.status not in (301, 302, 303, 307, 308) or request.method != "GET":
                    return await _answer(request, response)
                self._move(url.join(URL(response.headers.get("location", ""))), rest)
                headers.pop("authorization", None)
        raise Refused("too many redirects")

    def _move(self, url: URL, rest: str) -> None:
        """Follow a repository that has moved. The password stays behind when the host is another."""
        if url.scheme not in ("http", "https") or not url.path.endswith(f"/{rest}"):
            raise Refused("the server redirects to something that is no repository")
        if url.origin() != self._base.origin() and (url.scheme, url.host) != ("https", self._base.host):
            self._credentials = None
        self._base = url.with_path(url.path[: -len(rest) - 1]).with_query(None).with_user(None)


class _Refusing(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _answer(request: web.BaseRequest, response: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: response.headers[name] for name in _ANSWERED if name in response.headers}
    answer = web.StreamResponse(status=response.status, headers=headers)
    await answer.prepare(request)
    async for chunk in response.content.iter_chunked(_CHUNK):
        await answer.write(chunk)
    await answer.write_eof()
    return answer


@contextlib.asynccontextmanager
async def relayed(
    jail: Jail,
    url: str,
    policy: Policy,
    credentials: Credentials | None,
    *,
    services: frozenset[str],
    verify: bool = True,
) -> AsyncGenerator[tuple[Relay, list[str]]]:
    """A relay to this repository while the block runs, and the git settings that lead to it. `url` is what git
    has in its own files; a name in it is not passed on."""
    base = URL(url).with_user(None).with_query(None).with_fragment(None)
    await check(policy, base)
    listener = await open_door(jail)
    port = listener.getsockname()[1]
    async with session(lambda: policy) as client:
        relay = Relay(base, client, policy, credentials, services=services, verify=verify)
        handlers = web.Server(relay, access_log=None)

        def accepted() -> asyncio.BaseProtocol:
            # Any program of the sandbox can connect; each connection costs the server a descriptor.
            return handlers() if len(handlers.connections) < _CONNECTIONS else _Refusing()

        server = await asyncio.get_running_loop().create_server(accepted, sock=listener)
        try:
            here = f"http://127.0.0.1:{port}/{relay.token}"
            settings = [f"url.{here}.insteadOf={url}", "http.proxy=", "http.followRedirects=false"]
            yield relay, [*settings, "credential.helper="]
        finally:
            server.close()
            await handlers.shutdown(_CLOSE_S)
