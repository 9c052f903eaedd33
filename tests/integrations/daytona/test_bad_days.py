"""Passing failures of the control API: done again where that is safe, nothing leaked, nothing run twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.owner import is_orphan, own_labels
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import LOCAL_POOL, PoolSizes, TransportChoice
from fleet_rlm.integrations.daytona.source import SandboxHandle, SandboxSpec, VolumeMountSpec
from integrations.daytona.flaky_api import FlakyApi


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def flaky(runtime: SandboxRuntime) -> Iterator[FlakyApi]:
    api = FlakyApi(runtime.settings)
    runtime.call(api.start())
    yield api
    runtime.call(api.stop())


@pytest.fixture
def behind(flaky: FlakyApi) -> Iterator[SandboxRuntime]:
    found = SandboxRuntime(flaky.settings)
    yield found
    found.close()


def fails_first(times: int, fault: str, method: str, path: str) -> Callable[[str, str], str | None]:
    """The first `times` requests of this kind fail."""
    left = [times]

    def decide(asked: str, where: str) -> str | None:
        if asked != method or where != path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return decide


class TestRetry:
    @pytest.mark.parametrize("fault", ["503", "429", "drop", "lost"])
    def test_a_creation_is_done_again_and_leaks_nothing(
        self, runtime: SandboxRuntime, behind: SandboxRuntime, flaky: FlakyApi, fault: str
    ) -> None:
        labels = {"test": f"create {fault}"}
        flaky.fault = fails_first(2, fault, "POST", "/api/sandbox")
        handle = behind.create(SandboxSpec(labels=labels))
        assert sum(seen == ("POST", "/api/sandbox") for seen in flaky.seen) >= 3
        assert wait_for(lambda: [info.id for info in runtime.list(labels)] == [handle.id])

    def test_what_stays_broken_is_one_clear_error(self, behind: SandboxRuntime, flaky: FlakyApi) -> None:
        flaky.fault = lambda method, path: "503" if path == "/api/sandbox" else None
        with pytest.raises(SandboxUnavailable, match="no sandbox: .*not now"):
            behind.create(SandboxSpec())

    def test_what_is_refused_is_not_done_again(self, behind: SandboxRuntime, flaky: FlakyApi) -> None:
        with pytest.raises(SandboxUnavailable):
            behind.create(SandboxSpec(mounts=(VolumeMountSpec("test-refused", "relative/path"),)))
        assert flaky.seen.count(("POST", "/api/sandbox")) == 1

    def test_lists_are_asked_again(self, behind: SandboxRuntime, flaky: FlakyApi) -> None:
        flaky.fault = fails_first(2, "drop", "GET", "/api/sandbox")
        assert behind.list({"test": "nobody has this"}) == []


class TestPool:
    @pytest.fixture
    def pooled(self, runtime: SandboxRuntime) -> Iterator[SandboxRuntime]:
        found = SandboxRuntime(replace(runtime.settings, pool=PoolSizes(bare=1, mounted=1)))
        yield found
        found.close()

    def idle(self, pooled: SandboxRuntime) -> list[str]:
        return [info.id for info in pooled.list({"fleet.pool": "idle", **own_labels()})]

    def test_a_started_sandbox_waits_and_takes_the_labels_of_its_user(self, pooled: SandboxRuntime) -> None:
        pooled.delete(pooled.create(SandboxSpec()))
        assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1)
        waiting = self.idle(pooled)[0]
        with DaytonaInterpreter(runtime=pooled, labels={"test": "pool"}) as it:
            assert it.execute("print(6 * 7)") == "42"
            assert wait_for(lambda: [info.id for info in pooled.list({"test": "pool"})] == [waiting])
            assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1 and self.idle(pooled) != [waiting])
        assert wait_for(lambda: pooled.list({"test": "pool"}) == [])

    def test_a_local_server_has_the_next_one_ready_when_it_is_quiet(self, runtime: SandboxRuntime) -> None:
        pooled = SandboxRuntime(replace(runtime.settings, pool=LOCAL_POOL))
        try:
            first = [pooled.create(SandboxSpec()) for _ in range(3)]
            assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1)
            waiting = self.idle(pooled)[0]
            assert waiting not in [handle.id for handle in first]
            assert pooled.create(SandboxSpec()).id == waiting
            assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1)
        finally:
            pooled.close()
        assert wait_for(lambda: self.idle(runtime) == [])

    @pytest.mark.parametrize("provider", ["local", "daytona"])
    def test_only_on_this_machine_some_are_made_before_anybody_asks(
        self, runtime: SandboxRuntime, provider: Literal["local", "daytona"]
    ) -> None:
        pooled = SandboxRuntime(replace(runtime.settings, provider=provider, pool=PoolSizes(bare=1)))
        try:
            pooled.make_ahead()
            if provider == "local":
                assert wait_for(lambda: pooled.idle == 1)
            else:
                time.sleep(1.0)
                assert pooled.idle == 0 and self.idle(pooled) == []
        finally:
            pooled.close()

    @pytest.mark.parametrize("transport", ["auto", "terminal"])
    def test_python_has_started_in_what_waits(self, runtime: SandboxRuntime, transport: TransportChoice) -> None:
        settings = replace(runtime.settings, transport=transport, pool=PoolSizes(bare=1, quiet_s=0.1))
        pooled = SandboxRuntime(settings)
        try:
            pooled.delete(pooled.create(SandboxSpec()))
            assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1)
            (waiting,), asked_at = self.idle(pooled), float(Path("/proc/uptime").read_text().split()[0])
            with DaytonaInterpreter(runtime=pooled, labels={"test": "prepared"}) as it:
                began = it.execute(
                    "import os\nfields = open('/proc/self/stat').read().rpartition(')')[2].split()\n"
                    "float(fields[19]) / os.sysconf('SC_CLK_TCK')"
                )
                assert float(str(began)) < asked_at
                assert wait_for(lambda: [info.id for info in pooled.list({"test": "prepared"})] == [waiting])
        finally:
            pooled.close()

    def test_one_that_is_let_go_is_used_no_more(self, runtime: SandboxRuntime) -> None:
        pooled = SandboxRuntime(replace(runtime.settings, pool=PoolSizes(bare=1, quiet_s=0.1, ready=2)))
        try:
            pooled.forget(pooled.create(SandboxSpec(labels={"test": "let go"})))
            assert wait_for(lambda: pooled.idle == 2)
        finally:
            pooled.close()
            assert runtime.delete_labelled({"test": "let go"}) == 1

    def test_mounts_are_pooled_when_they_are_wanted_again(self, pooled: SandboxRuntime) -> None:
        mounted = SandboxSpec(mounts=(VolumeMountSpec("test-pool", "/pool", "a"),))
        pooled.delete(pooled.create(mounted))
        assert self.idle(pooled) == []
        pooled.delete(pooled.create(mounted))
        assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1)
        waiting = self.idle(pooled)[0]
        other = pooled.create(SandboxSpec(mounts=(VolumeMountSpec("test-pool", "/pool", "b"),)))
        assert other.id != waiting
        assert pooled.create(mounted).id == waiting

    def test_one_that_died_while_it_waited_is_not_given_out(
        self, runtime: SandboxRuntime, pooled: SandboxRuntime
    ) -> None:
        pooled.delete(pooled.create(SandboxSpec()))
        assert wait_for(lambda: pooled.idle == len(self.idle(pooled)) == 1)
        waiting = self.idle(pooled)[0]
        runtime.delete_labelled({"fleet.pool": "idle"})
        assert wait_for(lambda: not pooled.call(pooled.runs(SandboxHandle(waiting, ""))))
        handle = pooled.create(SandboxSpec(labels={"test": "after death"}))
        assert handle.id != waiting
        assert wait_for(lambda: [info.state for info in runtime.list({"test": "after death"})] == ["started"])

    def test_nothing_waits_after_the_end(self, runtime: SandboxRuntime) -> None:
        pooled = SandboxRuntime(replace(runtime.settings, pool=PoolSizes(bare=2)))
        pooled.delete(pooled.create(SandboxSpec()))
        assert wait_for(lambda: len(self.idle(pooled)) == 2)
        pooled.close()
        assert wait_for(lambda: self.idle(runtime) == [])


MAKER = """
import os, signal, sys
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import DaytonaSettings
from fleet_rlm.integrations.daytona.source import SandboxSpec
key, url = sys.stdin.readline().split()
runtime = SandboxRuntime(DaytonaSettings(key, url, "local", "local", "x"))
runtime.create(SandboxSpec(labels={"test": "orphan"}))
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestReaper:
    def test_a_dead_process_is_swept_after(self, runtime: SandboxRuntime) -> None:
        settings = runtime.settings
        mine = runtime.create(SandboxSpec(labels={"test": "orphan"}))
        maker = subprocess.run(
            [sys.executable, "-c", MAKER], input=f"{settings.api_key} {settings.api_url}\n", text=True, timeout=100
        )
        assert maker.returncode == -9
        assert len(runtime.list({"test": "orphan"})) == 2
        assert runtime.sweep() == 1
        assert [info.id for info in runtime.list({"test": "orphan"})] == [mine.id]
        runtime.delete(mine)

    def test_a_turn_that_is_over_leaves_nothing(self, runtime: SandboxRuntime) -> None:
        for turn in ("t_1", "t_1", "t_2"):
            runtime.create(SandboxSpec(labels={"fleet.turn": turn, "test": "turns"}))
        runtime.turn_over("t_1")
        assert wait_for(lambda: [i.labels["fleet.turn"] for i in runtime.list({"test": "turns"})] == ["t_2"])
        runtime.turn_over("t_2")

    @pytest.mark.parametrize(
        "change", [{"fleet.deployment": "elsewhere"}, {"fleet.process": ""}, {"fleet.process": "1.0"}]
    )
    def test_what_cannot_be_known_to_be_dead_is_left_alone(self, change: dict[str, Any]) -> None:
        assert not is_orphan(own_labels())
        assert is_orphan({**own_labels(), "fleet.process": "999999999.1"})
        assert not is_orphan({**own_labels(), "fleet.process": "999999999.1", **change})
