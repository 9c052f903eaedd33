"""Sources of sandboxes, and interpreters that are shut down at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.local_server import local_server
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import PoolSizes
from integrations.daytona.local_pty import LocalPtySource


@pytest.fixture(scope="session")
def pty_source() -> Iterator[LocalPtySource]:
    source = LocalPtySource()
    yield source
    source.close()


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxRuntime]:
    """The local server, jailed, through the SDK. It fails where no isolation can be had: nothing is skipped."""
    home = tmp_path_factory.mktemp("server")
    server = local_server(home=home)
    found = SandboxRuntime(replace(server.settings, pool=PoolSizes()))
    yield found
    found.close()
    server.close()


@pytest.fixture(scope="session")
def terminal_runtime(runtime: SandboxRuntime) -> Iterator[SandboxRuntime]:
    """The same server by its terminals, as a server on another machine is used."""
    found = SandboxRuntime(replace(runtime.settings, transport="terminal"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def session_runtime(runtime: SandboxRuntime) -> Iterator[SandboxRuntime]:
    """The same server through session commands alone, as where no WebSocket passes."""
    found = SandboxRuntime(replace(runtime.settings, transport="session"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def strict_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxRuntime]:
    """A server that answers late, drops sockets and fails now and then."""
    server = local_server(home=tmp_path_factory.mktemp("strict"), strict=True)
    found = SandboxRuntime(replace(server.settings, transport="terminal", pool=PoolSizes()))
    yield found
    found.close()
    server.close()


@pytest.fixture(scope="session")
def strict_session_runtime(strict_runtime: SandboxRuntime) -> Iterator[SandboxRuntime]:
    found = SandboxRuntime(replace(strict_runtime.settings, transport="session"))
    yield found
    found.close()


@pytest.fixture
def make(pty_source: LocalPtySource) -> Iterator[Callable[..., DaytonaInterpreter]]:
    """Interpreters on local terminals, shut down at the end of the test."""
    made: list[DaytonaInterpreter] = []

    def build(**options: Any) -> DaytonaInterpreter:
        made.append(DaytonaInterpreter(runtime=options.pop("runtime", pty_source), **options))
        return made[-1]

    yield build
    for interpreter in made:
        interpreter.shutdown()
