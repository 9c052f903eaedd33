"""Doing a request again when that is safe: refused for now, failed at the server, or the connection was lost.

Only for requests whose repetition does no harm: reads, deletions, whole-file writes, and creations that carry a
label of their own by which the first try can be found. Code in a sandbox is never sent twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from daytona import DaytonaError

T = TypeVar("T")
DELAYS_S = (0.2, 0.5, 1.5, 4.0)  # upper bounds; the least is half of each, so that many clients spread out
LONGEST_WAIT_S = 20.0  # for a server that names a time itself
PASSING = frozenset({429, 500, 502, 503, 504})


def is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed in a moment. A time-out is not passing: it took its time already."""
    from daytona import DaytonaConnectionError, DaytonaTimeoutError

    if isinstance(error, DaytonaTimeoutError):
        return getattr(error, "status_code", None) == 504
    if isinstance(error, DaytonaConnectionError | ConnectionError):
        return True
    return getattr(error, "status_code", None) in PASSING


async def retried(request: Callable[[], Awaitable[T]], *, give_up_s: float = 30.0) -> T:
    """The answer of `request`, done again with jitter while its failure is passing; else that failure.

    `give_up_s`: no try begins later than this many seconds after the first.
    """
    from daytona import DaytonaError

    give_up = time.monotonic() + give_up_s
    for delay in DELAYS_S:
        try:
            return await request()
        except (DaytonaError, OSError) as error:
            wait = max(asked_wait(error), delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
            if not is_passing(error) or time.monotonic() + wait > give_up:
                raise
        await asyncio.sleep(wait)
    return await request()


def asked_wait(error: DaytonaError | OSError) -> float:
    """Seconds that the server asks to wait, by Retry-After or a throttler's own Retry-After-*; 0 when it does not."""
    headers = getattr(error, "headers", None) or {}
    waits = [
        float(value)
        for name, value in headers.items()
        if name.lower().startswith("retry-after") and str(value).replace(".", "", 1).isdigit()
    ]
    return min(max(waits, default=0.0), LONGEST_WAIT_S)
