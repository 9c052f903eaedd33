"""Which characters of which context the guest's code has looked at, as spans.

A piece counts as read when something is done with its characters: a method of `str`, iteration, `in`, formatting,
printing, joining, a search. Taking a slice and handing it to a child does not: the child tells what it read.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_SPANS = 1_000  # told of one context after one cell; beyond that the smallest gaps are closed
KEPT_SPANS = 8_192
LINE_GAP = 2  # a line end between two lines that were read one by one


class Reads:
    """Collects spans while `on`. Any thread; a span that two threads note at once may be noted twice."""

    def __init__(self) -> None:
        self.on = False
        self._spans: dict[str, list[list[int]]] = {}

    def note(self, sha256: str, start: int, end: int) -> None:
        """Characters start..end were looked at."""
        if not self.on or start >= end:
            return
        spans = self._spans.setdefault(sha256, [])
        if spans:
            last = spans[-1]
            if last[0] <= start <= last[1]:
                last[1] = max(last[1], end)
                return
        spans.append([start, end])
        if len(spans) > KEPT_SPANS:
            spans[:] = fewer_spans(joined_spans(spans), KEPT_SPANS // 2)

    def drain(self) -> dict[str, list[list[int]]]:
        """What was noted since the last time, in order, at most MAX_SPANS spans for each context."""
        found, self._spans = self._spans, {}
        return {sha: fewer_spans(joined_spans(spans), MAX_SPANS) for sha, spans in found.items()}


def joined_spans(spans: Iterable[list[int]]) -> list[list[int]]:
    """The same characters in order; spans that touch, but for a line end, become one."""
    out: list[list[int]] = []
    for start, end in sorted(map(tuple, spans)):
        if out and start <= out[-1][1] + LINE_GAP:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([start, end])
    return out


def fewer_spans(spans: list[list[int]], most: int) -> list[list[int]]:
    """At most `most` of them: the smallest gaps between them are closed."""
    if len(spans) <= most:
        return spans
    gaps = sorted(range(1, len(spans)), key=lambda n: spans[n][0] - spans[n - 1][1], reverse=True)
    kept = set(gaps[: most - 1])
    out = [list(spans[0])]
    for number in range(1, len(spans)):
        if number in kept:
            out.append(list(spans[number]))
        else:
            out[-1][1] = spans[number][1]
    return out
