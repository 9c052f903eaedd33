"""One tree of errors, mapped once to HTTP: {"error": {code, message, hint, request_id}}, the status from the class."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from fleet_rlm.errors import FleetError, InternalError, InvalidInput

log = logging.getLogger(__name__)


def error_body(error: FleetError, request_id: str | None = None) -> dict[str, str | None]:
    """The inner object, also for socket frames."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "request_id": request_id}


def error_response(error: FleetError, scope: Scope) -> JSONResponse:
    """The error as a response."""
    body = error_body(error, scope.get("state", {}).get("request_id"))
    return JSONResponse({"error": body}, status_code=error.http_status)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    async def fleet_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, FleetError)
        if error.http_status >= 500:
            log.error("%s %s: %s", request.method, request.url.path, error)
        return error_response(error, request.scope)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(InvalidInput(_one_line(error)), request.scope)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, FleetError):  # raised while FastAPI read the body
            return error_response(error.__cause__, request.scope)
        if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
            return error_response(InvalidInput(_unreadable(error.__cause__)), request.scope)
        return _plain(request, error.status_code, error.headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        shown = InternalError("the workspace failed on this request", hint="its log has the details under request_id")
        return error_response(shown, request.scope)

    app.add_exception_handler(FleetError, fleet_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


def _one_line(error: RequestValidationError) -> str:
    """The first fault: where it is and what is wrong, without the value (it may be a secret)."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "the body is not valid JSON"
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _unreadable(error: Exception) -> str:
    """Why FastAPI could not read a JSON body."""
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8"
    return "a number in the body has too many digits"


def _plain(request: Request, status: int, headers: Mapping[str, str] | None) -> Response:
    phrase = HTTPStatus(status).phrase.lower().removeprefix("requested ")  # of 416, which Python 3.13 calls otherwise
    code = phrase.replace(" ", "_")
    message = f"{phrase}: {request.method} {request.url.path[:200]}"
    body = {"code": code, "message": message, "hint": None, "request_id": request.scope["state"].get("request_id")}
    return JSONResponse({"error": body}, status_code=status, headers=dict(headers or {}))
