"""The search of the demo program: plain functions whose source is written into its cells.

They run in a sandbox, so each uses the standard library and its neighbours here and nothing else; the `*_CODE` texts
at the end are what cells get. A text is a str that may know its place (`.path`, `.line`, `.start`), as
those of a sandbox's contexts do.

Ranking is BM25 over lines. A piece of a larger text reports how many lines it has and in how many of them each word
stands, so that the lines of all pieces are scored with the same statistics when they are brought together.
"""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about after all also an and any are as at be been being but by can could did do does doing each find for "
        "from get give had has have he her him his how i if in into is it its just list made make many may me might "
        "more most much must my no not of on or our out please she should show so some such tell than that the their "
        "them then there these they this those to under up us use used uses using was we were what when where which "
        "while who whom whose why will with would you your",
    )
)
MAX_HITS = 60_000  # of one word in one text; a word as common as that says nothing
WINDOW = 800  # characters of a passage in a line that has no end


def question_words(question: str) -> dict[str, list[Any]]:
    """What to look for: stem -> [the word as asked, its weight]. Names weigh more; stop words are left out."""
    found = [word for word in re.findall(r"\w+", question) if len(word) > 1 or word.isdigit()]
    words: dict[str, list[Any]] = {}
    for word in [word for word in found if word.lower() not in STOP_WORDS] or found:
        name = any(not char.isalpha() or char.isupper() for char in word[1:])
        words.setdefault(word.lower() if name else stem(word.lower()), [word, 2.0 if name else 1.0])
    return dict(list(words.items())[:24])


def stem(word: str) -> str:
    """The word without a common English ending, so that `retries` finds `retry` and `retried`."""
    if len(word) < 5 or not word.isalpha():
        return word
    for ending in ("ingly", "ing", "ies", "ied", "edly", "ed", "es", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def texts_of(value: Any, path: str = "text") -> list[tuple[str, str]]:
    """Every text in a nest of lists and dictionaries, with its path."""
    if isinstance(value, str):
        return [(getattr(value, "path", path), value)]
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in texts_of(item, str(key))]
    if isinstance(value, (list, tuple)):
        return [pair for item in value for pair in texts_of(item, path)]
    return []


def split(value: Any, parts: int) -> list[Any]:
    """The texts of `value` in at most `parts` pieces of like size, cut between lines; small files stay together."""
    texts = [text for _, text in texts_of(value) if text]
    left = sum(map(len, texts))
    pieces: list[Any] = []
    group: list[str] = []
    room = left // parts + 1
    for text in texts:
        start = 0
        while start < len(text):
            end = min(start + room, len(text))
            if end < len(text):
                cut = text.find("\n", end - 1) + 1 or len(text)
                end = cut if cut - end < 100_000 else end
            group.append(text[start:end])
            left -= end - start
            room -= end - start
            start = end
            if room <= 0 or not left:
                pieces.append(group if len(group) > 1 else group[0])
                group, room = [], left // max(parts - len(pieces), 1) + 1
    return pieces


