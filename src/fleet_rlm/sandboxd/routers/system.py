"""What a sandbox uses, its environment, and the server's own description."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.admission import check_env
from fleet_rlm.sandboxd.disk import tree_size
from fleet_rlm.sandboxd.models import DAEMON_VERSION, timestamp
from fleet_rlm.sandboxd.process_models import (
    MetricPoint,
    MetricSeries,
    MetricsResponse,
    ServerConfig,
    SystemMetrics,
    UpdateEnv,
)
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import GIB, Settings
from fleet_rlm.sandboxd.usage import Usage, usage_of
from fleet_rlm.sandboxd.wire import answer, read_json, route

_NAMES: Final = {
    "daytona.sandbox.cpu.utilization": "cpu_used_pct",
    "daytona.sandbox.cpu.limit": "cpu_count",
    "daytona.sandbox.memory.usage": "mem_used",
    "daytona.sandbox.memory.limit": "mem_total",
    "daytona.sandbox.memory.cache": "mem_cache",
    "daytona.sandbox.filesystem.usage": "disk_used",
    "daytona.sandbox.filesystem.total": "disk_total",
}


class SystemApi:
    """/config and metrics of the control API, /system/metrics and /env of the toolbox."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._settings = settings

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to the API's base."""
        return [
            route("/config", GET=self.config),
            route("/sandbox/{key}/telemetry/metrics", GET=self.series),
        ]

    def toolbox_routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/system/metrics", GET=self.metrics),
            route("/env", POST=self.env),
        ]

    async def config(self, _request: Request) -> Response:
        """What the SDK asks before it reads metrics; nothing of it names another server."""
        toolbox = f"{self._settings.origin}/toolbox"
        return answer(
            ServerConfig(
                version=DAEMON_VERSION,
                proxy_template_url=toolbox,
                proxy_toolbox_url=toolbox,
                dashboard_url=self._settings.origin,
            )
        )

    async def series(self, request: Request) -> Response:
        """The usage of this moment as series of one point each: no history is kept."""
        sandbox = self._sandboxes.find(request.path_params["key"])
        wanted = {name for text in request.query_params.getlist("metricNames") for name in text.split(",") if name}
        now = await self._measure(sandbox)
        points = {name: MetricPoint(now.timestamp, float(getattr(now, field))) for name, field in _NAMES.items()}
        shown = [MetricSeries(name, [point]) for name, point in points.items() if not wanted or name in wanted]
        return answer(MetricsResponse(shown))

    async def metrics(self, request: Request) -> Response:
        """The usage of this moment."""
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            return answer(await self._measure(sandbox))

    async def env(self, request: Request) -> Response:
        """Change the environment of programs that are started from now on, until the sandbox stops."""
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            body = await read_json(request, UpdateEnv, self._settings.bounds.json_body)
            gone = set(body.unset)
            if body.unset_value_prefix:
                prefix = body.unset_value_prefix
                gone |= {name for name, value in jail.environment.items() if value.startswith(prefix)} - set(body.set)
            kept = {name: value for name, value in jail.environment.items() if name not in gone}
            check_env({**kept, **body.set}, self._settings.bounds)
            jail.update_env(body.set, sorted(gone))
            return answer({"message": "environment updated"})

    async def _measure(self, sandbox: Sandbox) -> SystemMetrics:
        record, jail = sandbox.record, sandbox.jail
        used = Usage(0.0, 0) if jail is None or jail.pid == 0 else await usage_of(jail.pid)
        disk = await asyncio.to_thread(tree_size, self._sandboxes.workspace(sandbox))
        now = time.time()
        return SystemMetrics(
            cpu_count=record.cpu,
            cpu_used_pct=round(100 * used.processors / record.cpu, 2),
            mem_total=record.memory * GIB,
            mem_used=used.memory,
            mem_cache=0,
            disk_total=record.disk * GIB,
            disk_used=disk,
            disk_free=max(0, record.disk * GIB - disk),
            timestamp=timestamp(now),
            timestamp_unix=int(now),
        )
