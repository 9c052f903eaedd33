"""Whether the workspace can work, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.runtime.execution.events import Event, Mode, SandboxLost, SandboxReady, SandboxReleased

FIELDS = (
    "version",
    "provider",
    "isolation",
    "isolation_detail",
    "model",
    "model_label",
    "demo",
    "configured",
    "active_turns",
)


class Diagnostics:
    """Status of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._live: set[str] = set()
        self.close = workspace.journal.listen(None, self._count)

    def _count(self, events: Sequence[Event]) -> None:
        """On the journal's thread: which sandboxes live now."""
        for event in events:
            match event.data:
                case SandboxReady(id=id):
                    self._live.add(id)
                case SandboxLost(id=id) | SandboxReleased(id=id):
                    self._live.discard(id)
                case _:
                    pass

    async def status(self) -> dict[str, Any]:
        """Everything that the page's header and welcome screen need."""
        status = await asyncio.to_thread(self._workspace.status)
        return {
            **{name: getattr(status, name) for name in FIELDS},
            "live_sandboxes": len(self._live),
            "limits": self._workspace.settings.limits,
            "modes": list(get_args(Mode)),
            "warnings": list(status.warnings),
        }

    async def ready(self) -> dict[str, Any]:
        """Ready = the journal takes events, and model-written code has somewhere to run."""
        status = await asyncio.to_thread(self._workspace.status)
        database = "failing" if self._workspace.journal.failing else "ok"
        return {
            "ready": database == "ok" and status.isolation is not None,
            "database": database,
            "sandbox": {
                "provider": status.provider,
                "isolation": status.isolation,
                "detail": status.isolation_detail,
            },
        }
