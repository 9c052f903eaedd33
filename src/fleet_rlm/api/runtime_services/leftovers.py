"""Turns of other processes that died while this one runs: closed before anyone is told that a session is busy, and
soon, so that whoever watches one sees its end and can resume it."""

from __future__ import annotations

import asyncio
import logging

from fleet_rlm.api.runtime_services.ports import Workspace
from fleet_rlm.errors import Conflict, FleetError
from fleet_rlm.runtime.execution.recovery import close_interrupted

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks for turns whose process died."""


def require_idle(workspace: Workspace, sid: str) -> None:
    """Errors: NotFound; Conflict while a turn runs in the session, here or in another living process."""
    close_leftovers(workspace, sid)
    if workspace.sessions.get(sid).active_turn is not None:
        raise Conflict("a turn is running in this session", hint="cancel it first")


def close_leftovers(workspace: Workspace, sid: str) -> None:
    """Close a turn that no living process runs. Errors: NotFound."""
    if workspace.sessions.get(sid).active_turn is not None and workspace.active_turn(sid) is None:
        close_interrupted(workspace.journal, workspace.sessions, workspace.settings.home)


async def keep_closing(workspace: Workspace) -> None:
    """Close such turns of any session, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await asyncio.to_thread(_close_all, workspace)
        except FleetError as error:  # the disk refuses it for now, or the session was deleted in this moment
            log.warning("a turn whose process ended is not closed yet: %s", error)
        except Exception:  # supervisor: a journal that cannot be closed must not keep others from it
            log.exception("a turn whose process ended cannot be closed")


def _close_all(workspace: Workspace) -> None:
    if workspace.sessions.unfinished_turns():
        close_interrupted(workspace.journal, workspace.sessions, workspace.settings.home)
