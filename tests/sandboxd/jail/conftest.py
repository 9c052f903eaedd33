"""One warm process for all tests of the jail; every test gets its own jails."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from jail_support import WARM_SCRIPT, let_others_enter

from fleet_rlm.sandboxd.jail import identity, system
from fleet_rlm.sandboxd.jail.inside import landlock
from fleet_rlm.sandboxd.jail.spec import Isolation, JailSpec, Limits, Mount, Rung
from fleet_rlm.sandboxd.jail.warm import Jail, WarmServer

HERE = Path(__file__).parent
Spawn = Callable[..., Awaitable[Jail]]


def rungs() -> list[Rung]:
    """The rungs that this run can show: $JAIL_RUNGS, else all. Root needs a Python that everybody may enter for
    the second; where it is not, test_jail_as_user.py shows that rung as root as well."""
    wanted = os.environ.get("JAIL_RUNGS", "namespaces,landlock").split(",")
    hidden = os.geteuid() == 0 and identity.closed_above(Path(system.EXECUTABLE).resolve())
    if landlock.abi() < landlock.DEGRADED_ABI or hidden:
        wanted = [name for name in wanted if name != Rung.LANDLOCK]
    return [Rung(name) for name in wanted]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What can only be seen as root, or only as a user, is not part of the other's run; it is not skipped
    either: root's run does the user's in full, see test_jail_as_user.py."""
    other = "as_user" if os.geteuid() == 0 else "as_root"
    out = [item for item in items if item.path.parent == HERE and (item.get_closest_marker(other) or unfit(item))]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def unfit(item: pytest.Item) -> bool:
    """Whether a test that is about one rung would run on another."""
    call = getattr(item, "callspec", None)
    rung = call and call.params.get("rung")
    soft = rung is Rung.LANDLOCK and os.geteuid() != 0
    if soft and item.get_closest_marker("hard_process_limit"):
        return True
    return bool(rung) and any(item.get_closest_marker(name) for name in Rung if name != rung)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "as_root: only root can see this")
    config.addinivalue_line("markers", "as_user: only an unprivileged user can see this")
    config.addinivalue_line("markers", "namespaces: a promise of the first rung alone")
    config.addinivalue_line("markers", "hard_process_limit: not on the second rung as a user, whose limit is watched")
    config.addinivalue_line("markers", "landlock: what the second rung promises instead")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=rungs())
def rung(request: pytest.FixtureRequest) -> Rung:
    return request.param


@pytest.fixture(scope="session")
async def started(
    anyio_backend: str, rung: Rung, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[WarmServer, Isolation]]:
    folder = tmp_path_factory.mktemp("warm")
    if rung is Rung.LANDLOCK:
        let_others_enter(folder)
    server = WarmServer(data_dir=folder / "data", scripts=[WARM_SCRIPT], rung=rung)
    isolation = await server.start()
    yield server, isolation
    await server.close()


@pytest.fixture
def warm(started: tuple[WarmServer, Isolation], rung: Rung, tmp_path: Path) -> WarmServer:
    if rung is Rung.LANDLOCK:
        let_others_enter(tmp_path)
    return started[0]


@pytest.fixture
async def spawn(warm: WarmServer, tmp_path: Path) -> AsyncIterator[Spawn]:
    jails: list[Jail] = []

    async def make(
        *, limits: Limits | None = None, mounts: tuple[Mount, ...] = (), env: dict[str, str] | None = None, name="a"
    ) -> Jail:
        # As root the name chooses the jail's uid on the host, and another process runs these tests at the same time.
        spec = JailSpec(
            f"{name}-{os.getpid()}-{tmp_path.name}", tmp_path / f"ws-{name}", mounts, env or {}, limits or Limits()
        )
        jails.append(await warm.spawn(spec))
        return jails[-1]

    yield make
    await asyncio.gather(*(jail.kill() for jail in jails))


@pytest.fixture
async def jail(spawn: Spawn) -> Jail:
    return await spawn()


sys.path.insert(0, str(HERE))
