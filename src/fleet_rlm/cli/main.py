"""`fleet`: the program's entry. Every failure ends here as one line on stderr and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from fleet_rlm.cli import doctor, replay, run, sandboxd, sessions, web
from fleet_rlm.cli.failures import CANCELLED, report, report_defect, report_usage
from fleet_rlm.cli.streams import StdoutRefused, leave_stdout, make_ready
from fleet_rlm.errors import FleetError, StorageError

# Plain help: rich's help pages cost another 0.3 s at start.
app = typer.Typer(name="fleet", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata  # 30 ms that only this option needs

        print(f"fleet-rlm {importlib.metadata.version('fleet-rlm')}")
        raise typer.Exit


@app.callback()
def root(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Recursive language-model tasks on DSPy and isolated sandboxes: in the terminal and in the browser."""


app.command("run")(run.run)
app.command("replay")(replay.replay)
app.command("web")(web.web)
app.add_typer(sessions.app, name="sessions")
app.add_typer(sandboxd.app, name="sandboxd")
app.command("doctor")(doctor.doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (contracts.md: 0, 1, 2, 3, 4, 130)."""
    make_ready()
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        outcome = app(arguments, prog_name="fleet", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return report_usage(error)
    except FleetError as error:
        return report(error)
    except (typer.Abort, KeyboardInterrupt):
        print("cancelled", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:
        leave_stdout()  # the reader of our output left (`fleet … | head`)
        return 1
    except StdoutRefused as error:
        leave_stdout()
        hint = "an answer is kept all the same: see `fleet sessions`"
        return report(StorageError(f"standard output cannot be written: {error.strerror}", hint=hint))
    except Exception as error:  # noqa: BLE001 - the last supervisor: a defect is one line and a file, not a traceback
        return report_defect(error)
    return outcome if isinstance(outcome, int) else 0


if __name__ == "__main__":
    sys.exit(main())
