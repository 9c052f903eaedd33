"""The app factory: one open workspace behind HTTP and a WebSocket, and the built page beside them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from fleet_rlm.api import failures
from fleet_rlm.api.auth.guard import Guard
from fleet_rlm.api.auth.local import LocalAccess
from fleet_rlm.api.envelope import Envelope
from fleet_rlm.api.page import Page, page_router
from fleet_rlm.api.routers import (
    again,
    artifacts,
    blobs,
    contexts,
    limits,
    memory,
    runs,
    sessions,
    settings,
    status,
    turns,
)
from fleet_rlm.api.routers.ws import endpoint
from fleet_rlm.api.routers.ws.stream import Feed
from fleet_rlm.api.runtime_services.leftovers import keep_closing
from fleet_rlm.api.runtime_services.ports import ModelsFor, Workspace
from fleet_rlm.api.schemas.values import ErrorAnswer
from fleet_rlm.api.server import Application
from fleet_rlm.api.services import make_services

__all__ = ["create_api", "create_app"]

log = logging.getLogger(__name__)

OpenWorkspace = Callable[[], Workspace]


def create_app(
    open_workspace: OpenWorkspace,
    *,
    access: LocalAccess,
    hosts: frozenset[str],
    models_for: ModelsFor,
    page: Page | None = None,
    socket_limits: endpoint.SocketLimits | None = None,
) -> Application:
    """The whole ASGI app: the workspace is opened when it starts and closed when it ends.

    `hosts` are the Host headers that it answers (see guard.allowed_hosts).
    """
    shown = page or Page()
    api = create_api()
    api.include_router(page_router(shown, access))
    api.state.socket_limits = socket_limits or endpoint.SocketLimits()
    api.state.sockets = set()
    api.router.lifespan_context = _lifespan(open_workspace, models_for)
    guarded: ASGIApp = Guard(api, access=access, hosts=hosts)
    return Application(Envelope(guarded, policy=shown.policy), api)


def create_api() -> FastAPI:
    """The routes alone: what openapi.yaml is made from."""
    api = FastAPI(
        title="fleet-rlm",
        version="1",
        description="Sessions, turns and their journal. Events have their own schema: events.schema.json.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}},
    )
    failures.install(api)
    v1 = APIRouter(prefix="/api/v1")
    for module in (
        status,
        sessions,
        turns,
        again,
        runs,
        limits,
        memory,
        contexts,
        artifacts,
        blobs,
        settings,
        endpoint,
    ):
        v1.include_router(module.router)
    api.include_router(status.root)
    api.include_router(v1)
    return api


def _lifespan(open_workspace: OpenWorkspace, models_for: ModelsFor):
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncGenerator[None]:
        workspace = await asyncio.to_thread(open_workspace)
        feed = Feed(workspace.journal, workspace.sessions)
        api.state.services = make_services(workspace, feed, models_for)
        warming = asyncio.create_task(_prepare(workspace))
        closing = asyncio.create_task(keep_closing(workspace))
        try:
            yield
        finally:
            feed.close()
            closing.cancel()
            api.state.services.diagnostics.close()
            await warming
            await asyncio.to_thread(workspace.close)

    return lifespan


async def _prepare(workspace: Workspace) -> None:
    """Warm up beside the first requests; what fails here fails again, with its reason, when it is needed."""
    try:
        await asyncio.to_thread(workspace.prepare, ahead=True)
    except Exception:  # supervisor: warming up must never keep the page from opening
        log.exception("warming up failed")
