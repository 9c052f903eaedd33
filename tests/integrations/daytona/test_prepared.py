"""A terminal that was opened ahead."""

import asyncio
from collections.abc import Callable

import pytest

from fleet_rlm.integrations.daytona.prepared import EARLY_BYTES, PreparedTerminal
from fleet_rlm.integrations.daytona.transport import TransportError


class Inner:
    """A transport that a test speaks for."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.hears: Callable[[bytes], None] = lambda _: None
        self.ends: Callable[[str], None] = lambda _: None

    async def open(self, receive: Callable[[bytes], None], closed: Callable[[str], None]) -> None:
        self.hears, self.ends = receive, closed

    any_thread = False
    reopens = True
    direct = None

    async def reopen(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def close(self) -> None: ...


def prepared() -> tuple[Inner, PreparedTerminal]:
    inner = Inner()
    terminal = PreparedTerminal(inner)
    asyncio.run(terminal.prepare())
    return inner, terminal


def test_what_was_said_before_is_handed_over_in_order() -> None:
    inner, terminal = prepared()
    inner.hears(b"one ")
    inner.hears(b"two ")
    heard: list[bytes] = []
    ends: list[str] = []
    asyncio.run(terminal.open(heard.append, ends.append))
    inner.hears(b"three")
    inner.ends("over")
    terminal.write(b"key")
    assert (b"".join(heard), ends, inner.written) == (b"one two three", ["over"], [b"key"])


@pytest.mark.parametrize("how", ["ended", "talkative"])
def test_one_that_went_away_is_not_given_out(how: str) -> None:
    inner, terminal = prepared()
    if how == "ended":
        inner.ends("the sandbox is gone")
    else:
        inner.hears(b"x" * (EARLY_BYTES + 1))
    assert not terminal.ready
    with pytest.raises(TransportError):
        asyncio.run(terminal.open(lambda _: None, lambda _: None))
