"""Where a sandbox may connect to: names and networks that were allowed, and nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fleet_rlm.sandboxd.errors import bad_request

_PORTS: Final = (80, 443)
_ENTRIES: Final = 200
_NAME: Final = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME_LIMIT: Final = 253
_RESOLVE_S: Final = 10.0
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """A connection that the policy does not allow; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class DomainRule:
    """A name, or with `wildcard` every name below it, at a port (None: 80 and 443)."""

    name: str
    wildcard: bool
    port: int | None

    def fits(self, host: str, port: int) -> bool:
        """Whether a host name (lower case, no trailing dot) and port are meant."""
        named = host.endswith("." + self.name) if self.wildcard else host == self.name
        return named and _port_fits(self.port, port)


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """A network at a port (None: 80 and 443)."""

    network: Network
    port: int | None

    def fits(self, address: Address, port: int) -> bool:
        """Whether an address and port are meant."""
        return address.version == self.network.version and address in self.network and _port_fits(self.port, port)


@dataclass(frozen=True, slots=True)
class Policy:
    """What one sandbox may reach. Empty: nothing."""

    domains: tuple[DomainRule, ...] = ()
    networks: tuple[NetworkRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.domains or self.networks)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses to connect to, resolved once, so that a name cannot change between check and use.

        Refused when neither the name nor an address is allowed. An address that is not public passes only by a
        network rule that holds it: a name that points at this machine or its neighbours is no way in.
        """
        host = host.lower().rstrip(".")
        named = any(rule.fits(host, port) for rule in self.domains)
        if not named and not any(_port_fits(rule.port, port) for rule in self.networks):
            raise Refused(f"{host[:_NAME_LIMIT]} port {port} is not on the sandbox's allow list")
        found = await _resolve(host)
        allowed = [
            str(address)
            for address in found
            if any(rule.fits(address, port) for rule in self.networks) or (named and is_public(address))
        ]
        if not allowed:
            why = "its address is not public" if named else "it is not on the sandbox's allow list"
            raise Refused(f"{host[:_NAME_LIMIT]} port {port}: {why}")
        return allowed


def policy(*, block_all: bool, networks: str | None, domains: str | None) -> Policy:
    """The policy of a sandbox's network settings; blocking wins over lists. 400 for a list that is malformed."""
    rules = Policy(
        tuple(_domain(entry) for entry in _entries("domainAllowList", domains)),
        tuple(_network(entry) for entry in _entries("networkAllowList", networks)),
    )
    return Policy() if block_all else rules


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's own, also when it is wrapped in another."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


async def _resolve(host: str) -> list[Address]:
    try:
        return [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        pass
    if len(host) > _NAME_LIMIT or not _NAME.fullmatch(host):
        raise Refused(f"{host[:_NAME_LIMIT]!r} is no host name")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        raise Refused(f"could not resolve host: {host}") from error
    return [ipaddress.ip_address(item[4][0]) for item in found]


def _entries(field: str, text: str | None) -> Iterable[str]:
    entries = [entry.strip() for entry in (text or "").split(",") if entry.strip()]
    if len(entries) > _ENTRIES:
        raise bad_request(f"{field} has at most {_ENTRIES} entries")
    return entries


def _domain(entry: str) -> DomainRule:
    name, _, port = entry.lower().partition(":")
    name = name.rstrip(".")
    if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name) or _is_address(name):
        raise bad_request(
            f"domainAllowList: {entry[:80]!r} is no domain such as example.com, *.example.com or a.b:8443"
        )
    return DomainRule(name.removeprefix("*."), name.startswith("*."), _port(entry, port))


def _network(entry: str) -> NetworkRule:
    address, slash, rest = entry.partition("/")
    prefix, _, port = rest.partition(":")
    if not slash and entry.count(":") == 1:
        address, _, port = entry.partition(":")
    try:
        network = ipaddress.ip_network(f"{address}/{prefix}" if slash else address, strict=False)
    except ValueError as error:
        message = f"networkAllowList: {entry[:80]!r} is no network such as 192.0.2.0/24 or 192.0.2.7/32:8080"
        raise bad_request(message) from error
    return NetworkRule(network, _port(entry, port))


def _port(entry: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:6]) < 65536:
        raise bad_request(f"{entry[:80]!r}: a port is a number from 1 to 65535")
    return int(text)


def _port_fits(ruled: int | None, port: int) -> bool:
    return port in _PORTS if ruled is None else port == ruled


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
