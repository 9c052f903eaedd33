"""The small part of Dockerfiles that a snapshot can be made from: Python packages and environment variables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fleet_rlm.sandboxd.errors import bad_request

_SIZE_LIMIT: Final = 64 * 1024
_PACKAGES: Final = 200
_BASE: Final = re.compile(r"(docker\.io/)?(library/)?python(:[\w.-]{1,60})?", re.ASCII)
# A name with extras and versions, and nothing that pip could take for an option, a path or a URL.
_REQUIREMENT: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}(\[[A-Za-z0-9._,-]{1,100}\])?"
    r"((==|>=|<=|~=|!=|<|>)[A-Za-z0-9._*+!-]{1,60}(,(==|>=|<=|~=|!=|<|>)[A-Za-z0-9._*+!-]{1,60}){0,9})?"
)
_PIP: Final = re.compile(r"(python3?\s+-m\s+)?pip3?\s+install\s+")
_QUIET_OPTIONS: Final = frozenset({"--no-cache-dir", "-q", "--quiet", "--upgrade", "-U", "--no-input"})
# What the SDK's `Image.debian_slim` writes before anything that was asked for.
_PREPARING: Final = (
    re.compile(r"apt-get update"),
    re.compile(r"apt-get install -y gcc gfortran build-essential"),
    re.compile(r"echo 'debconf debconf/frontend select Noninteractive' \| debconf-set-selections"),
)
_CAN: Final = "a snapshot can have FROM python:..., RUN pip install ..., ENV and WORKDIR"
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Recipe:
    """What a snapshot adds to the base: packages as pip names them, environment variables; `notes` for the log."""

    packages: list[str] = field(default_factory=list[str])
    env: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])


def read(text: str) -> Recipe:
    """The recipe of a Dockerfile. 400 with a sentence for anything that cannot be had here."""
    if len(text) > _SIZE_LIMIT:
        raise bad_request(f"the Dockerfile is larger than {_SIZE_LIMIT} characters")
    recipe = Recipe()
    lines = list(_instructions(text))
    if not lines or lines[0][0] != "FROM":
        raise bad_request(f"the Dockerfile does not begin with FROM; {_CAN}")
    for number, (word, rest) in enumerate(lines):
        if word == "FROM" and number == 0:
            check_base(rest)
            recipe.notes.append(f"FROM {rest}: the sandbox keeps this machine's own Python and system")
        elif word == "RUN":
            _run(recipe, rest)
        elif word == "ENV":
            _env(recipe, rest)
        elif word == "WORKDIR":
            recipe.notes.append(f"WORKDIR {rest}: passed over, sandboxes work in /workspace")
        else:
            raise bad_request(f"Dockerfile: {word} {rest[:60]}: {_CAN}")
    if len(recipe.packages) > _PACKAGES:
        raise bad_request(f"at most {_PACKAGES} packages")
    return recipe


def check_base(image: str) -> None:
    """400 unless an image is one of Python's own."""
    if not _BASE.fullmatch(image):
        raise bad_request(f"the image {image[:80]!r} cannot be had on this server; only python:... can")


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\[ \t]*\r?\n", " ", text)
    for line in joined.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word.upper(), rest.strip()


def _run(recipe: Recipe, command: str) -> None:
    for part in command.split("&&"):
        part = part.strip()
        if any(known.fullmatch(part) for known in _PREPARING):
            recipe.notes.append(f"RUN {part}: passed over, the system is this machine's")
            continue
        match = _PIP.match(part)
        if match is None:
            raise bad_request(f"Dockerfile: RUN {part[:60]}: {_CAN}")
        for word in _words(part[match.end() :]):
            if word in _QUIET_OPTIONS or word == "pip":
                continue
            if not _REQUIREMENT.fullmatch(word):
                message = f"Dockerfile: pip install {word[:60]}: only names with versions such as numpy>=2 can be had"
                raise bad_request(message)
            recipe.packages.append(word)


def _env(recipe: Recipe, rest: str) -> None:
    words = _words(rest)
    if words and "=" not in words[0]:
        words = [f"{words[0]}={rest.partition(' ')[2].strip()}"]
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name) or "$" in value:
            raise bad_request(f"Dockerfile: ENV {word[:60]}: a name, '=' and a value without '$' are wanted")
        recipe.env[name] = value


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise bad_request(f"Dockerfile: {text[:60]!r}: {error}") from error
