"""What a server said of a failure is cut so that the secrets in it are still known as such."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fleet_rlm.errors import FleetError
from fleet_rlm.integrations.daytona import diagnostics
from fleet_rlm.integrations.daytona.creation import unavailable
from fleet_rlm.integrations.daytona.filesystem import file_errors
from fleet_rlm.integrations.daytona.said import cut_between_words
from fleet_rlm.integrations.daytona.session_command import SessionTransport
from fleet_rlm.integrations.daytona.settings import DaytonaSettings
from fleet_rlm.integrations.daytona.transport import TransportError
from fleet_rlm.runtime.redaction import Redactor

KEY = "dtn_0123456789abcdef0123456789abcdef"


def of_a_file(text: str) -> str:
    with pytest.raises(FleetError) as raised, file_errors("a.txt"):
        raise OSError(text)
    return raised.value.message


def of_a_creation(text: str) -> str:
    return unavailable(OSError(text)).message


def of_a_diagnosis(text: str) -> str:
    def act() -> str:
        raise RuntimeError(text)

    return diagnostics._tried("run", act, DaytonaSettings.cloud(api_key=KEY)).detail


def of_a_command(text: str) -> str:
    async def request() -> None:
        raise OSError(text)

    with pytest.raises(TransportError) as raised:
        asyncio.run(SessionTransport._do(None, request, tries=1))  # type: ignore[arg-type]
    return str(raised.value)


@pytest.mark.parametrize("said", [of_a_file, of_a_creation, of_a_diagnosis, of_a_command])
def test_half_of_a_secret_is_never_said(said: Callable[[str], str]) -> None:
    for before in range(200, 520, 2):
        text = Redactor([KEY])(said(f"{'x ' * (before // 2)}the key {KEY} is not accepted"))
        assert KEY[:8] not in text, text
        assert len(text) < 600


def test_words_stay_whole_or_go() -> None:
    assert cut_between_words("one two", 7) == "one two"
    assert cut_between_words("one two three", 7) == "one two …"
    assert cut_between_words("one two three", 8) == "one two …"
    assert cut_between_words("one two three", 6) == "one …"
    assert cut_between_words("onetwothree", 6) == "…"
