"""How the text of a setting is read. Each reader raises ValueError with what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from fleet_rlm.runtime.content.addresses import normal_host
from fleet_rlm.runtime.execution.events import Mode
from fleet_rlm.runtime.execution.requests import AtLimit
from fleet_rlm.runtime.tool_groups import TOOL_GROUPS

VariableMode: TypeAlias = Literal["auto", "always", "never"]
"""When a run works through REPL variables: above a size of its input, always, or never."""
Verification = Literal["off", "judge"]


class Secret:
    """A value that never shows itself: `repr` and `str` are stars, `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: only for the request that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


def one_line(value: object) -> str:
    """A text of one line."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a non-empty text")
    if len(value) > 4096 or any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("expected one line of at most 4096 characters")
    return value.strip()


def model_string(value: object) -> str:
    """provider/model."""
    name = one_line(value)
    if "/" not in name or any(char.isspace() for char in name):
        raise ValueError(f"expected provider/model such as openai/gpt-5-mini, got {name!r}")
    return name


def model_list(value: object) -> tuple[str, ...]:
    """Model strings: a list, or a text with commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"expected model strings such as openai/gpt-5-mini, with commas between them, got {value!r}")
    given = cast("list[object]", items)
    return tuple(
        dict.fromkeys(model_string(item) for item in given if not (isinstance(item, str) and not item.strip()))
    )


def verification(value: object) -> Verification:
    """Whether answers are checked."""
    if value not in get_args(Verification):
        raise ValueError(f"expected one of {', '.join(get_args(Verification))}, got {value!r}")
    return cast("Verification", value)


def secret(value: object) -> Secret:
    """A secret of one line."""
    return value if isinstance(value, Secret) else Secret(one_line(value))


def patterns(value: object) -> tuple[str, ...]:
    """Names with `*`, as a list or separated by commas; `all` is every name, `none` no name."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError("expected names, separated by commas")
    found = [one_line(item) for item in cast("list[str]", items)]
    if found == ["none"]:
        return ()
    if any(char.isspace() for item in found for char in item):
        raise ValueError(f"expected names without spaces, separated by commas, got {value!r:.80}")
    return tuple("*" if item == "all" else item for item in found)


def otherwise(value: object) -> Literal["allow", "deny"]:
    """What holds when nobody answers."""
    if value == "allow":
        return "allow"
    if value == "deny":
        return "deny"
    raise ValueError(f"expected allow or deny, got {value!r}")


def seconds(value: object) -> float:
    """A number of seconds, 0 included."""
    return 0.0 if str(value).strip() in ("0", "0.0") else positive(value)


def address(value: object) -> str:
    """An http address without credentials and without a slash at its end."""
    text = one_line(value)
    try:
        parts = urlsplit(text)
        _ = parts.port  # read only when it is asked for, and refused then when it is none
    except ValueError:  # not shown: it may hold a password
        raise ValueError("expected an http:// or https:// address, with a port up to 65535 if any") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected an http:// or https:// address, got {text!r}")
    if parts.username or parts.password:
        raise ValueError("an address must not hold a user name or password; use the key's own setting")
    if not text.isascii():
        raise ValueError("expected an address in plain letters: a host as xn--…, a path with %-signs")
    try:
        normal_host(parts.hostname)
    except ValueError:
        raise ValueError(f"{parts.hostname!r} is no host name") from None
    return text.rstrip("/")


def mode(value: object) -> Mode:
    """One of the modes."""
    if value not in get_args(Mode):
        raise ValueError(f"expected one of {', '.join(get_args(Mode))}, got {value!r}")
    return cast("Mode", value)


def tool_groups(value: object) -> tuple[str, ...]:
    """The agent's groups of tools: a list, or names with commas between them; "none" for none."""
    given: object = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        raise ValueError(f"expected a list of {', '.join(TOOL_GROUPS)}, got {value!r}")
    names = [str(name).strip() for name in cast("list[object]", given)]
    if names in (["none"], []):
        return ()
    for name in names:
        if name not in TOOL_GROUPS:
            raise ValueError(f"expected some of {', '.join(TOOL_GROUPS)}, or none, got {name!r}")
    return tuple(name for name in TOOL_GROUPS if name in names)


def variable_mode(value: object) -> VariableMode:
    """One of the variable modes."""
    if value not in get_args(VariableMode):
        raise ValueError(f"expected one of {', '.join(get_args(VariableMode))}, got {value!r}")
    return cast("VariableMode", value)


def at_limit(value: object) -> AtLimit:
    """What happens at a limit."""
    if value not in get_args(AtLimit):
        raise ValueError(f"expected one of {', '.join(get_args(AtLimit))}, got {value!r}")
    return cast("AtLimit", value)


def boolean(value: object) -> bool:
    """True or false in the usual words."""
    if isinstance(value, bool):
        return value
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    word = str(value).strip().lower()
    if word not in known:
        raise ValueError(f"expected true or false, got {value!r}")
    return known[word]


def whole(low: int, high: int) -> Callable[[object], int]:
    """A parser for whole numbers in [low, high]."""

    def parse(value: object) -> int:
        try:
            number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r}")
        return number

    return parse


def positive(value: object) -> float:
    """A finite number above 0."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 < number < 1e12:
        raise ValueError(f"expected a number above 0, got {value!r}")
    return number
