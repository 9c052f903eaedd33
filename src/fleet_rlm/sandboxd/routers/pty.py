"""Toolbox: terminals, over plain requests and over WebSockets."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from fleet_rlm.sandboxd import sockets
from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.admission import check_env
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict, not_found
from fleet_rlm.sandboxd.models import PtyCreate, PtyList, PtySize
from fleet_rlm.sandboxd.relay import relay
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import WORKSPACE, Settings
from fleet_rlm.sandboxd.terminal import Terminal
from fleet_rlm.sandboxd.wire import answer, read_json, route

_ENVS: Final = "X-Daytona-Pty-Envs~"
_WARM: Final = "SANDBOXD_WARM_SCRIPT"
_ID: Final = re.compile(r"[^/\x00-\x1f]{1,128}")
_SIDE_LIMIT: Final = 1000  # columns or rows


class PtyApi:
    """/process/pty and what is below it."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        one = "/process/pty/{pty}"
        return [
            sockets.socket_route("/process/pty/create-connect", self.create_connect),
            sockets.socket_route(f"{one}/connect", self.connect),
            route("/process/pty", GET=self.list, POST=self.create),
            route(one, GET=self.get, DELETE=self.delete),
            route(f"{one}/resize", POST=self.resize),
        ]

    async def create_connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start a terminal and attach to it in one upgrade; a failure is the upgrade's HTTP status."""
        connection = HTTPConnection(scope)
        query = connection.query_params
        wanted = PtyCreate(
            id=query.get("id", ""),
            cwd=query.get("cwd") or None,
            envs=_envs(scope["subprotocols"]),
            cols=_side(query.get("cols", "80")),
            rows=_side(query.get("rows", "24")),
        )
        with using(self._sandboxes, connection) as sandbox:
            await self._accept_when_ready(scope, receive)
            terminal = await self._start(sandbox, wanted)
            await relay(terminal, scope, receive, send, self._bounds.terminal_input)

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Attach to a terminal; one that has ended tells its exit."""
        connection = HTTPConnection(scope)
        with using(self._sandboxes, connection) as sandbox:
            sandbox.running()
            terminal = _terminal(sandbox, connection)
            await self._accept_when_ready(scope, receive)
            await relay(terminal, scope, receive, send, self._bounds.terminal_input)

    async def _accept_when_ready(self, scope: Scope, receive: Receive) -> None:
        message = await receive()
        if message["type"] != "websocket.connect":
            raise bad_request(f"unexpected {message['type']} on {scope['path']}")

    async def create(self, request: Request) -> Response:
        """Start a terminal without attaching to it, the way of older SDKs."""
        with using(self._sandboxes, request) as sandbox:
            body = await read_json(request, PtyCreate, self._bounds.json_body)
            body.cols, body.rows = _side(str(body.cols)), _side(str(body.rows))
            (await self._start(sandbox, body)).start()
            return answer({"sessionId": body.id}, status=201)

    async def list(self, request: Request) -> Response:
        """Every terminal of the sandbox, ended ones included."""
        with using(self._sandboxes, request) as sandbox:
            return answer(PtyList([terminal.info() for terminal in sandbox.terminals.values()]))

    async def get(self, request: Request) -> Response:
        """One terminal."""
        with using(self._sandboxes, request) as sandbox:
            return answer(_terminal(sandbox, request).info())

    async def delete(self, request: Request) -> Response:
        """Kill a terminal's processes and forget it."""
        with using(self._sandboxes, request) as sandbox:
            terminal = _terminal(sandbox, request)
            await terminal.kill()
            sandbox.terminals.pop(terminal.name, None)
            return answer({"message": "terminal deleted"})

    async def resize(self, request: Request) -> Response:
        """Change the size of a live terminal. 410 when it has ended."""
        with using(self._sandboxes, request) as sandbox:
            body = await read_json(request, PtySize, self._bounds.json_body)
            terminal = _terminal(sandbox, request)
            cols, rows = _side(str(body.cols)), _side(str(body.rows))
            if terminal.ended.is_set():
                raise ApiError(410, f"terminal {terminal.name!r} has ended", code="SESSION_ENDED")
            terminal.resize(cols, rows)
            return answer(terminal.info())

    async def _start(self, sandbox: Sandbox, wanted: PtyCreate) -> Terminal:
        jail = sandbox.running()
        if not _ID.fullmatch(wanted.id):
            raise bad_request("a terminal's id has 1 to 128 characters and no '/'")
        envs = check_env(wanted.envs or {}, self._bounds)
        self._make_room(sandbox, wanted.id)
        warm = envs.get(_WARM, "")
        try:
            pty = await jail.pty(
                None,
                warm_script=warm if self._sandboxes.has_script(warm) else None,
                env=envs,
                cwd=wanted.cwd,
                cols=wanted.cols,
                rows=wanted.rows,
            )
        except ConnectionError:
            raise
        except OSError as error:
            raise bad_request(f"the terminal could not be started: {error}") from error
        if sandbox.terminals.get(wanted.id) is not None or sandbox.jail is not jail:
            pty.kill_group(9)
            pty.close()
            raise conflict(f"a terminal {wanted.id!r} exists already, or the sandbox has stopped")
        terminal = Terminal(
            pty,
            name=wanted.id,
            cwd=wanted.cwd or WORKSPACE,
            envs=envs,
            cols=wanted.cols,
            rows=wanted.rows,
            bounds=self._bounds,
        )
        sandbox.terminals[wanted.id] = terminal
        return terminal

    def _make_room(self, sandbox: Sandbox, name: str) -> None:
        """Check that the id is free, forgetting ended terminals where that is needed."""
        known = sandbox.terminals.get(name)
        if known is not None and not known.ended.is_set():
            raise conflict(f"a terminal with id {name!r} exists already")
        sandbox.terminals.pop(name, None)
        if len(sandbox.terminals) >= self._bounds.terminals:
            ended = next((t for t in sandbox.terminals.values() if t.ended.is_set()), None)
            if ended is None:
                raise conflict(f"there are {self._bounds.terminals} terminals already", "LIMIT_REACHED")
            del sandbox.terminals[ended.name]


def _terminal(sandbox: Sandbox, connection: HTTPConnection) -> Terminal:
    name = connection.path_params["pty"]
    if (terminal := sandbox.terminals.get(name)) is None:
        raise not_found(f"there is no terminal with id {name[:128]!r}")
    return terminal


def _side(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= _SIDE_LIMIT:
        raise bad_request(f"cols and rows are numbers from 1 to {_SIDE_LIMIT}")
    return int(text)


def _envs(subprotocols: Sequence[str]) -> dict[str, str] | None:
    """The environment that travels as a subprotocol: base64url of a JSON object, without padding."""
    for protocol in subprotocols:
        if protocol.startswith(_ENVS):
            text = protocol.removeprefix(_ENVS)
            try:
                data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
                return msgspec.json.decode(data, type=dict[str, str])
            except (binascii.Error, msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise bad_request("the terminal's environment is not base64url JSON of texts") from error
    return None
