"""Turns of other processes that died while this one runs: closed before anyone is told that a session is busy."""

from __future__ import annotations

from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.errors import Conflict
from fleet_rlm.runtime.execution.recovery import close_interrupted


def require_idle(workspace: Workspace, sid: str) -> None:
    """Errors: NotFound; Conflict while a turn runs in the session, here or in another living process."""
    close_leftovers(workspace, sid)
    if workspace.sessions.get(sid).active_turn is not None:
        raise Conflict("a turn is running in this session", hint="cancel it first")


def close_leftovers(workspace: Workspace, sid: str) -> None:
    """Close a turn that no living process runs. Errors: NotFound."""
    if workspace.sessions.get(sid).active_turn is not None and workspace.active_turn(sid) is None:
        close_interrupted(workspace.journal, workspace.sessions, workspace.settings.home)
