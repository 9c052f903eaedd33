"""The one error tree.

    FleetError(message, code, hint, retryable)
     |- UserError ............................. the request cannot be served as it stands
     |   |- InvalidInput ...................... 400, exit 2
     |   |- NotFound .......................... 404, exit 2
     |   |- Conflict .......................... 409, exit 2
     |   |- TooLarge .......................... 413, exit 2
     |   `- NotConfigured ..................... 409, exit 4   (no model, no key)
     |- AuthError
     |   |- Unauthenticated ................... 401
     |   `- Forbidden ......................... 403
     |       `- Denied ........................ a person, or the rule in their place, did not allow it
     |- DependencyError ....................... something outside failed
     |   |- ModelError ........................ 502, exit 1
     |   |   |- ModelUnavailable .............. server down, time-out, 5xx (retryable)
     |   |   |- ModelAuthError ................ wrong key
     |   |   |- ModelRefused .................. the provider refused the request (unknown model, bad parameter)
     |   |   `- ContextTooLong ................ the prompt exceeds the model's window
     |   |- StorageError ...................... 503, exit 1: the database or the disk refused (retryable)
     |   `- SandboxError ...................... 502, exit 1
     |       |- NoIsolation ................... no jail can be had on this machine, exit 1
     |       |- SandboxUnavailable ............ the server cannot be reached or gives no sandbox (retryable)
     |       `- SandboxLost ................... a running sandbox is gone, its variables with it
     `- InternalError ......................... 500, exit 1: a defect of ours

    TreeStopped(BaseException) ................ ends a whole tree of runs: limit or cancel. Not an Exception, so
                                                that neither guest code nor a library can swallow it.

Codes are stable strings. HTTP status and exit status stand on the classes, so that every edge maps them once.
A message is one line for a person: what was wrong and where; the hint says what to do. Neither holds secrets.
"""

from __future__ import annotations

from typing import ClassVar, Literal

StopReason = Literal["limit", "cancelled"]


class FleetError(Exception):
    """Base of everything this package raises on purpose."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UserError(FleetError):
    """The request cannot be served as it stands; nothing was done."""

    code = "bad_request"
    http_status = 400
    exit_status = 2


class InvalidInput(UserError):
    """A value is missing, malformed or out of range."""

    code = "invalid_input"


class NotFound(UserError):
    """The thing named does not exist (or is not visible to this principal)."""

    code = "not_found"
    http_status = 404


class Conflict(UserError):
    """The request contradicts the present state, or repeats an id with another body."""

    code = "conflict"
    http_status = 409


class TooLarge(UserError):
    """An input exceeds a size limit."""

    code = "too_large"
    http_status = 413


class NotConfigured(UserError):
    """Something must be set up first: usually a model or its key."""

    code = "not_configured"
    http_status = 409
    exit_status = 4


class AuthError(FleetError):
    """Who asks is unknown or not allowed."""

    code = "auth"
    http_status = 401


class Unauthenticated(AuthError):
    """No valid cookie, token or ticket."""

    code = "unauthenticated"


class Forbidden(AuthError):
    """Known, but not allowed; also a wrong Origin or Host header."""

    code = "forbidden"
    http_status = 403


class Denied(Forbidden):
    """A person, or the rule that stands in for one, did not allow it."""

    code = "denied"


class DependencyError(FleetError):
    """Something outside this process failed."""

    code = "dependency"
    http_status = 502


class ModelError(DependencyError):
    """A language-model request failed."""

    code = "model_error"


class ModelUnavailable(ModelError):
    """The model server is down, overloaded or too slow."""

    code = "model_unavailable"
    retryable = True


class ModelAuthError(ModelError):
    """The provider refused the key."""

    code = "model_auth"


class ModelRefused(ModelError):
    """The provider refused the request: unknown model or bad parameter."""

    code = "model_refused"


class ContextTooLong(ModelError):
    """The prompt exceeds the model's window."""

    code = "context_too_long"


class StorageError(DependencyError):
    """The database or the disk refused a write or a read: full, locked or broken."""

    code = "storage"
    http_status = 503
    retryable = True


class SandboxError(DependencyError):
    """A sandbox could not do what was asked."""

    code = "sandbox_error"


class NoIsolation(SandboxError):
    """No jail can be had on this machine, and nobody typed the unsafe flag."""

    code = "no_isolation"


class SandboxUnavailable(SandboxError):
    """The sandbox server cannot be reached or gave no sandbox."""

    code = "sandbox_unavailable"
    retryable = True


class SandboxLost(SandboxError):
    """A running sandbox is gone, and its variables with it."""

    code = "sandbox_lost"


class InternalError(FleetError):
    """A defect of ours."""

    code = "internal"


class TreeStopped(BaseException):
    """Ends a whole tree of runs through every `except Exception` of guests and libraries.

    `reason` is "limit" (then `limit` names the unit: calls, tokens, ...) or "cancelled".
    """

    def __init__(self, reason: StopReason, limit: str | None = None) -> None:
        super().__init__(limit or reason)
        self.reason: StopReason = reason
        self.limit = limit
