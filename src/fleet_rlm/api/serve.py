"""`fleet web`: the app on the real engine."""

from __future__ import annotations

import importlib

from fleet_rlm.api.auth.guard import allowed_hosts
from fleet_rlm.api.auth.local import LocalAccess
from fleet_rlm.api.main import create_app
from fleet_rlm.api.runtime_services.ports import Models
from fleet_rlm.api.server import Server, bind, greet, log_to
from fleet_rlm.runtime.config import Settings
from fleet_rlm.runtime.factory import open_workspace


def serve(settings: Settings, *, open_browser: bool = True) -> int:
    """`fleet web`: serve until Ctrl-C. Returns the exit status.

    Errors: InvalidInput for a taken port or an address beyond this machine, and whatever opening the workspace raises.
    """
    with bind(settings.host, settings.port) as listening:
        log_to(settings.make_home())
        port = listening.getsockname()[1]
        access = LocalAccess(settings.home)
        workspace = open_workspace(settings, own_process=True)
        app = create_app(lambda: workspace, access=access, hosts=allowed_hosts(port), models_for=_models_for)
        host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
        address = f"http://{host}:{port}"
        server = Server(app, on_ready=lambda: greet(access, address, open_browser=open_browser))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn raises it again after a graceful end; stopping this way is the normal way
            return 0
    return 0 if server.started else 1


def _models_for(settings: Settings) -> Models:
    """The registry brings DSPy, two seconds of imports: the page must not wait for them."""
    return importlib.import_module("fleet_rlm.runtime.models.registry").ModelRegistry(settings)
