"""How a host is written in one way, and which addresses a fetch may reach: public ones only, so that no page leads
into this machine or its network."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from typing import Final

from fleet_rlm.errors import InvalidInput

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by number, yet answered by the cloud's host (Azure's wire server)."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_NUMBERS: Final = re.compile(r"[0-9a-fx.]*[0-9][0-9a-fx.]*")
"""What the system may read as an IPv4 address: also `134744072`, `0x08080808`, `010.8.8.8`."""
_DOTS: Final = re.compile("[.\u3002\uff0e\uff61]")
"""What separates the parts of a name, also where it is written in another script."""
_WILD: Final = "*?["
NAMES_ADDRESS: Final = re.compile(r"[0-9a-f.:*?]*[0-9][0-9a-f.:*?]*")
"""A pattern that may name addresses, and not only hosts."""


def normal_host(host: str) -> str:
    """The one form of a host, however it was spelled: as the resolver reads it, in small letters, without a last dot;
    a number as the address that it stands for. Errors: ValueError for what can be no host.
    """
    if ":" in host:
        address = ipaddress.ip_address(host)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
    name = host.encode("idna").decode("ascii").lower().rstrip(".")
    if not name:
        raise ValueError("no host")
    try:
        return socket.inet_ntoa(socket.inet_aton(name)) if _NUMBERS.fullmatch(name) else name
    except OSError:
        return name


def normal_pattern(pattern: str) -> str:
    """A pattern of hosts in the same form: where it has a wildcard, each part that has none. What can be no host stays
    as it is, and matches none.
    """
    bare = pattern[1:-1] if pattern.startswith("[") and pattern.endswith("]") and ":" in pattern else pattern
    try:
        if not any(char in bare for char in _WILD):
            return normal_host(bare)
        parts = _DOTS.split(bare)
        plain = [part if any(char in part for char in _WILD) else part.encode("idna").decode("ascii") for part in parts]
    except ValueError:
        return bare.lower()
    return ".".join(plain).lower().rstrip(".")


def alike(address: str) -> set[str]:
    """The address, and the IPv4 one that stands in it where a network reaches that by IPv6."""
    number = ipaddress.ip_address(address)
    inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF) if number in _NAT64 else address
    return {normal_host(address), str(inner)}


def is_public(address: IPAddress) -> bool:
    """False for loopback, private, link-local (cloud metadata), shared, reserved and multicast addresses.

    An IPv6 address that carries an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64) is judged by that one too.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address not in _METADATA and _is_global(address)
    if address in _COMPATIBLE:  # `::1`, `::`, and a form of IPv4 given up long ago
        return False
    if address in _NAT64:  # how a network without IPv4 reaches it; 64:ff9b:1::/48 is for local use and stays out
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    carried = [address.sixtofour, *(address.teredo or ())]
    return _is_global(address) and all(is_public(inner) for inner in carried if inner is not None)


def resolve(host: str, port: int, seconds: float) -> list[str]:
    """The host's addresses, as numbers. Errors: InvalidInput for an unknown name, or one that takes too long."""
    answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        answer.put(list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)))

    # The system's resolver knows no deadline; a thread that is still asking is left behind.
    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        addresses = answer.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise InvalidInput(f"the host {host[:200]} was not found in time", hint="try again") from None
    if not addresses:
        raise InvalidInput(f"the host {host[:200]} is not known", hint="check the address")
    return addresses


def _is_global(address: IPAddress) -> bool:
    return address.is_global and not (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
    )
