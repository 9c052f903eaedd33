"""The local server as a child process: one per process and data folder, several processes beside each other."""

import subprocess
import sys
from pathlib import Path

from fleet_rlm.integrations.daytona.local_server import local_server

OTHER = """
import sys
from pathlib import Path
from fleet_rlm.integrations.daytona.local_server import local_server
server = local_server(home=Path(sys.argv[1]))
print(server.settings.api_url, flush=True)
server.close()
"""


def test_a_second_process_on_the_same_home_gets_a_server_of_its_own(tmp_path: Path) -> None:
    mine = local_server(home=tmp_path)
    try:
        again = local_server(home=tmp_path)
        assert again.settings == mine.settings
        again.close()
        other = subprocess.run(
            [sys.executable, "-c", OTHER, str(tmp_path)], capture_output=True, text=True, timeout=100
        )
        assert other.stdout.startswith("http://127.0.0.1:"), other.stderr
        assert other.stdout.strip() != mine.settings.api_url
    finally:
        mine.close()


def test_what_is_asked_of_the_server_is_asked(tmp_path: Path) -> None:
    plain, degraded = local_server(home=tmp_path / "a"), local_server(home=tmp_path / "a", allow_degraded=True)
    try:
        assert plain.settings.api_url != degraded.settings.api_url, "two servers, for two wishes"
        # Namespaces are to be had here, and allowing less does not make it less.
        assert plain.settings.isolation == degraded.settings.isolation == "namespaces"
    finally:
        plain.close()
        degraded.close()
