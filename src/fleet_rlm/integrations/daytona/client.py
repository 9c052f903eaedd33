"""The Daytona SDK on an event loop of its own thread.

The SDK is loaded on that thread at first use: it takes more than a second, during which a local server starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.settings import DaytonaSettings

if TYPE_CHECKING:
    from daytona import AsyncDaytona

T = TypeVar("T")
CLOSE_S = 5.0
CANCEL_S = 1.0
_DOTENV_NAMES = (
    "DAYTONA_OTEL_ENABLED",
    "DAYTONA_EXPERIMENTAL_OTEL_ENABLED",
    "DAYTONA_TARGET",
    "DAYTONA_JWT_TOKEN",
    "DAYTONA_ORGANIZATION_ID",
    "DAYTONA_HAPPY_EYEBALLS_DELAY",
)


class LoopThread:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self.loop = _quick_loop()
        self._thread = threading.Thread(target=self._run, name="fleet-daytona", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(_cancel_all())  # what was begun meanwhile

    def run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine there and wait for it on this thread.

        Errors: TimeoutError after `timeout` seconds; SandboxUnavailable when the loop is closed.
        """
        try:
            job = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:  # another thread may close it at any moment
            work.close()
            raise SandboxUnavailable("the sandbox runtime is closed") from None
        try:
            return job.result(timeout)
        except TimeoutError:
            job.cancel()
            raise

    def soon(self, work: Callable[..., object], *args: Any) -> None:
        """Have a function called there; nothing once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(work, *args)

    def stop(self) -> None:
        """End the loop; what still runs on it is cancelled."""
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).add_done_callback(self._halt)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self.loop.close()

    def _halt(self, _: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)


def _quick_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one: every call of model-written code passes here twice."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_S)


class DaytonaClient:
    """The SDK's client and a plain HTTP session, made on the loop at first use."""

    def __init__(self, settings: DaytonaSettings) -> None:
        self._settings = settings
        self._sdk: AsyncDaytona | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates a request of ours."""
        return {"Authorization": f"Bearer {self._settings.api_key}", "X-Daytona-Source": "sdk-python-async"}

    def sdk(self) -> AsyncDaytona:
        """The SDK's client (on the loop)."""
        if self._sdk is None:
            self._sdk = _make_sdk(self._settings)
            if self._settings.provider == "local":
                # Its own session looks for a proxy in the environment before each request: wrong for a server on this
                # machine, and a change of threads. 0.226 has no public word for another one.
                self._sdk._shared_session._adopt(self.http())  # pyright: ignore[reportPrivateUsage]
        return self._sdk

    def http(self) -> aiohttp.ClientSession:
        """A session for WebSockets (on the loop)."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=self._settings.provider == "daytona",
            )
        return self._http

    async def close(self) -> None:
        """Close every connection."""
        if self._sdk is not None:
            await self._sdk.close()
        if self._http is not None:
            await self._http.close()


def _make_sdk(settings: DaytonaSettings) -> AsyncDaytona:
    from daytona import AsyncDaytona, DaytonaConfig

    # Every value is given here or below, so that no .env file in the working directory decides anything.
    config = DaytonaConfig(
        api_key=settings.api_key,
        api_url=settings.api_url,
        target=settings.target,
        otel_enabled=False,
        # A local server answers `create` when the sandbox is ready; its state need not be watched.
        use_deprecated_polling=settings.provider == "local",
    )
    with warnings.catch_warnings(), _given_in_the_environment():
        warnings.simplefilter("ignore", DeprecationWarning)
        return AsyncDaytona(config)


@contextlib.contextmanager
def _given_in_the_environment() -> Generator[None]:
    """Make what the SDK would else look up in ./.env (tracing, region, other identities) known as empty."""
    absent = [name for name in _DOTENV_NAMES if name not in os.environ]
    os.environ.update(dict.fromkeys(absent, ""))
    try:
        yield
    finally:
        for name in absent:
            os.environ.pop(name, None)


def load_sdk() -> None:
    """Import the SDK, which takes a second, before somebody waits for it."""
    import daytona

    _ = daytona.AsyncDaytona
