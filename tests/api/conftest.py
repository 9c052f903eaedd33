"""Served scripted workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_workspace import ScriptedWorkspace
from served import Running, Serve

from fleet_rlm.api.page import Page
from fleet_rlm.api.routers.ws.endpoint import SocketLimits


@pytest.fixture
def serve(fleet_home: Path) -> Iterator[Serve]:
    """Starts a served scripted workspace; all are stopped at the end."""
    started: list[Running] = []

    def start(workspace: Any = None, limits: SocketLimits | None = None, page: Page | None = None) -> Running:
        running = Running(workspace or ScriptedWorkspace(fleet_home), fleet_home, limits or SocketLimits(), page)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One served workspace for the tests of a module; each test makes sessions of its own."""
    home = tmp_path_factory.mktemp("shared")
    served = Running(ScriptedWorkspace(home), home, SocketLimits(), None)
    yield served
    served.stop()


@pytest.fixture
def fresh(serve: Serve) -> Iterator[httpx.Client]:
    """A client of a workspace that nobody used before."""
    with serve().bearer() as client:
        yield client


@pytest.fixture
def api(running: Running) -> Iterator[httpx.Client]:
    with running.bearer() as client:
        yield client


@pytest.fixture
def sid(api: httpx.Client) -> str:
    return api.post("/sessions", json={"title": "A session"}).json()["id"]
