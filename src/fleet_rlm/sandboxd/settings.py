"""What a server is started with, and the sizes that bound every request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

WORKSPACE: Final = "/workspace"  # home and working directory in every jail


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper bounds of what one client may ask for; sizes in bytes unless named otherwise."""

    json_body: int = 8 * MIB
    file_size: int = 1 * GIB  # one uploaded file; a jailed process has the same rlimit
    files_per_upload: int = 1000
    files_per_download: int = 1000
    list_entries: int = 20_000
    exec_output: int = 16 * MIB
    sandboxes: int = 2000
    running: int = 512
    volumes: int = 1000
    volume_size: int = 10 * GIB
    tree_entries: int = 300_000  # files and folders of one workspace or volume
    mounts: int = 32
    terminals: int = 64  # per sandbox, ended ones included
    sessions: int = 32  # per sandbox
    session_commands: int = 1000  # kept per session, the oldest ended ones are forgotten
    session_waiting: int = 100  # commands that wait for the one that runs
    command_log: int = 16 * MIB  # kept of one command
    session_logs: int = 64 * MIB  # of memory per sandbox, above it the oldest ended commands are forgotten
    contexts: int = 16  # interpreter contexts per sandbox
    previews: int = 64  # ports of one sandbox with a preview link
    context_waiting: int = 100  # runs that wait for the one before them in a context
    labels: int = 64
    env_bytes: int = 64 * KIB
    terminal_frame: int = 32 * KIB  # one WebSocket message of output
    terminal_backlog: int = 256  # frames a client may be behind before it is dropped (close 1008)
    terminal_input: int = 64 * KIB  # one WebSocket message of input, above it close 1009
    socket_message: int = 8 * MIB  # one message on any other WebSocket, code to run for instance
    free_disk: int = 256 * MIB  # below it no sandbox is created and no file taken


@dataclass(frozen=True, slots=True)
class Settings:
    """One server: where it listens, its key, its data folder, its warm scripts."""

    host: str
    port: int
    api_key: str
    data: Path
    warm_scripts: tuple[Path, ...] = ()
    allow_degraded: bool = False
    unsafe_no_sandbox: bool = False
    strict: bool = False  # faults on purpose, for tests
    spares: int = 0  # first processes that are begun before anybody asks for a sandbox
    line: int | None = None  # the descriptor of a socket on which the parent asks for direct lines (lines.py)
    bounds: Bounds = Bounds()

    @property
    def origin(self) -> str:
        """`http://host:port` as clients on this machine reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """True for the names and addresses of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
