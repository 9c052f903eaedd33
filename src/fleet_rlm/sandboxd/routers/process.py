"""Toolbox: where a sandbox's home is, and programs run to their end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from fleet_rlm.sandboxd.activity import using
from fleet_rlm.sandboxd.admission import check_env
from fleet_rlm.sandboxd.errors import ApiError, bad_request
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.languages import interpreter
from fleet_rlm.sandboxd.models import CodeRunRequest, ExecuteRequest, ExecuteResponse
from fleet_rlm.sandboxd.pipes import collect, feed
from fleet_rlm.sandboxd.process_models import CodeRunResponse
from fleet_rlm.sandboxd.sandboxes import Sandboxes
from fleet_rlm.sandboxd.sessions import SHELL
from fleet_rlm.sandboxd.settings import WORKSPACE, Settings
from fleet_rlm.sandboxd.wire import answer, read_json, route

_TIMEOUT_LIMIT: Final = 86_400  # seconds
_ARGUMENTS: Final = 1000


class ProcessApi:
    """/process/execute, /process/code-run and the two folders."""

    def __init__(self, sandboxes: Sandboxes, settings: Settings) -> None:
        self._sandboxes = sandboxes
        self._bounds = settings.bounds

    def routes(self) -> Sequence[BaseRoute]:
        """The routes, relative to a sandbox's toolbox."""
        return [
            route("/work-dir", GET=self.folder),
            route("/user-home-dir", GET=self.folder),
            route("/process/execute", POST=self.execute),
            route("/process/code-run", POST=self.code_run),
        ]

    async def folder(self, request: Request) -> Response:
        """The working directory, which is the home as well."""
        with using(self._sandboxes, request) as sandbox:
            sandbox.running()
            return answer({"dir": WORKSPACE})

    async def execute(self, request: Request) -> Response:
        """Run a shell command to its end; standard output and error come merged."""
        with using(self._sandboxes, request) as sandbox:
            body = await read_json(request, ExecuteRequest, self._bounds.json_body)
            if not body.command.strip():
                raise bad_request("the command is empty")
            script = body.command.encode() + b"\n"
            env = check_env(body.envs or {}, self._bounds)
            return answer(await self._run(sandbox.running(), [SHELL], script, env, body.cwd, body.timeout))

    async def code_run(self, request: Request) -> Response:
        """Run a program in a fresh interpreter of its language; nothing here draws charts."""
        with using(self._sandboxes, request) as sandbox:
            body = await read_json(request, CodeRunRequest, self._bounds.json_body)
            arguments = body.argv or []
            if len(arguments) > _ARGUMENTS or any("\0" in argument for argument in arguments):
                raise bad_request(f"argv has at most {_ARGUMENTS} texts without NUL")
            env = check_env(body.envs or {}, self._bounds)
            argv = [*await interpreter(sandbox.running(), body.language), *arguments]
            done = await self._run(sandbox.running(), argv, body.code.encode(), env, None, body.timeout)
            return answer(CodeRunResponse(done.exit_code, done.result))

    async def _run(
        self,
        jail: Jail,
        argv: list[str],
        script: bytes,
        env: dict[str, str],
        cwd: str | None,
        timeout: int | None,
    ) -> ExecuteResponse:
        if timeout is not None and not 0 <= timeout <= _TIMEOUT_LIMIT:
            raise bad_request(f"timeout is {timeout}; it must be between 0 and {_TIMEOUT_LIMIT} seconds")
        try:
            process = await jail.run(argv, env=env, cwd=cwd or None, stdin=True, merge=True)
        except ConnectionError:
            raise  # the jail is gone, which is another matter than a program that cannot be started
        except OSError as error:
            return ExecuteResponse(-1, f"could not be started: {error}")
        typing = asyncio.create_task(feed(process.stdin, script))
        ended = False
        try:
            async with asyncio.timeout(timeout or None):
                output = await collect(process.stdout, self._bounds.exec_output)
                exit_code = await process.wait()
                ended = True
        except TimeoutError as error:
            message = f"the command did not end within {timeout} s and was killed"
            raise ApiError(408, message, code="PROCESS_EXECUTION_TIMEOUT") from error
        finally:
            if not ended:  # after a normal end the group may hold servers that are meant to go on
                process.kill_group(signal.SIGKILL)
            typing.cancel()
            await asyncio.wait((typing,))
            os.close(process.stdout)
        return ExecuteResponse(exit_code, output)
