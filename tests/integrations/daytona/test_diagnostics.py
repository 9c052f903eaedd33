"""Diagnosing a server: a good one, and each way in which one can be bad."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet_rlm.integrations.daytona.diagnostics import Step, diagnose
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import DaytonaSettings
from integrations.daytona.flaky_api import FlakyApi

NAMES = ["reach", "authenticate", "create", "run", "write and read", "mount", "network policy", "delete"]


def last(settings: DaytonaSettings) -> Step:
    return list(diagnose(settings))[-1]


def test_a_good_server(runtime: SandboxRuntime) -> None:
    steps = list(diagnose(runtime.settings))
    assert [step.name for step in steps] == NAMES
    assert [step for step in steps if not step.ok] == []
    assert all(step.ms >= 0 and step.cause is None and step.mend is None for step in steps)
    assert [info for info in runtime.list({}) if "fleet.diagnose" in info.labels] == []


class TestBad:
    @pytest.fixture
    def flaky(self, runtime: SandboxRuntime) -> Iterator[FlakyApi]:
        api = FlakyApi(runtime.settings)
        runtime.call(api.start())
        yield api
        runtime.call(api.stop())

    def test_nobody_listens(self, runtime: SandboxRuntime) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        step = last(replace(runtime.settings, api_url=f"http://127.0.0.1:{port}/api"))
        assert (step.name, step.ok) == ("reach", False) and "no server listens" in str(step.cause)

    def test_a_name_that_is_unknown(self, runtime: SandboxRuntime) -> None:
        step = last(replace(runtime.settings, api_url="http://nowhere.invalid/api"))
        assert (step.name, step.ok) == ("reach", False) and "name is unknown" in str(step.cause)

    def test_an_address_that_is_none(self, runtime: SandboxRuntime) -> None:
        step = last(replace(runtime.settings, api_url="nonsense"))
        assert (step.name, step.ok) == ("reach", False) and "mistyped" in str(step.cause)

    def test_a_wrong_key(self, runtime: SandboxRuntime) -> None:
        step = last(replace(runtime.settings, api_key="wrong-key", provider="daytona"))
        assert (step.name, step.ok) == ("authenticate", False)
        assert "DAYTONA_API_KEY" in str(step.mend) and "wrong-key" not in str(step)

    def test_a_limit_is_reached(self, flaky: FlakyApi) -> None:
        flaky.fault = lambda method, path: "429" if (method, path) == ("POST", "/api/sandbox") else None
        step = last(flaky.settings)
        assert (step.name, step.ok) == ("create", False) and "too many requests" in str(step.cause)

    def test_volumes_fail_but_the_rest_is_tried(self, flaky: FlakyApi) -> None:
        flaky.fault = lambda method, path: "503" if path.startswith("/api/volumes") else None
        steps = {step.name: step for step in diagnose(flaky.settings)}
        assert [name for name, step in steps.items() if not step.ok] == ["mount"]
        assert "server fails inside" in str(steps["mount"].cause)
