"""What is there to be used: providers' keys that are set, and model servers that run on this machine."""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from fleet_rlm.integrations.daytona.threads import DaemonThreads
from fleet_rlm.runtime.config import Settings, Source
from fleet_rlm.runtime.models.providers import PROVIDERS, Provider

DETECT_SECONDS: Final = 0.3
MAX_REPLY: Final = 1 << 20
LOCAL_SERVERS: Final = tuple(PROVIDERS[prefix] for prefix in ("ollama_chat", "lm_studio", "llama_cpp"))
T = TypeVar("T")
_threads = DaemonThreads("fleet-ask")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another place."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP: its status and its JSON (None where it is no JSON object)."""

    status: int
    body: dict[str, Any] | None


def request_json(
    url: str, *, key: str | None = None, body: dict[str, Any] | None = None, timeout_s: float = 10.0
) -> Reply:
    """One GET, or POST of `body`, at most 1 MiB read, no redirect followed, no proxy for this machine.

    `timeout_s` bounds the whole. Errors: OSError when there is no answer.
    """
    return within(timeout_s, lambda: _request(url, key, body, timeout_s))


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives. Longer than that it is left to a thread of its own: a server that sends a byte now and then
    keeps every single wait short. Errors: TimeoutError, and those of `work`."""
    done: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            done.set_exception(error)

    _threads.run(run)
    return done.result(seconds)


def _request(url: str, key: str | None, body: dict[str, Any] | None, timeout_s: float) -> Reply:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConnectionError(f"not an http address: {url}")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 scheme checked above
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1"):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            return Reply(reply.status, _json_object(reply.read(MAX_REPLY)))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, _json_object(error.read(MAX_REPLY)))
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else ConnectionError(str(error.reason)) from None
    except (http.client.HTTPException, UnicodeError) as error:  # UnicodeError: a name that no host can have
        raise ConnectionError(f"no HTTP answer: {type(error).__name__}") from None


def json_value(text: Any) -> Any:
    """What a server's JSON says; None where it is no JSON, or nested too deep to be read."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _json_object(raw: bytes) -> dict[str, Any] | None:
    value = json_value(raw)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def listed_models(reply: Reply) -> dict[str, dict[str, Any]] | None:
    """The models of a `GET /v1/models`, id -> entry; None when the answer is no such list."""
    entries = reply.body.get("data") if reply.status == 200 and reply.body else None
    if not isinstance(entries, list):
        return None
    found: dict[str, dict[str, Any]] = {}
    for entry in cast("list[Any]", entries)[:1000]:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            found[entry["id"]] = cast("dict[str, Any]", entry)
    return found


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A provider's key that is set. `example` is a model to begin with, where one is known."""

    variable: str
    provider: str
    example: str | None
    source: Source


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A model server of this machine that answered. `models` are model strings for `ModelRegistry.resolve`."""

    provider: str
    address: str
    models: tuple[str, ...]


def found_keys(settings: Settings) -> list[FoundKey]:
    """The providers whose key is set, in the order of the providers' table."""
    return [
        FoundKey(variable, provider.name, provider.example, settings.sources.get(f"keys.{variable}", "environment"))
        for provider in PROVIDERS.values()
        for variable in provider.keys
        if variable in settings.keys
    ]


def found_servers(
    servers: Sequence[Provider] = LOCAL_SERVERS, *, timeout_s: float = DETECT_SECONDS
) -> list[FoundServer]:
    """Ask all servers at once for their models. Takes at most `timeout_s`, whatever they do; never raises."""
    answers: queue.SimpleQueue[tuple[int, FoundServer | None]] = queue.SimpleQueue()
    for place, server in enumerate(servers):
        threading.Thread(target=_ask, args=(place, server, timeout_s, answers), daemon=True).start()
    deadline = time.monotonic() + timeout_s
    found: dict[int, FoundServer] = {}
    for _ in servers:
        try:
            place, answer = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            break
        if answer is not None:
            found[place] = answer
    return [found[place] for place in sorted(found)]


def _ask(
    place: int, server: Provider, timeout_s: float, answers: queue.SimpleQueue[tuple[int, FoundServer | None]]
) -> None:
    answer: FoundServer | None = None
    try:
        models = listed_models(request_json(f"{server.address}/models", timeout_s=timeout_s))
        if models is not None and server.address is not None:
            answer = FoundServer(server.name, server.address, tuple(f"{server.prefix}/{name}" for name in models))
    except OSError:
        answer = None
    answers.put((place, answer))