def lowered(text: str) -> str:
    """The text in lower case, character for character."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def hits_in(low: str, words: dict[str, list[Any]]) -> dict[int, dict[str, int]]:
    """Start of each passage with any of the words -> how often which. A passage is a line, or a part of a long one."""
    hits: dict[int, dict[str, int]] = {}
    for word in words:
        open_end = len(word) > 3 and word.isalpha()  # a stem; a name or a number must stand alone
        at = low.find(word)
        for _ in range(MAX_HITS):
            if at < 0:
                break
            after = at + len(word)
            if (open_end or after >= len(low) or not low[after].isalnum()) and (at == 0 or not low[at - 1].isalnum()):
                start = low.rfind("\n", 0, at) + 1
                if at - start > WINDOW:
                    start += (at - start) // (WINDOW // 2) * (WINDOW // 2)
                counts = hits.setdefault(start, {})
                counts[word] = counts.get(word, 0) + 1
            at = low.find(word, after)
    return hits


def score_of(counts: dict[str, Any], length: int, stats: dict[str, Any]) -> float:
    """BM25 of a passage of `length` characters, more where more of the words come together."""
    lines = max(stats["lines"], 1)
    average = max(stats["chars"] / lines, 60.0)  # among short lines length says little
    words = stats["words"]
    weights = {w: words[w][1] * math.log(1 + (lines - n + 0.5) / (n + 0.5)) for w, n in stats["df"].items() if n}
    total = sum(weights.values()) or 1.0
    norm = 1.2 * (0.4 + 0.6 * min(length / average, 6.0))
    score = sum(weights.get(word, 0.0) * n * 2.2 / (n + norm) for word, n in counts.items())
    return score * (0.4 + 0.6 * sum(weights.get(word, 0.0) * min(n, 1) for word, n in counts.items()) / total)


def with_neighbours(hits: dict[int, dict[str, int]], low: str, start: int) -> dict[str, float]:
    """The words of a passage, and those of the lines beside it at a part of their worth."""
    counts: dict[str, float] = dict(hits[start])
    before = low.rfind("\n", 0, max(start - 1, 0)) + 1
    after = low.find("\n", start) + 1
    for place in (before, after):
        if place != start:
            for word in hits.get(place, ()):
                counts.setdefault(word, 0.35)
    return counts


def passage(text: str, start: int) -> tuple[int, int]:
    """Beginning and end of what to quote: the line, and in prose the next lines of its sentence."""
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    line = text[start:end]
    if len(line) > WINDOW:
        return start, start + WINDOW
    if not 35 <= len(line) <= 120 or any(char.isdigit() for char in line):
        return start, end  # a row of a log or of code
    for _ in range(3):  # a sentence that was broken into lines goes on in lower case
        stop = text.find("\n", end + 1)
        stop = len(text) if stop < 0 else stop
        following = text[end + 1 : stop].strip()
        if text[start:end].rstrip()[-1:] in ".!?:;,}])\"'|" or not following[:1].islower() or len(following) > 120:
            break
        end = stop
    return start, end


def rank(question: str, value: Any, top: int = 12) -> list[dict[str, Any]]:
    """Statistics of the texts, then their best passages: path, line, start, end, score, text, counts."""
    words = question_words(question)
    stats: dict[str, Any] = {"lines": 0, "chars": 0, "df": dict.fromkeys(words, 0), "words": words}
    found: list[tuple[str, str, str, dict[int, dict[str, int]]]] = []
    for path, source in texts_of(value):
        low = lowered(str(source))
        hits = hits_in(low, words)
        stats["lines"] += low.count("\n") + (low[-1:] not in ("", "\n"))
        stats["chars"] += len(low)
        for counts in hits.values():
            for word in counts:
                stats["df"][word] += 1
        found.append((path, source, low, hits))
    rough = [
        (score_of(counts, 200, stats), number, start)
        for number, (_, _, _, hits) in enumerate(found)
        for start, counts in hits.items()
    ]
    rough.sort(key=lambda item: (-item[0], item[1], item[2]))
    best = [candidate(found[number], start, stats) for _, number, start in rough[: top * 8]]
    best.sort(key=lambda item: -item["score"])
    return [{"stats": stats}, *distinct(best)[:top]]


def candidate(
    found: tuple[str, str, str, dict[int, dict[str, int]]], start: int, stats: dict[str, Any]
) -> dict[str, Any]:
    """One passage with its place and everything that is needed to score it again."""
    path, source, low, hits = found
    counts = with_neighbours(hits, low, start)
    begin, end = passage(str(source), start)
    return {
        "path": path,
        "line": getattr(source, "line", 1) + low.count("\n", 0, begin),
        "start": getattr(source, "start", 0) + begin,
        "end": getattr(source, "start", 0) + end,
        "score": round(score_of(counts, end - begin, stats), 4),
        "text": " ".join(str(source)[begin:end].split())[:WINDOW],
        "counts": counts,
    }


def distinct(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of those that say the same or overlap; `same` counts the others that say exactly the same."""
    kept: list[dict[str, Any]] = []
    for item in items:
        twin = next((other for other in kept if other["text"] == item["text"]), None)
        if twin is not None:
            twin["same"] = twin.get("same", 0) + 1 + item.get("same", 0)
        elif not any(o["path"] == item["path"] and o["start"] < item["end"] and item["start"] < o["end"] for o in kept):
            kept.append(dict(item))
    return kept


