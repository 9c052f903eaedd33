"""File operations happen inside the jail: nothing leads outside, and nothing left there holds them up."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from jail_support import PATIENCE_S, output

from fleet_rlm.sandboxd.jail.spec import Mount, Rung, SpecError
from fleet_rlm.sandboxd.jail.warm import Jail

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
Spawn = Callable[..., Awaitable[Jail]]


async def write(jail: Jail, path: str, data: bytes) -> None:
    fd = await jail.open(path, WRITE)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


async def read(jail: Jail, path: str) -> bytes:
    with os.fdopen(await jail.open(path, os.O_RDONLY), "rb") as file:
        return file.read()


async def test_write_then_read_on_both_sides(jail: Jail, tmp_path: Path) -> None:
    await write(jail, "a.txt", b"data")
    assert await read(jail, "/workspace/a.txt") == b"data"
    assert (tmp_path / "ws-a" / "a.txt").read_bytes() == b"data"
    assert await output(jail, "sh", "-c", "cat a.txt; echo more >> a.txt") == (0, "data")
    assert await read(jail, "a.txt") == b"datamore\n"


async def test_operations(jail: Jail, rung: Rung) -> None:
    await jail.file_op("mkdir", path="d/e", parents=True)
    await write(jail, "d/e/f", b"12345")
    mode = 0o640
    if rung is Rung.LANDLOCK and os.geteuid() != 0:  # Landlock does not judge it, so the filter refuses it
        mode = 0o644
        with pytest.raises(PermissionError):
            await jail.file_op("chmod", path="d/e/f", mode=0o640)
    else:
        await jail.file_op("chmod", path="d/e/f", mode=mode)
    found = await jail.file_op("stat", path="d/e/f")
    assert (found["name"], found["kind"], found["size"], found["mode"]) == ("f", "file", 5, mode)
    await output(jail, "ln", "-s", "e/f", "d/link")
    listed = {entry["name"]: entry for entry in await jail.file_op("list", path="d")}
    assert listed["e"]["kind"] == "dir"
    assert (listed["link"]["kind"], listed["link"]["target"]) == ("symlink", "e/f")
    await jail.file_op("move", source="d/e/f", target="/tmp/g")
    assert await read(jail, "/tmp/g") == b"12345"
    with pytest.raises(IsADirectoryError):
        await jail.file_op("remove", path="d")
    await jail.file_op("remove", path="d", recursive=True)
    with pytest.raises(FileNotFoundError):
        await jail.file_op("stat", path="d")
    with pytest.raises(FileExistsError):
        await jail.file_op("mkdir", path="/workspace")
    with pytest.raises(PermissionError):
        await jail.file_op("remove", path="/workspace", recursive=True)
    with pytest.raises(ValueError, match="no file operation"):
        await jail.file_op("chown", path="d")
    with pytest.raises(OSError, match="bad arguments"):
        await jail.file_op("stat", colour="red")
    assert (await jail.file_op("stat", path="."))["kind"] == "dir"


async def test_what_the_jail_stands_on_is_not_removed(spawn: Spawn, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    jail = await spawn(mounts=(Mount(volume, "/workspace/in/volume"),))
    await jail.file_op("mkdir", path="in/sub", parents=True)
    await write(jail, "kept", b"1")
    (volume / "kept").write_bytes(b"1")
    whole = (".", "./", "/workspace/.", "in/sub/../..", "/workspace/", "/tmp", "in/volume", "in/volume/.")
    for path in whole:
        with pytest.raises(PermissionError):
            await jail.file_op("remove", path=path, recursive=True)
        with pytest.raises(PermissionError):
            await jail.file_op("move", source=path, target="/workspace/elsewhere")
    assert await read(jail, "kept") == await read(jail, "in/volume/kept") == b"1"
    await jail.file_op("remove", path="in/sub/.././sub", recursive=True)
    assert "sub" not in {entry["name"] for entry in await jail.file_op("list", path="in")}


@pytest.mark.namespaces
async def test_a_folder_with_a_mount_in_it_is_not_removed(spawn: Spawn, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    (volume / "kept").write_bytes(b"1")
    jail = await spawn(mounts=(Mount(volume, "/workspace/in/volume"),))
    with pytest.raises(PermissionError):
        await jail.file_op("remove", path="in", recursive=True)
    assert (volume / "kept").exists()


async def test_deeply_nested_folders_are_removed(jail: Jail) -> None:
    code = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    assert (await output(jail, "python3", "-c", code))[0] == 0
    await jail.file_op("remove", path="d", recursive=True)
    assert await jail.file_op("list", path=".") == []


async def test_large_directories_arrive_whole(jail: Jail) -> None:
    await output(
        jail, "python3", "-c", "import os\nos.mkdir('m')\nfor n in range(3000): open(f'm/{n:05}-' + 'é' * 80, 'w')"
    )
    listed = await jail.file_op("list", path="m")
    assert len(listed) == len({entry["name"] for entry in listed}) == 3000


async def test_names_that_are_not_text(jail: Jail) -> None:
    await output(jail, "python3", "-c", "open(b'bad\\xff', 'w').write('x')")
    names = [entry["name"] for entry in await jail.file_op("list", path=".")]
    assert names == ["bad\udcff"]
    assert await read(jail, names[0]) == b"x"


async def test_paths_cannot_lead_outside(jail: Jail, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("host")
    await output(jail, "sh", "-c", f"ln -s {secret} s; ln -s {tmp_path} t; ln -s / r; ln -s ../../../.. u")
    for path in (f"{secret}", f"../..{secret}", "s", "t/secret", f"r{secret}", f"u{secret}", f"/proc/1/root{secret}"):
        with pytest.raises(OSError):
            os.close(await jail.open(path, os.O_RDONLY))
    with pytest.raises(OSError):
        await jail.open("t/new", WRITE)
    with pytest.raises(OSError):
        await jail.open("/usr/new", WRITE)
    with pytest.raises(OSError):
        await jail.open("/etc/passwd", os.O_WRONLY)
    assert secret.read_text() == "host"


async def test_only_regular_files_come_out(jail: Jail) -> None:
    await output(
        jail, "sh", "-c", "mkfifo p; ln -s /proc/self/mem m; ln -s /dev/null n; mkdir d; ln -s /proc/1/status st"
    )
    for path in ("p", "m", "n", "st", "/proc/self/mem", "/proc/1/environ", "/proc/self/fd/3", "/dev/zero"):
        for flags in (os.O_RDONLY, os.O_RDWR):
            with pytest.raises(OSError):
                os.close(await asyncio.wait_for(jail.open(path, flags), PATIENCE_S))
    with pytest.raises(IsADirectoryError):
        await jail.open("d", os.O_RDONLY)
    with pytest.raises(OSError):
        await jail.open("x", os.O_RDONLY | os.O_PATH)
    with pytest.raises(OSError):
        await jail.open("a\0b", os.O_RDONLY)


async def test_racing_symlinks_never_show_the_host(jail: Jail, tmp_path: Path) -> None:
    """A name that flips between a file and a link to a host path, while the server opens it."""
    secret = tmp_path / "secret"
    secret.write_text("host")
    await write(jail, "plain", b"jail")
    code = (
        "import os,sys\nos.symlink(sys.argv[1], 'evil')\nprint('go', flush=True)\n"
        "while True:\n"
        "  os.link('plain','t'); os.rename('t','x'); os.symlink(sys.argv[1],'t'); os.rename('t','x')\n"
    )
    racer = await jail.run(["python3", "-c", code, str(secret)])
    seen: set[bytes] = set()
    for _ in range(400):
        try:
            seen.add(await read(jail, "x"))
        except (FileNotFoundError, PermissionError):
            continue
    racer.kill_group(9)
    racer.close()
    assert seen <= {b"jail"}


async def test_mounts(spawn, rung: Rung, tmp_path: Path) -> None:
    shared, fixed = tmp_path / "shared", tmp_path / "fixed"
    shared.mkdir()
    fixed.mkdir()
    (fixed / "f").write_text("fixed")
    fixed.chmod(0o755)
    (fixed / "f").chmod(0o644)
    mounts = (Mount(shared, "/data/shared"), Mount(fixed, "/workspace/in/fixed", read_only=True))
    one = await spawn(name="one", mounts=mounts)
    two = await spawn(name="two", mounts=mounts)
    assert await read(one, "in/fixed/f") == b"fixed"
    for path in ("in/fixed/f", "in/fixed/new"):
        with pytest.raises(OSError, match="Read-only|Permission denied"):
            await one.open(path, WRITE)
    await write(one, "/data/shared/a", b"from one")
    # Without a mount namespace the server knows the mount's path, programs only the host's.
    place = "/data/shared" if rung is Rung.NAMESPACES else shared
    assert await output(two, "sh", "-c", f"cat {place}/a && echo two >> {place}/a") == (0, "from one")
    assert (shared / "a").read_text() == "from onetwo\n"
    if rung is Rung.NAMESPACES:  # the way to a mount inside the workspace belongs to the jail's user
        assert await output(one, "touch", "in/mine") == (0, "")


@pytest.mark.namespaces
async def test_mount_points_do_not_follow_planted_links(spawn, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    first = await spawn()
    await output(first, "ln", "-s", "/tmp", "in")
    await first.kill()
    with pytest.raises(OSError):
        await spawn(mounts=(Mount(folder, "/workspace/in/x"),))


@pytest.mark.parametrize(
    "target", ["/", "/usr/x", "/etc", "/proc/1", "relative", "/a/../etc", "/workspace", "/tmp", "/a/"]
)
def test_bad_mount_targets_are_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        Mount(tmp_path, target)


async def test_files_stay_for_the_next_jail(spawn) -> None:
    first = await spawn()
    await write(first, "kept", b"1")
    await first.kill()
    second = await spawn()
    assert await read(second, "kept") == b"1"
    await write(second, "kept", b"2")


@pytest.mark.as_root
async def test_workspace_is_given_to_the_jail_whole(spawn, tmp_path: Path) -> None:
    workspace = tmp_path / "ws-a"
    (workspace / "deep").mkdir(parents=True)
    (workspace / "deep" / "f").write_text("server's")
    outside = tmp_path / "outside"
    outside.write_text("x")
    (workspace / "link").symlink_to(outside)
    jail = await spawn()
    await write(jail, "deep/f", b"mine")
    assert outside.stat().st_uid == 0
