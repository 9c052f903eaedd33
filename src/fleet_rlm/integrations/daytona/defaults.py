"""The runtime that an interpreter uses when nobody gave it one."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from platformdirs import user_data_path

from fleet_rlm.integrations.daytona.local_server import local_server
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import DaytonaSettings

_lock = threading.Lock()
_runtime: SandboxRuntime | None = None


def default_source() -> SandboxRuntime:
    """One per process: Daytona when DAYTONA_API_KEY is set, else the local server. It ends with the process."""
    global _runtime
    with _lock:
        if _runtime is None:
            _runtime = SandboxRuntime(_default_settings)
            atexit.register(_runtime.close)
        return _runtime


def _default_settings() -> DaytonaSettings:
    key = os.environ.get("DAYTONA_API_KEY")
    if key:
        return DaytonaSettings.cloud(
            api_key=key, api_url=os.environ.get("DAYTONA_API_URL"), target=os.environ.get("DAYTONA_TARGET")
        )
    home = os.environ.get("FLEET_HOME")
    return local_server(home=Path(home) if home else user_data_path("fleet-rlm", appauthor=False)).settings
