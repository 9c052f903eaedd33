"""Toolbox: interpreter contexts and the socket on which code runs in them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from fleet_rlm.sandboxd import sockets
from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.admission import check_env
from fleet_rlm.sandboxd.contexts import Context, Outcome
from fleet_rlm.sandboxd.errors import ApiError, bad_request, conflict, not_found
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.process_models import ContextList, CreateContext, RunCode
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import Settings
from fleet_rlm.sandboxd.wire import answer, read_json, route

_DEFAULT: Final = "default"
_TIMEOUT_S: Final = 600.0  # when a request names none
_TIMEOUT_LIMIT: Final = 86_400.0
_FIRST_FRAME_S: Final = 60.0
_SLOW_S: Final = 60.0  # how long a client may leave a full queue alone
_QUEUE: Final = 256  # frames of at most 64 KiB; when they are full, the code waits for its reader
_TIMED_OUT, _POLICY, _GOING_AWAY = 4008, 1008, 1001
_LOST: Final = "the context's process has ended and its state is lost; the next run starts afresh"


class ContextApi:
    """/process/interpreter and what is below it."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds
        self._runs: set[asyncio.Task[None]] = set()

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/process/interpreter/context", GET=self.list, POST=self.create),
            route("/process/interpreter/context/{context}", DELETE=self.delete),
            sockets.socket_route("/process/interpreter/execute", self.execute),
        ]

    async def create(self, request: Request) -> Response:
        """A context with an interpreter of its own."""
        with using(self._sandboxes, request) as sandbox:
            jail = sandbox.running()
            body = await read_json(request, CreateContext, self._bounds.json_body)
            if body.language not in (None, "", "python"):
                raise bad_request(f"contexts run Python, not {body.language[:40]!r}; other languages: code-run")
            if len(sandbox.contexts) >= self._bounds.contexts:
                raise conflict(f"there are {self._bounds.contexts} contexts already; delete some", "LIMIT_REACHED")
            context = Context(str(uuid.uuid4()), jail, body.cwd or None, self._bounds.context_waiting)
            sandbox.contexts[context.name] = context
            try:
                await context.start()
            except OSError as error:
                sandbox.contexts.pop(context.name, None)
                if isinstance(error, JailClosed):
                    raise
                raise bad_request(f"the context could not be started: {error}") from error
            return answer(context.dto())

    async def list(self, request: Request) -> Response:
        """Every context but the default one."""
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            named = [context.dto() for name, context in sandbox.contexts.items() if name != _DEFAULT]
            return answer(ContextList(named))

    async def delete(self, request: Request) -> Response:
        """End a context and what runs in it."""
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            name = request.path_params["context"]
            if name == _DEFAULT:
                raise bad_request("the default context cannot be deleted")
            if (context := sandbox.contexts.pop(name, None)) is None:
                raise not_found(f"there is no interpreter context with id {name[:128]!r}")
            await context.close()
            return answer({"message": "context deleted"})

    async def execute(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One run per socket: the request as its first frame, output and errors as they come, the end as a code."""
        with using(self._sandboxes, HTTPConnection(scope)) as sandbox:
            sandbox.running()
            await sockets.accept(scope, receive, send)
            try:
                request = await _first_frame(receive)
                if request is None:
                    return
                context = self._context(sandbox, request.context_id)
                timeout = _timeout(request.timeout)
                envs = check_env(request.envs or {}, self._bounds)
            except ApiError as error:
                await sockets.close(send, _POLICY, error.message)
                return
            run = _Run()
            task = asyncio.create_task(run.drive(context, request.code, envs, timeout))
            self._runs.add(task)  # a client that leaves does not end the run
            task.add_done_callback(self._runs.discard)
            try:
                await sockets.while_connected(run.deliver(send), receive)
            finally:
                run.leave()

    def _context(self, sandbox: Sandbox, name: str | None) -> Context:
        name = name or _DEFAULT
        if name == _DEFAULT and name not in sandbox.contexts:
            sandbox.contexts[name] = Context(name, sandbox.running(), None, self._bounds.context_waiting)
        if name not in sandbox.contexts:
            raise not_found(f"there is no interpreter context with id {name[:60]!r}")
        return sandbox.contexts[name]


class _Run:
    """Between a run and its client: a short queue, so that code which prints faster than it is read waits."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(_QUEUE)
        self._here = True
        self._close = (sockets.NORMAL, "")

    async def drive(self, context: Context, code: str, envs: Mapping[str, str], timeout: float | None) -> None:
        """Run the code and leave how the socket is to be closed."""
        try:
            outcome = await context.run(code, envs, timeout, self._put)
        except ApiError as error:
            self._close = (_POLICY, error.message)
        except OSError as error:
            self._close = (_GOING_AWAY, f"the context could not be started: {error}")
        else:
            if outcome is Outcome.LOST:
                self._close = (_GOING_AWAY, _LOST)
            else:
                timed_out = outcome is Outcome.TIMED_OUT
                await self._put({"type": "control", "text": "interrupted" if timed_out else "completed"})
                self._close = (_TIMED_OUT, "execution timed out") if timed_out else self._close
        await self._put(None)

    async def deliver(self, send: Send) -> None:
        """Send frames as they come, then close."""
        while (frame := await self._frames.get()) is not None:
            await send({"type": "websocket.send", "text": msgspec.json.encode(frame).decode()})
        await sockets.close(send, *self._close)

    def leave(self) -> None:
        """The client has gone: from now on output is dropped."""
        self._here = False
        while not self._frames.empty():
            self._frames.get_nowait()

    async def _put(self, frame: Mapping[str, Any] | None) -> None:
        if not self._here:
            return
        try:
            async with asyncio.timeout(_SLOW_S):
                await self._frames.put(frame)
        except TimeoutError:
            self.leave()
            self._close = (_POLICY, "slow consumer")
            self._frames.put_nowait(None)


async def _first_frame(receive: Receive) -> RunCode | None:
    """The request; None when the client left. ApiError 400 for what is none, or does not come."""
    try:
        async with asyncio.timeout(_FIRST_FRAME_S):
            message = await receive()
    except TimeoutError as error:
        raise bad_request("no request came") from error
    if message["type"] != "websocket.receive":
        return None
    data = message.get("bytes") or (message.get("text") or "").encode(errors="surrogatepass")
    try:
        return msgspec.json.decode(data, type=RunCode)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise bad_request(f"the request does not fit: {error}") from error


def _timeout(wanted: float | None) -> float | None:
    """Seconds; None for no limit."""
    if wanted is None:
        return _TIMEOUT_S
    if not 0 <= wanted <= _TIMEOUT_LIMIT:
        raise bad_request(f"timeout must be between 0 and {_TIMEOUT_LIMIT:.0f} seconds")
    return wanted or None
