"""`fleet web`: the workspace in the browser."""

from __future__ import annotations

from typing import Annotated

import typer


def web(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; loopback only.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.", show_default="8000")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, open no browser.")] = False,
) -> int:
    """Start the workspace and open it; the printed address holds a key that works once."""
    from fleet_rlm.api.serve import serve
    from fleet_rlm.runtime.config import load_settings

    return serve(load_settings(overrides={"host": host, "port": port}), open_browser=not no_open)
