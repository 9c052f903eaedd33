"""A part of a mount's way that was swapped for a link after the server had checked it is not followed."""

from __future__ import annotations

import asyncio
import os

import pytest

from fleet_rlm.sandboxd.jail.spec import JailSpec, Mount
from fleet_rlm.sandboxd.jail.warm import WarmServer


def test_a_link_on_the_way_to_a_mount_is_refused(tmp_path):
    outside = tmp_path / "outside" / "folder"
    outside.mkdir(parents=True, mode=0o700)
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "swapped").symlink_to(tmp_path / "outside")
    (volume / "last").symlink_to(outside)
    (volume / "good" / "folder").mkdir(parents=True)
    before = outside.stat()

    async def run() -> None:
        warm = WarmServer(data_dir=tmp_path / "data", preload=())
        await warm.start()
        try:
            for number, source in enumerate((volume / "swapped" / "folder", volume / "last")):
                for read_only in (True, False):
                    mount = Mount(source=source, target="/data", read_only=read_only)
                    spec = JailSpec(
                        id=f"link-{number}-{os.getpid()}", workspace=tmp_path / f"w{number}", mounts=(mount,)
                    )
                    with pytest.raises(OSError):
                        await warm.spawn(spec)
            mount = Mount(source=volume / "good" / "folder", target="/data")
            jail = await warm.spawn(JailSpec(id=f"good-{os.getpid()}", workspace=tmp_path / "good", mounts=(mount,)))
            assert [entry["name"] for entry in await jail.file_op("list", path="/data")] == []
        finally:
            await warm.close()

    asyncio.run(run())
    after = outside.stat()
    assert (before.st_gid, before.st_mode) == (after.st_gid, after.st_mode)
