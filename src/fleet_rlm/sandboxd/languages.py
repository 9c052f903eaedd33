"""Which program runs code of a language in a sandbox; it reads the code from its standard input."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Final

from fleet_rlm.sandboxd.errors import bad_request, not_implemented
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail
from fleet_rlm.sandboxd.pipes import collect

_VERSION: Final = re.compile(r"v(\d+)\.(\d+)\.")
_VERSION_S, _VERSION_LIMIT = 30.0, 200
_TYPES_SINCE: Final = (22, 6)  # of Node: leaves types out of what it runs
# Types are left out of files only, and a file is told from others by its ending.
_TYPED: Final = 'f=$(mktemp -d)/main.mts && cat >"$f" && exec node --experimental-strip-types --no-warnings "$f" "$@"'


async def interpreter(jail: Jail, language: str) -> list[str]:
    """The program and its first arguments. 400 for a language that is none, 501 for one that is not here."""
    if language == "python":
        return ["python3", "-u", "-"]
    if language not in ("javascript", "typescript"):
        raise bad_request(f"code in {language[:40]!r}: the languages are python, javascript and typescript")
    version = await _node(jail)
    if version is None:
        raise not_implemented(f"{language}, which needs Node.js installed on this machine")
    if language == "javascript":
        return ["node", "-"]
    if version < _TYPES_SINCE:
        wanted = ".".join(map(str, _TYPES_SINCE))
        raise not_implemented(f"typescript, which needs Node.js {wanted} or newer and found {version[0]}.{version[1]}")
    return ["sh", "-c", _TYPED, "typescript"]


async def _node(jail: Jail) -> tuple[int, int] | None:
    """The version of the sandbox's Node; None when there is none that runs."""
    try:
        process = await jail.run(["node", "--version"])
    except JailClosed:
        raise
    except OSError:
        return None
    try:
        async with asyncio.timeout(_VERSION_S):
            found = _VERSION.match(await collect(process.stdout, _VERSION_LIMIT))
            await process.wait()
    except TimeoutError:
        return None
    finally:
        process.kill_group(9)
        os.close(process.stdout)
    return (int(found[1][:6]), int(found[2][:6])) if found else None
