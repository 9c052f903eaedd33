"""What a server said of a failure, short enough for a line."""

from __future__ import annotations

import re


def first_line(error: Exception, chars: int = 300) -> str:
    """The first line of what the SDK raised; "" where it says nothing."""
    return cut_between_words(str(error).partition("\n")[0], chars)


def cut_between_words(text: str, chars: int) -> str:
    """At most so many characters and a mark of the cut.

    Secrets are taken out later, where all of them are known. One that was cut in two would not be recognised there, so
    none is: a word stays whole or goes.
    """
    if len(text) <= chars:
        return text
    whole = re.sub(r"\S+$", "", text[: chars + 1]).rstrip()
    return f"{whole} …".lstrip()
