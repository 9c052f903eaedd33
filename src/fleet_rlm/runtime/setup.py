"""The settings that shape a turn's requests, kept with the turn and put back for its replay.

A replay makes no call, so nothing that a person has forbidden since can come back with them. Whatever goes on live, a
resumed turn or a fork, works under the settings of its own time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import msgspec

from fleet_rlm.runtime.config import Settings
from fleet_rlm.runtime.execution.events import Rules, TurnSetup
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.policy import Policy


def setup_of(settings: Settings, *, attended: bool | None = None) -> TurnSetup:
    """What stands in `turn.accepted`."""
    return TurnSetup(
        variables=settings.variable_mode,
        rules=msgspec.convert(dataclasses.asdict(settings.policy), Rules),
        tools=list(settings.tools),
        models=list(settings.models_allowed),
        judge=(settings.judge_model or "") if settings.verify == "judge" else None,
        attended=attended,
    )


def under(settings: Settings, setup: TurnSetup | None) -> Settings:
    """The settings as they were then; as they are where nothing is known."""
    if setup is None:
        return settings
    return replace(
        settings,
        variable_mode=setup.variables,
        policy=msgspec.convert(msgspec.structs.asdict(setup.rules), Policy),
        tools=tuple(setup.tools),
        models_allowed=tuple(setup.models),
        verify="off" if setup.judge is None else "judge",
        judge_model=setup.judge or None,
    )


def attending(settings: Settings, request: TurnRequest, present: bool) -> tuple[Settings, TurnRequest]:
    """Both with what follows from who is there: who answers, which is who is there now, and what prompts say of them.

    `present`: whether somebody is, where the request does not say it. A replay whose journal tells it asks nobody and
    has the rules that held then.
    """
    if request.setup is not None and request.setup.attended is not None:
        return settings, replace(request, attended=request.setup.attended)
    if not (present if request.present is None else request.present):
        settings = replace(settings, policy=settings.policy.alone())
    told = settings.policy.ask_seconds > 0 if request.attended is None else request.attended
    return settings, replace(request, attended=told)
