"""Text of models and files made harmless for a terminal: an answer must not move the cursor or set a title."""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = {
    **{code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"},
    # Directional overrides can make a line read as something else.
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"),
    ord("\r"): "",
}


def printable(text: str) -> str:
    """The text without terminal control sequences; lines and tabs stay."""
    return text.translate(_CONTROLS)


def one_line(text: str, width: int = 1000) -> str:
    """The text as one printable line of at most `width` characters."""
    line = " ".join(printable(text[: 4 * width]).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def count(number: int, noun: str) -> str:
    """`1 call`, `1,204 calls`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """`4.2 s` below a minute, then `1:05`, then `1:01:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
