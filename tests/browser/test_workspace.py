"""The whole system as a person meets it: `fleet web`, a real Chromium, the demo program, real sandboxes."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.real_page import browse, gapless, served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

FACT = "the vault combination of the observatory is 48-15-16-23"
QUESTION = "What is the vault combination of the observatory?"


@pytest.fixture(scope="session")
def haystack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 20 MB with one line that matters."""
    rng = random.Random(7)
    words = [
        "request",
        "handler",
        "worker",
        "queue",
        "retry",
        "socket",
        "session",
        "cache",
        "shard",
        "node",
        "commit",
        "buffer",
        "stream",
        "token",
        "page",
    ]
    lines = [
        f"2026-11-20 {n:07d} INFO {' '.join(rng.choices(words, k=9))} id={rng.randrange(10**6)}" for n in range(230_000)
    ]
    lines.insert(161_803, f"2026-11-20 NOTICE {FACT}")
    path = tmp_path_factory.mktemp("haystack") / "service.log"
    path.write_text("\n".join(lines))
    assert path.stat().st_size > 20_000_000
    return path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "home", FLEET_MODEL="demo/search") as workspace:
        yield workspace.address


@pytest.fixture
def fresh_address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "home", FLEET_MODEL="") as workspace:
        yield workspace.address


def test_a_fact_in_20_mb_is_found_with_its_place(address: str, haystack: Path) -> None:
    seen = browse("workspace.mjs", "answer", url=address, file=str(haystack), question=QUESTION, expect="48-15-16-23", runs=9,
                  place="service.log:161804")  # fmt: skip
    assert FACT in seen["answer"] and "service.log:161804" in seen["answer"]
    assert "not an AI model" in seen["answer"] and "no AI model" in seen["demo"]
    assert FACT in seen["cited"]
    assert seen["runs"] >= 10 and seen["liveRows"] >= 2
    gapless(seen["events"])
    assert sum(event["type"] == "sandbox.ready" for event in seen["events"]) >= 9


def test_a_turn_goes_on_without_its_tab(address: str, haystack: Path) -> None:
    seen = browse("workspace.mjs", "reopen", url=address, file=str(haystack), question=QUESTION, expect="48-15-16-23")
    assert seen["answers"] == 1 and seen["runs"] >= seen["midway"]
    gapless(seen["events"])
    assert [event["type"] for event in seen["events"]].count("turn.finished") == 1


def test_the_first_question_is_kept_while_the_model_is_chosen(fresh_address: str, haystack: Path) -> None:
    began = time.monotonic()
    seen = browse(
        "workspace.mjs", "firstRun", url=fresh_address, file=str(haystack), question=QUESTION, expect="48-15-16-23"
    )
    assert FACT in seen["answer"]
    assert time.monotonic() - began < 200
