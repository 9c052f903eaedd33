"""What the routers share: made once by the app's lifespan, reached through `services(request)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from fleet_rlm.api.routers.ws.stream import Feed
from fleet_rlm.api.runtime_services.chat_persistence import ChatPersistence
from fleet_rlm.api.runtime_services.chat_runtime import ChatRuntime
from fleet_rlm.api.runtime_services.diagnostics import Diagnostics
from fleet_rlm.api.runtime_services.ports import ModelsFor, Workspace
from fleet_rlm.api.runtime_services.run_control import RunControl
from fleet_rlm.api.runtime_services.settings import ModelSettingsService
from fleet_rlm.api.runtime_services.turn_again import TurnAgain


@dataclass(frozen=True, slots=True)
class Services:
    """One workspace and everything that serves it."""

    workspace: Workspace
    chat: ChatRuntime
    again: TurnAgain
    control: RunControl
    persistence: ChatPersistence
    diagnostics: Diagnostics
    settings: ModelSettingsService
    feed: Feed


def make_services(workspace: Workspace, feed: Feed, models_for: ModelsFor) -> Services:
    """Wire the services of an open workspace."""
    return Services(
        workspace=workspace,
        chat=ChatRuntime(workspace),
        again=TurnAgain(workspace),
        control=RunControl(workspace),
        persistence=ChatPersistence(workspace),
        diagnostics=Diagnostics(workspace),
        settings=ModelSettingsService(workspace, models_for),
        feed=feed,
    )


def services(connection: HTTPConnection) -> Services:
    """The app's services, for a request or a socket."""
    found = connection.app.state.services
    assert isinstance(found, Services)
    return found


Served = Annotated[Services, Depends(services)]
