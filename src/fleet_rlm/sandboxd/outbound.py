"""HTTP connections of the server on behalf of a sandbox: to addresses that its policy allows, pinned."""

from __future__ import annotations

import socket
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from fleet_rlm.sandboxd.egress import Policy, Refused

_CONNECT_S = 30.0
_IDLE_S = 300.0


class _PolicyResolver(AbstractResolver):
    """Resolves only what the policy allows; the connection goes to the very addresses that were judged."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._policy().addresses(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
        ]

    async def close(self) -> None:
        return None


def session(policy: Callable[[], Policy]) -> aiohttp.ClientSession:
    """A client without cookies, proxies, redirects or decompression, that connects as the policy says."""
    connector = aiohttp.TCPConnector(
        resolver=_PolicyResolver(policy), use_dns_cache=False, family=socket.AF_UNSPEC, happy_eyeballs_delay=None
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_IDLE_S),
    )


async def check(policy: Policy, url: URL) -> None:
    """Judge a URL before it is asked for: the client does not resolve what is an address already."""
    if url.host is None or url.port is None:
        raise Refused("the URL has no host")
    await policy.addresses(url.host, url.port)
