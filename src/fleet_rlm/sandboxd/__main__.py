"""Command line of the sandbox server: `python -m fleet_rlm.sandboxd serve`."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from platformdirs import user_data_path

from fleet_rlm.sandboxd.errors import ServerError
from fleet_rlm.sandboxd.serve import MakeWarm, make_warm, run
from fleet_rlm.sandboxd.settings import Bounds, Settings, is_loopback

_KEY_VARIABLE: Final = "SANDBOXD_API_KEY"
_KEY_MINIMUM: Final = 8


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Wrong usage in the same form as every other failure to start."""
        raise ServerError(f"{message}; see --help", code="USAGE")


def main(argv: Sequence[str] | None = None, warm: MakeWarm = make_warm) -> int:
    """Serve until told to end. 0 when stopped, 1 without isolation, 2 when it cannot start otherwise."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="sandboxd %(levelname)s %(message)s")
    try:
        arguments = _parser().parse_args(argv)
        run(settings_from(arguments), parent_pipe=arguments.parent_pipe, warm=warm)
    except ServerError as error:
        print(f"sandboxd: {error}", file=sys.stderr)
        print(msgspec.json.encode({"error": str(error), "code": error.code}).decode(), flush=True)
        return error.status
    return 0


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Checked settings out of the command line. ServerError for what cannot be."""
    host = "127.0.0.1" if arguments.host == "localhost" else arguments.host
    if not is_loopback(host):
        raise ServerError(
            f"--host {arguments.host}: only a loopback address such as 127.0.0.1 is possible", code="HOST_NOT_LOOPBACK"
        )
    if not 0 <= arguments.port <= 65535:
        raise ServerError(f"--port {arguments.port}: a port is between 0 and 65535", code="USAGE")
    if not 0 <= arguments.spares <= Bounds().running:
        raise ServerError(f"--spares {arguments.spares}: between 0 and {Bounds().running}", code="USAGE")
    key = arguments.api_key or os.environ.pop(_KEY_VARIABLE, "") or secrets.token_urlsafe(32)
    if len(key) < _KEY_MINIMUM or not key.isascii() or not key.isprintable() or " " in key:
        raise ServerError(f"the API key needs at least {_KEY_MINIMUM} ASCII characters, no spaces", code="USAGE")
    scripts = tuple(Path(script).absolute() for script in arguments.warm_script)
    for script in scripts:
        if not script.is_file():
            raise ServerError(f"--warm-script {script}: there is no such file", code="USAGE")
    return Settings(
        host=host,
        port=arguments.port,
        api_key=key,
        data=(arguments.data or default_data()).resolve(),
        warm_scripts=scripts,
        allow_degraded=arguments.allow_degraded,
        unsafe_no_sandbox=arguments.unsafe_no_sandbox,
        strict=arguments.strict,
        spares=arguments.spares,
        line=_socket(arguments.line),
    )


def _socket(fd: int | None) -> int | None:
    """Checked: the descriptor of a socket that the parent left open. It goes to none of this server's own children."""
    if fd is None:
        return None
    if fd < 3 or not _is_socket(fd):
        raise ServerError(f"--line {fd}: there is no open socket with this number", code="USAGE")
    os.set_inheritable(fd, False)
    return fd


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def default_data() -> Path:
    """`FLEET_HOME`, else the platform's folder for user data."""
    home = os.environ.get("FLEET_HOME")
    return Path(home) if home else user_data_path("fleet-rlm")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sandboxd", description="A sandbox server for this machine that speaks the Daytona API.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    serve = commands.add_parser("serve", help="serve until SIGTERM")
    serve.add_argument("--host", default="127.0.0.1", help="loopback address to listen on")
    serve.add_argument("--port", type=int, default=0, help="0 takes a free one")
    serve.add_argument("--api-key", help=f"default: ${_KEY_VARIABLE}, else a random one")
    serve.add_argument("--data", type=Path, help="folder for sandboxes and volumes; default: $FLEET_HOME or user data")
    serve.add_argument("--warm-script", action="append", default=[], metavar="PATH", help="Python file to load ahead")
    serve.add_argument(
        "--allow-degraded", action="store_true", help="where namespaces cannot be had, Landlock alone will do (weaker)"
    )
    serve.add_argument("--unsafe-no-sandbox", action="store_true", help="run code without isolation; for experts")
    serve.add_argument(
        "--spares",
        type=int,
        default=0,
        metavar="N",
        help="sandboxes to begin before anybody asks for one; default: %(default)s",
    )
    serve.add_argument("--strict", action="store_true", help="with faults on purpose, to test clients")
    serve.add_argument("--line", type=int, metavar="FD", help="socket on which the parent asks for direct lines")
    serve.add_argument("--parent-pipe", action="store_true", help="end when standard input ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