def is_ranking(item: Any) -> bool:
    """True for what `rank` gives: a failed child gives something else."""
    return isinstance(item, list) and bool(item) and isinstance(item[0], dict) and "stats" in item[0]


def combine(rankings: list[Any], top: int = 12) -> list[dict[str, Any]]:
    """Rankings of several pieces as one, every passage scored anew with the statistics of all pieces."""
    stats: dict[str, Any] = {"lines": 0, "chars": 0, "df": {}, "words": {}}
    passages: list[dict[str, Any]] = []
    for ranking in rankings:
        part = ranking[0]["stats"]
        stats["lines"] += part["lines"]
        stats["chars"] += part["chars"]
        stats["words"] = stats["words"] or part["words"]
        for word, n in part["df"].items():
            stats["df"][word] = stats["df"].get(word, 0) + n
        passages += ranking[1:]
    for item in passages:
        item["score"] = round(score_of(item["counts"], item["end"] - item["start"], stats), 4)
    passages.sort(key=lambda item: -item["score"])
    return [{"stats": stats}, *distinct(passages)[:top]]


def compose(ranking: list[dict[str, Any]], how: str, notes: list[str]) -> str:
    """The answer in words: what this is, the best passages with their places, and what was searched."""
    stats, passages = ranking[0]["stats"], ranking[1:]
    said = {stats["words"][word][0]: n for word, n in stats["df"].items() if n}
    missing = [word for word, _ in stats["words"].values() if word not in said]
    lines = ["**Demo search program** (not an AI model: it ranks passages by the words of your question)", ""]
    if passages:
        lines.append("The passages that match best:")
        floor = passages[0]["score"] * 0.35
        for number, item in enumerate([p for p in passages[:5] if p["score"] >= floor], 1):
            more = f" *(and {item['same']:,} more that say the same)*" if item.get("same") else ""
            lines += ["", f"{number}. `{item['path']}:{item['line']}` {item['text'][:500]}{more}"]
    else:
        lines.append("No line holds any of the words of your question.")
    counted = ", ".join(f"{word} ({n:,})" for word, n in sorted(said.items(), key=lambda pair: pair[1]))
    lines += ["", f"Searched {stats['chars']:,} characters in {stats['lines']:,} lines, {how}."]
    if counted:
        lines[-1] += f" Lines with a form of each word: {counted}."
    if missing:
        lines[-1] += f" Not found: {', '.join(missing)}."
    lines += [*notes, "For an answer in words, choose a language model in the settings (or `--model`)."]
    return "\n".join(lines)


_RANK = (
    question_words,
    stem,
    texts_of,
    lowered,
    hits_in,
    score_of,
    with_neighbours,
    passage,
    distinct,
    candidate,
    rank,
)
_MERGE = (score_of, distinct, is_ranking, combine, compose)


def code_of(functions: tuple[Callable[..., Any], ...]) -> str:
    """The functions as one piece of code that stands on its own."""
    head = "import math, re\nfrom typing import Any\n"
    if question_words in functions:
        head += (
            f"\nSTOP_WORDS = frozenset({' '.join(sorted(STOP_WORDS))!r}.split())\n"
            f"MAX_HITS = {MAX_HITS}\nWINDOW = {WINDOW}\n"
        )
    return "\n\n\n".join([head.rstrip(), *(inspect.getsource(function).rstrip() for function in functions)])


RANK_CODE = code_of(_RANK)
RANK_AND_MERGE_CODE = code_of((*_RANK, *(function for function in _MERGE if function not in _RANK)))
SPLIT_AND_MERGE_CODE = code_of((texts_of, split, *_MERGE))
