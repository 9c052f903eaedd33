"""Our side: a workspace in a folder of its own with a local sandbox server, as a person's would be."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import dspy

from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.runtime.config import load_settings
from fleet_rlm.runtime.execution.events import ContextRef, Limits
from fleet_rlm.runtime.execution.requests import TurnRequest, TurnResult
from fleet_rlm.runtime.factory import Workspace, open_workspace

WAIT_S = 300.0
READY_S = 20.0
QUIET_S = 0.8


class Ours:
    """Opened at first use, closed with `close`."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-")))

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace that most measurements share; its server is up and in use."""
        opened = self._stack.enter_context(self.fresh("shared"))
        with self.interpreter(opened) as warm:
            warm.execute("1")
        return opened

    @contextlib.contextmanager
    def fresh(self, name: str, environ: Mapping[str, str] | None = None) -> Generator[Workspace]:
        """Another workspace: its server runs, but nobody has connected to it yet."""
        with open_workspace(load_settings(home=self.folder / name, environ=environ or {}), own_process=True) as opened:
            _ = opened.sandbox_settings(), opened.models
            opened.prepare()
            yield opened

    def interpreter(self, workspace: Workspace | None = None, **options: Any) -> DaytonaInterpreter:
        """An interpreter on a workspace's sandboxes (the shared one's)."""
        return DaytonaInterpreter(runtime=(workspace or self.workspace).sandboxes, **options)

    @property
    def sandboxes(self) -> SandboxRuntime:
        """The shared workspace's sandboxes."""
        return self.workspace.sandboxes

    def settle(self, workspace: Workspace | None = None) -> None:
        """Wait until it is quiet, as between two questions of a person: what waits for the next is ready by then."""
        sandboxes = (workspace or self.workspace).sandboxes
        until = time.monotonic() + READY_S
        idle, since = -1, time.monotonic()
        while (idle < 1 or time.monotonic() < since + QUIET_S) and time.monotonic() < until:
            if idle != sandboxes.idle:
                idle, since = sandboxes.idle, time.monotonic()
            time.sleep(0.02)

    def submit(self, lm: dspy.BaseLM, *, sub_lm: dspy.BaseLM | None = None) -> str:
        """Begin a turn in mode rlm; its id."""
        request = TurnRequest(question="measure", mode="rlm", model=lm, sub_model=sub_lm, limits=Limits())
        return self.workspace.submit(request).turn

    def ask(
        self,
        lm: dspy.BaseLM,
        *,
        sub_lm: dspy.BaseLM | None = None,
        contexts: Sequence[ContextRef] = (),
        workspace: Workspace | None = None,
    ) -> TurnResult:
        """A whole turn in mode rlm, journal and all. It must answer."""
        place = workspace or self.workspace
        request = TurnRequest(
            question="measure", mode="rlm", model=lm, sub_model=sub_lm, contexts=tuple(contexts), limits=Limits()
        )
        result = place.wait(place.submit(request).turn, WAIT_S)
        if result.status != "ok":
            raise RuntimeError(f"the measured turn ended as {result.status}: {result.error}")
        return result

    def close(self) -> None:
        """Close what was opened."""
        self._stack.close()
