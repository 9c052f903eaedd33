"""Typed failures and the JSON envelope from which the Daytona SDK chooses its exception classes."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec

API: Final = "DAYTONA_API"
DAEMON: Final = "DAYTONA_DAEMON"

_MESSAGE_LIMIT: Final = 2000  # characters of a message; a hostile path or name cannot blow up a reply


class ServerError(Exception):
    """A start of the server that cannot succeed: one line for a person, a code for a program, an exit status."""

    def __init__(self, message: str, *, code: str, status: int = 2) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class ApiError(Exception):
    """An answer that is an error: HTTP status, machine code and one clear line."""

    def __init__(self, status: int, message: str, *, code: str | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message[:_MESSAGE_LIMIT]
        self.code = code or HTTPStatus(status).name
        self.close = close  # the request's body was not read, so the connection cannot go on


def bad_request(message: str, code: str = "BAD_REQUEST") -> ApiError:
    """400 with one line of what was wrong."""
    return ApiError(400, message, code=code)


def not_found(message: str, code: str = "NOT_FOUND") -> ApiError:
    """404 with one line of what is missing."""
    return ApiError(404, message, code=code)


def conflict(message: str, code: str = "CONFLICT") -> ApiError:
    """409 with one line of what it collides with."""
    return ApiError(409, message, code=code)


def not_implemented(what: str) -> ApiError:
    """501 for what a server on one machine does not have."""
    return ApiError(501, f"{what}: this sandbox server does not have it", code="NOT_IMPLEMENTED")


def envelope(error: ApiError, *, path: str, method: str) -> bytes:
    """The error as JSON bytes; `errors` is what the SDK's upload calls read, the rest what all others read."""
    body = {
        "statusCode": error.status,
        "error": HTTPStatus(error.status).phrase,
        "message": error.message,
        "errors": [error.message],
        "code": error.code,
        "source": DAEMON if path.startswith("/toolbox/") else API,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "path": path[:_MESSAGE_LIMIT],
        "method": method,
    }
    return msgspec.json.encode(body)


_BAD_PATH: Final = frozenset(
    {errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTEMPTY, errno.EXDEV}
)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def from_os_error(error: OSError, path: str) -> ApiError:
    """The file error of a jailed process as the daemon's error of the same meaning."""
    reason = error.strerror or "failed"
    message = f"{path}: {reason.lower()}"
    if isinstance(error, FileNotFoundError):
        return ApiError(404, message, code="FILE_NOT_FOUND")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return ApiError(403, message, code="FILE_ACCESS_DENIED")
    if isinstance(error, FileExistsError):
        return ApiError(409, message, code="FILE_EXISTS")
    if error.errno in _BAD_PATH:
        return ApiError(400, message, code="INVALID_FILE_PATH")
    if error.errno in _FULL:
        return ApiError(507, message, code="NO_SPACE")
    return ApiError(500, message, code="FILE_READ_FAILED")
