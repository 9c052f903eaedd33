"""`fleet doctor`: is this machine ready, and if not, what to do: one line a check."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fleet_rlm.cli.plain import one_line
from fleet_rlm.errors import FleetError, InvalidInput, NotConfigured

if TYPE_CHECKING:
    from fleet_rlm.runtime.config import Settings

Level = Literal["ok", "note", "failed"]

_SIGNS: Final = {"ok": "✓", "note": "~", "failed": "✗"}
_LOW_DISK_BYTES: Final = 2 << 30
_NEEDED_OF_A_MODEL: Final = ("address", "answer")
"""Steps of the registry's test without which nothing works; the others only make a model better."""
_PAGE: Final = Path(__file__).parent.parent / "web" / "dist" / "index.html"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. "note": works, but less than it could. `mend` says what to do, where there is something to do."""

    name: str
    level: Level
    detail: str
    mend: str | None = None
    ms: float = 0.0


def doctor(
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Check this machine: Python, data folder, database, disk, isolation (a real start), model (a real call), page.

    Exit status: 0 when nothing failed, else 1.
    """
    findings: list[Check] = []
    for check in checks():
        findings.append(check)
        if not as_object:
            print(as_line(check), flush=True)
    healthy = all(check.level != "failed" for check in findings)
    if as_object:
        import msgspec  # 40 ms that only this option needs

        print(msgspec.json.encode({"ok": healthy, "checks": findings}).decode())
    return 0 if healthy else 1


def as_line(check: Check) -> str:
    """`✓ isolation: namespaces: …` and, where something is to do, ` -> what`."""
    line = f"{_SIGNS[check.level]} {check.name}: {one_line(check.detail)}"
    return line + (f" -> {one_line(check.mend)}" if check.mend else "")


def checks() -> Iterator[Check]:
    """All checks, in order; those that need the settings or the data folder are left out when that cannot be used."""
    from fleet_rlm.runtime.config import load_settings
    from fleet_rlm.runtime.redaction import redactor

    yield _timed("python", _python)
    try:
        settings = load_settings()
    except FleetError as error:
        yield Check("settings", "failed", error.message, error.hint)
        return
    hide = redactor(settings)
    for check in _under(settings):  # a server may tell the key that it was given
        yield replace(check, detail=hide(check.detail), mend=check.mend and hide(check.mend))


def _under(settings: Settings) -> Iterator[Check]:
    home = _timed("data folder", lambda: _home(settings))
    yield home
    if settings.home.is_dir():
        yield _timed("disk", lambda: _disk(settings))
    if home.level != "failed":
        yield _timed("database", lambda: _database(settings))
        isolation = _timed("isolation", lambda: _isolation(settings))
        yield isolation
        if isolation.level != "failed":
            yield _timed("sandboxes", lambda: _sandboxes(settings))
    yield _timed("model", lambda: _model(settings))
    yield _timed("page", _page)


def _timed(name: str, look: Callable[[], tuple[Level, str, str | None]]) -> Check:
    started = time.monotonic()
    try:
        level, detail, mend = look()
    except FleetError as error:
        level, detail, mend = "failed", error.message, error.hint
    except OSError as error:  # the machine refused what a check does, so the check has found what it is for
        level, detail, mend = "failed", f"cannot be checked: {error}", None
    return Check(name, level, detail, mend, round((time.monotonic() - started) * 1000, 1))


def _python() -> tuple[Level, str, str | None]:
    return "ok", f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})", None


def _home(settings: Settings) -> tuple[Level, str, str | None]:
    import tempfile

    settings.make_home()
    try:
        with tempfile.TemporaryFile(dir=settings.home) as probe:
            probe.write(b"fleet")
            probe.flush()
    except OSError as error:
        raise InvalidInput(
            f"{settings.home} cannot be written: {error.strerror}", hint="set FLEET_HOME to a folder of yours"
        ) from None
    return "ok", f"{settings.home} can be written", None


