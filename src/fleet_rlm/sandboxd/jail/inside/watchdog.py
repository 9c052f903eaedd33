"""The bound on the memory of a whole process tree, by looking: the closer to it or the faster the growth, the
sooner the next look."""

import time

from . import processes

_SLOW_S, _FAST_S, _FLOOR_S = 0.5, 0.05, 0.02
_FILL = 2 << 30  # bytes a second that a machine's processes may touch: the room left lasts at least so long
_QUICK_GROWTH = 32  # a growth of one 32nd of the limit between two looks is quick
_EXACT_S = 0.1  # an exact count of much shared memory takes long, so it is not made more often


class Watchdog:
    """Looks at a tree; kills its largest process when it is over `limit` bytes, all when twice that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last = 0
        self._looked = 0.0
        self.pause_s = _SLOW_S  # until the next look

    def due(self) -> bool:
        """Whether the pause is over."""
        return time.monotonic() - self._looked >= self.pause_s

    def look(self, pids: list[int]) -> int | None:
        """Look once; the bytes that the tree used when it was over its limit, else None."""
        use = processes.resident(pids)
        grown = use - self._last
        self._last = use
        room = max(0, self._limit - use)
        self.pause_s = max(_FLOOR_S, min(_SLOW_S, room / _FILL))
        if grown * _QUICK_GROWTH > self._limit:
            self.pause_s = min(self.pause_s, _FAST_S)
        self._looked = time.monotonic()
        if use <= self._limit:
            return None
        self.pause_s = _EXACT_S
        over = processes.heaviest_over(pids, self._limit)
        if over is None:
            return None
        heaviest, total = over
        for pid in pids if total > 2 * self._limit else [heaviest.pid]:
            processes.kill(pid)
        return total
