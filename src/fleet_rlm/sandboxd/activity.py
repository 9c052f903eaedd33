"""What counts as activity of a sandbox: every toolbox request and socket, for as long as it is open."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TypeVar

from starlette.requests import HTTPConnection, Request

from fleet_rlm.sandboxd.errors import bad_request
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.sandboxes import Sandbox, Sandboxes
from fleet_rlm.sandboxd.settings import Bounds
from fleet_rlm.sandboxd.wire import read_json

_Body = TypeVar("_Body")


def using(sandboxes: Sandboxes, request: HTTPConnection) -> contextlib.AbstractContextManager[Sandbox]:
    """The sandbox that a toolbox request names; it is in use while the block runs. 404 when there is none."""
    counts = request.headers.get("x-daytona-skip-last-activity-update") != "true"
    return in_use(sandboxes, request.path_params["id"], counts=counts)


@contextlib.contextmanager
def in_use(sandboxes: Sandboxes, key: str, *, counts: bool = True) -> Generator[Sandbox]:
    """The sandbox with this id or name, in use while the block runs unless that does not count. 404 for none."""
    sandbox = sandboxes.find(key)
    if counts:
        sandbox.requests += 1
        sandbox.last_activity = sandboxes.now()
    try:
        yield sandbox
    except JailClosed as error:
        message = f"sandbox {sandbox.record.id} stopped while this was being done"
        raise bad_request(message, "SANDBOX_NOT_STARTED") from error
    finally:
        if counts:
            sandbox.requests -= 1
            sandbox.last_activity = sandboxes.now()


async def read_body(sandboxes: Sandboxes, request: Request, kind: type[_Body], bounds: Bounds) -> _Body:
    """The JSON body of a toolbox request, as `read_json`; 404 comes first when there is no such sandbox."""
    sandboxes.find(request.path_params["id"])
    return await read_json(request, kind, bounds.json_body)
