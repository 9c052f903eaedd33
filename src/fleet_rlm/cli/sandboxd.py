"""`fleet sandboxd serve`: the sandbox server of this machine, in this process."""

from __future__ import annotations

import typer

app = typer.Typer(help="The Daytona-compatible sandbox server for one machine.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """The Daytona-compatible sandbox server for one machine."""


# The server parses its own arguments, `--help` included: it is also started without this program.
@app.command(
    "serve", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def serve(context: typer.Context) -> int:
    """Serve until stopped; the first line of stdout is {"api_url","api_key","isolation"} (`serve --help`: options)."""
    from fleet_rlm.integrations.daytona.machine import memory, processes
    from fleet_rlm.integrations.daytona.settings import local_spares
    from fleet_rlm.sandboxd.__main__ import main

    spares = local_spares(memory(), processes())
    return main(["serve", "--spares", str(spares), *context.args])
