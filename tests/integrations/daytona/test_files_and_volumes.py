"""One view of a sandbox's files and of volumes, on the jailed server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_rlm.errors import Conflict, InvalidInput, NotFound, SandboxLost, TooLarge
from fleet_rlm.integrations.daytona.filesystem import Files
from fleet_rlm.integrations.daytona.remote_paths import confined
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.source import SandboxSpec
from fleet_rlm.integrations.daytona.volumes import Volumes


@pytest.fixture(scope="module")
def shared(runtime: SandboxRuntime) -> Iterator[Files]:
    handle = runtime.create(SandboxSpec())
    yield Files(runtime, handle)
    runtime.delete(handle)


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "full"),
        [("a/b", "/w/a/b"), (".", "/w"), ("/w/a/../b//c", "/w/b/c"), ("a/./b/", "/w/a/b"), ("..a", "/w/..a")],
    )
    def test_normalised(self, path: str, full: str) -> None:
        assert confined("/w", path) == full

    @pytest.mark.parametrize("path", ["..", "/", "/etc/passwd", "a/../../w2", "//etc", "/w2", "", "a\0b", "x" * 5000])
    def test_confined(self, path: str) -> None:
        with pytest.raises(InvalidInput):
            confined("/w", path)


class TestWorkspace:
    def test_written_listed_read_deleted(self, shared: Files) -> None:
        entry = shared.write("life/a/b.txt", b"bytes \x00\xff")
        assert (entry.path, entry.name, entry.folder, entry.size) == ("life/a/b.txt", "b.txt", False, 8)
        shared.write("life/z.txt", b"")
        assert [(e.path, e.folder) for e in shared.list("life")] == [("life/a", True), ("life/z.txt", False)]
        assert [e.path for e in shared.tree("life")] == ["life/a", "life/a/b.txt", "life/z.txt"]
        assert [e.path for e in shared.tree("life", depth=1)] == ["life/a", "life/z.txt"]
        assert len(shared.tree("life", limit=2)) == 2
        assert shared.read("life/a/b.txt") == b"bytes \x00\xff" and shared.read("life/z.txt") == b""
        shared.write("life/z.txt", b"replaced")
        assert shared.read(f"{shared.root}/life/z.txt") == b"replaced"
        with pytest.raises(Conflict, match="recursive"):
            shared.delete("life")
        shared.delete("life", recursive=True)
        assert not shared.exists("life")

    def test_names_that_are_no_text_are_listed(self, shared: Files, runtime: SandboxRuntime) -> None:
        box = runtime.sandbox(shared._handle)
        runtime.call(box.process.exec("mkdir -p $'raw/sub\\xff'; touch $'raw/sub\\xff/f' $'raw/bad\\xff'"))
        assert [e.path for e in shared.list("raw")] == ["raw/sub\ufffd", "raw/bad\ufffd"]
        assert [e.path for e in shared.tree("raw")] == ["raw/sub\ufffd", "raw/bad\ufffd"]
        shared.delete("raw", recursive=True)

    def test_up_and_down(self, shared: Files, tmp_path: Path) -> None:
        local = tmp_path / "local.bin"
        local.write_bytes(bytes(range(256)) * 4000)
        assert shared.upload(local, "moved/far.bin").size == 1_024_000
        back = tmp_path / "back.bin"
        assert shared.download("moved/far.bin", back) == 1_024_000
        assert back.read_bytes() == local.read_bytes()
        with pytest.raises(TooLarge):
            shared.read("moved/far.bin", limit=1000)

    def test_a_download_that_fails_leaves_nothing(self, shared: Files, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            shared.download("not/there", tmp_path / "x")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_not_there_and_what_may_not_be(self, shared: Files, tmp_path: Path) -> None:
        for action in (shared.read, shared.info, shared.list, shared.delete):
            with pytest.raises(NotFound):
                action("nowhere/at/all")
        for path in ("../etc/passwd", "/etc/passwd"):
            with pytest.raises(InvalidInput):
                shared.write(path, b"x")
        for action in (shared.delete, lambda path: shared.write(path, b"")):
            with pytest.raises(InvalidInput, match="root"):
                action(".")
        with pytest.raises(NotFound):
            shared.upload(tmp_path / "none", "x")
        shared.write("once", b"1")
        with pytest.raises(Conflict):
            shared.write("once", b"2", overwrite=False)
        with pytest.raises(InvalidInput, match="folder"):
            shared.write("dir/x", b"") and shared.read("dir")

    def test_a_link_leads_nowhere(self, runtime: SandboxRuntime, shared: Files) -> None:
        box = runtime.sandbox(shared._handle)
        runtime.call(box.process.exec("ln -sf /etc/shadow link"))
        with pytest.raises((InvalidInput, NotFound)):
            shared.read("link")

    def test_a_sandbox_that_is_gone(self, runtime: SandboxRuntime) -> None:
        handle = runtime.create(SandboxSpec())
        files = Files(runtime, handle)
        files.write("x", b"1")
        runtime.delete_now(handle)
        with pytest.raises(SandboxLost):
            files.read("x")


class TestVolumes:
    @pytest.fixture
    def volumes(self, runtime: SandboxRuntime) -> Iterator[Volumes]:
        found = Volumes(runtime)
        yield found
        found.close()

    def test_browsed_by_one_helper_that_stops_by_itself(self, runtime: SandboxRuntime, volumes: Volumes) -> None:
        volumes.make("test-browse")
        for number in range(3):
            volumes.browse("test-browse").write(f"runs/{number}.json", b"{}")
        assert len(volumes.browse("test-browse").list("runs")) == 3
        helpers = runtime.list({"fleet.volume": "test-browse"})
        assert len(helpers) == 1
        box = runtime.sandbox(volumes.browse("test-browse")._handle)
        assert (box.auto_stop_interval, box.auto_delete_interval) == (5, 0)
        volumes.close()
        assert volumes.browse("test-browse").read("runs/1.json") == b"{}"  # by a new helper

    def test_a_helper_that_stopped_is_started_anew(
        self, runtime: SandboxRuntime, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volumes.make("test-stopped")
        volumes.browse("test-stopped").write("kept", b"1")
        runtime.delete_labelled({"fleet.volume": "test-stopped"})
        later = time.monotonic() + 120
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert volumes.browse("test-stopped").read("kept") == b"1"

    def test_objects_are_whole_and_do_not_change(self, volumes: Volumes) -> None:
        volumes.make("test-objects")
        files = volumes.browse("test-objects")
        files.write("a", b"first")
        files.write("a", b"first")  # the same again is no harm
        with pytest.raises(Conflict, match="do not change"):
            files.write("a", b"other")
        assert files.read("a") == b"first"
        files.delete("a")
        files.write("a", b"other")

    def test_listed_made_deleted(self, volumes: Volumes) -> None:
        volumes.make("test-one")
        volumes.make("test-one")
        assert [v.state for v in volumes.list() if v.name == "test-one"] == ["ready"]
        volumes.browse("test-one")
        volumes.delete("test-one")
        assert "test-one" not in [v.name for v in volumes.list() if v.state == "ready"]
        for action in (volumes.browse, volumes.delete):
            with pytest.raises(NotFound):
                action("test-one")
        with pytest.raises(InvalidInput):
            volumes.make("a/b")
