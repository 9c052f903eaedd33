"""What a Python caller passes. A wrong type is refused here, in one line, and not met deep inside or taken for another.

Parameters are `object`: what their callers promise is what is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from fleet_rlm.errors import InvalidInput


def as_text(value: object, what: str) -> str:
    """The value. Errors: InvalidInput when it is no str."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is a {type(value).__name__}", hint="pass a str")
    return value


def as_folder(home: object) -> Path | None:
    """The data folder, also of a str. Errors: InvalidInput."""
    if home is None or isinstance(home, Path):
        return home
    if isinstance(home, str):
        return Path(home)
    raise InvalidInput(f"home is a {type(home).__name__}", hint="pass a Path, or None for the usual data folder")


def as_items(context: object, hint: str) -> list[Any]:
    """Several contexts. Errors: InvalidInput when they are none, or a mapping, of which only the keys would be read."""
    if isinstance(context, Mapping) or not isinstance(context, Iterable):
        raise InvalidInput(f"the context is a {type(cast('object', context)).__name__}", hint=f"{hint}, or several")
    return list(cast("Iterable[Any]", context))