def _database(settings: Settings) -> tuple[Level, str, str | None]:
    """Opens it as every command does, which also brings one of an older version up to date."""
    from fleet_rlm.integrations.database import Database

    Database(settings.home).close()
    return "ok", "can be opened and written", None


def _disk(settings: Settings) -> tuple[Level, str, str | None]:
    free = shutil.disk_usage(settings.home).free
    detail = f"{free / (1 << 30):.1f} GiB free for {settings.home}"
    if free < _LOW_DISK_BYTES:
        return "note", detail, "free some space: contexts and sandboxes need room"
    return "ok", detail, None


def _isolation(settings: Settings) -> tuple[Level, str, str | None]:
    """Proves the jail with a jailed program and escapes that must fail, and says which rung that reached."""
    import asyncio
    import tempfile

    from fleet_rlm.sandboxd.jail.spec import NoIsolation
    from fleet_rlm.sandboxd.jail.warm import prove_isolation

    if settings.daytona_api_key is not None:
        return "ok", "sandboxes are Daytona's (DAYTONA_API_KEY is set); nothing runs on this machine", None
    if settings.unsafe_no_sandbox:
        return "failed", "sandboxes are not isolated (FLEET_UNSAFE_NO_SANDBOX)", "unset FLEET_UNSAFE_NO_SANDBOX"
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=settings.home) as folder:
            isolation = asyncio.run(prove_isolation(Path(folder), allow_degraded=settings.allow_degraded))
    except NoIsolation as error:
        what, closing, cure = str(error).partition("): ")
        return "failed", what + closing.removesuffix(": "), cure or None
    # A rung that holds is fine; how to get a still better bound is worth a word.
    return "ok", f"{isolation.name}, proved by a real start: {isolation.detail}", isolation.advice or None


def _sandboxes(settings: Settings) -> tuple[Level, str, str | None]:
    """Tries what a run needs of its sandbox server, step by step, and cleans up after itself."""
    from fleet_rlm.integrations.daytona.diagnostics import diagnose
    from fleet_rlm.integrations.daytona.local_server import local_server
    from fleet_rlm.integrations.daytona.settings import DaytonaSettings

    server = None
    if settings.daytona_api_key is not None:
        key = settings.daytona_api_key.reveal()
        used = DaytonaSettings.cloud(api_key=key, api_url=settings.daytona_api_url, target=settings.daytona_target)
    else:
        server = local_server(
            home=settings.home,
            allow_degraded=settings.allow_degraded,
            unsafe_no_sandbox=settings.unsafe_no_sandbox,
        )
        used = server.settings
    try:
        steps = list(diagnose(used))
    finally:
        if server is not None:
            server.close()
    broken = next((step for step in steps if not step.ok), None)
    if broken is not None:
        return "failed", f"{broken.name}: {broken.detail} ({broken.cause})", broken.mend
    return "ok", ", ".join(f"{step.name} {step.ms:.0f} ms" for step in steps), None


def _model(settings: Settings) -> tuple[Level, str, str | None]:
    """Asks the configured model for one short answer."""
    from fleet_rlm.runtime.models.registry import ModelRegistry

    registry = ModelRegistry(settings)
    try:
        spec = registry.resolve()
    except NotConfigured as error:
        return "note", f"{error.message}; demo/search works without one", error.hint
    weak = next((step for step in registry.test(spec) if not step.ok), None)
    if weak is not None:
        level: Level = "failed" if weak.name in _NEEDED_OF_A_MODEL else "note"
        return level, f"{spec.label}: {weak.name}: {weak.detail}", weak.fix
    return "ok", f"{spec.label} answers", None


def _page() -> tuple[Level, str, str | None]:
    if _PAGE.is_file():
        return "ok", "built", None
    return "note", "not built: `fleet web` has no screen", "run `make install` with Node >= 20"
