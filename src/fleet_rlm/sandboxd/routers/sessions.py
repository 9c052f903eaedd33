"""Toolbox: sessions, their commands, logs and input."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NoReturn

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from fleet_rlm.sandboxd import sockets
from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict, not_found
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.logs import Stream
from fleet_rlm.sandboxd.process_models import (
    CommandLogs,
    CreateSession,
    SessionDto,
    SessionExecute,
    SessionInput,
    SessionResult,
)
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.sessions import Command, Session, open_session
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.wire import answer, read_json, route

_ID: Final = re.compile(r"[^/\x00-\x1f]{1,128}")
_ENTRYPOINT: Final = "entrypoint"
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_MARKED_SINCE, _JSON_SINCE = (0, 27), (0, 167)


class SessionApi:
    """/process/session and what is below it."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        one = "/process/session/{session}"
        command = f"{one}/command/{{command}}"
        return [
            route("/process/session", GET=self.list, POST=self.create),
            route("/process/session/entrypoint", GET=self.entrypoint),
            route("/process/session/entrypoint/logs", GET=self.entrypoint),
            sockets.socket_route("/process/session/entrypoint/logs", self.follow_entrypoint),
            route(one, GET=self.get, DELETE=self.delete),
            route(f"{one}/exec", POST=self.execute),
            route(command, GET=self.command),
            route(f"{command}/logs", GET=self.logs),
            sockets.socket_route(f"{command}/logs", self.follow),
            route(f"{command}/input", POST=self.input),
        ]

    async def create(self, request: Request) -> Response:
        """Start a session's shell. 409 when the id is taken."""
        with using(self._sandboxes, request) as sandbox:
            name = (await read_json(request, CreateSession, self._bounds.json_body)).session_id
            if not _ID.fullmatch(name) or name == _ENTRYPOINT:
                raise bad_request(f"a session's id has 1 to 128 characters, no '/', and is not {_ENTRYPOINT!r}")
            self._check_free(sandbox, name)
            jail = sandbox.running()
            try:
                session = await open_session(jail, name, self._bounds)
            except JailClosed:
                raise
            except OSError as error:
                raise ApiError(500, f"the session's shell could not be started: {error}") from error
            if name in sandbox.sessions or sandbox.jail is not jail:
                await session.close()
                raise conflict(f"a session {name!r} exists already, or the sandbox has stopped")
            sandbox.sessions[name] = session
            return answer(_dto(session), status=201)

    async def list(self, request: Request) -> Response:
        """Every session, those whose shell has ended included."""
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            return answer([_dto(session) for session in sandbox.sessions.values()])

    async def get(self, request: Request) -> Response:
        """One session."""
        with using(self._sandboxes, request) as sandbox:
            return answer(_dto(_session(sandbox, request)))

    async def delete(self, request: Request) -> Response:
        """End a session's programs and forget it."""
        with using(self._sandboxes, request) as sandbox:
            session = _session(sandbox, request)
            await session.close()
            if sandbox.sessions.get(session.name) is session:
                del sandbox.sessions[session.name]
            return Response(status_code=204)

    async def execute(self, request: Request) -> Response:
        """Give a command: the answer comes at once (202), or when it has ended (200)."""
        with using(self._sandboxes, request) as sandbox:
            session = _session(sandbox, request)
            body = await read_json(request, SessionExecute, self._bounds.json_body)
            if not body.command.strip() or "\0" in body.command:
                raise bad_request("the command is empty, or has a NUL in it")
            self._make_room(sandbox, session)
            command = session.execute(body.command, echo=not body.suppress_input_echo)
            if body.run_async or body.older_async:
                return answer(SessionResult(command.id), status=202)
            if not await sockets.while_connected(_ended(command), request.receive):
                return Response(status_code=499)  # nobody reads it; the command goes on
            log = command.log
            out, err = log.text(Stream.OUT), log.text(Stream.ERR)
            return answer(SessionResult(command.id, log.text(), out, err, command.exit_code))

    async def command(self, request: Request) -> Response:
        """One command; it has an exit code when it has ended."""
        with using(self._sandboxes, request) as sandbox:
            return answer(_command(sandbox, request).dto())

    async def logs(self, request: Request) -> Response:
        """The whole log of a command so far. Clients older than 0.167 get text instead of JSON."""
        with using(self._sandboxes, request) as sandbox:
            log = _command(sandbox, request).log
            version = _version(request.headers.get("x-daytona-sdk-version", ""))
            if version < _JSON_SINCE:
                marked = log.text()
                for stream in Stream if version < _MARKED_SINCE else ():
                    marked = marked.replace(stream.value.decode(), "")
                return PlainTextResponse(marked)
            return answer(CommandLogs(log.text(), log.text(Stream.OUT), log.text(Stream.ERR)))

    async def follow(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The log from its first byte, with stream markers, until the command ends."""
        connection = HTTPConnection(scope)
        with using(self._sandboxes, connection) as sandbox:
            log = _command(sandbox, connection).log
            await sockets.accept(scope, receive, send)
            await sockets.stream(log.follow(), receive, send)

    async def input(self, request: Request) -> Response:
        """A line of input for the running command."""
        with using(self._sandboxes, request) as sandbox:
            session, command = _session(sandbox, request), _command(sandbox, request)
            await session.type(command, (await read_json(request, SessionInput, self._bounds.json_body)).data)
            return Response(status_code=204)

    async def entrypoint(self, request: Request) -> Response:
        """Sandboxes here have none."""
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            _no_entrypoint()

    async def follow_entrypoint(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sandboxes here have none."""
        with using(self._sandboxes, HTTPConnection(scope)) as sandbox:
            sandbox.running()
            _no_entrypoint()

    def _check_free(self, sandbox: Sandbox, name: str) -> None:
        if name in sandbox.sessions:
            raise conflict(f"a session with id {name!r} exists already")
        if len(sandbox.sessions) >= self._bounds.sessions:
            raise conflict(f"there are {self._bounds.sessions} sessions already; delete some first", "LIMIT_REACHED")

    def _make_room(self, sandbox: Sandbox, session: Session) -> None:
        """Forget the oldest ended commands where there are too many, or their logs take too much memory."""
        while len(session.commands) >= self._bounds.session_commands:
            oldest = next(session.oldest_ended(), None)
            if oldest is None:
                raise conflict(f"{len(session.commands)} commands wait in this session already", "LIMIT_REACHED")
            del session.commands[oldest.id]
        total = sum(command.size for one in sandbox.sessions.values() for command in one.commands.values())
        for one in (session, *sandbox.sessions.values()):
            for command in tuple(one.oldest_ended()):
                if total <= self._bounds.session_logs:
                    return
                del one.commands[command.id]
                total -= command.size


async def _ended(command: Command) -> None:
    await command.ended.wait()


def _dto(session: Session) -> SessionDto:
    return SessionDto(session.name, [command.dto() for command in session.commands.values()])


def _session(sandbox: Sandbox, connection: HTTPConnection) -> Session:
    sandbox.running()
    name = connection.path_params["session"]
    if (session := sandbox.sessions.get(name)) is None:
        raise not_found(f"there is no session with id {name[:128]!r}", "SESSION_NOT_FOUND")
    return session


def _command(sandbox: Sandbox, connection: HTTPConnection) -> Command:
    session = _session(sandbox, connection)
    name = connection.path_params["command"]
    if (command := session.commands.get(name)) is None:
        raise not_found(f"session {session.name!r} has no command with id {name[:64]!r}", "COMMAND_NOT_FOUND")
    return command


def _version(text: str) -> tuple[int, int]:
    found = _VERSION.match(text[:40])
    return (int(found[1][:9]), int(found[2][:9])) if found else (0, 0)


def _no_entrypoint() -> NoReturn:
    raise not_found("this sandbox was made without an entrypoint, so it has no entrypoint session", "SESSION_NOT_FOUND")
