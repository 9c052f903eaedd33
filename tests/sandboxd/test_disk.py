"""Host-side file work next to hostile folders."""

from __future__ import annotations

import os
import sys

import pytest

from fleet_rlm.sandboxd.disk import make_beneath, remove_tree, tree_size, tree_use, write_atomic


def test_a_tree_deeper_than_python_can_recurse_is_removed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    here = os.getcwd()
    os.chdir(root)
    try:
        for _ in range(3 * sys.getrecursionlimit()):
            os.mkdir("d" * 50)
            os.chdir("d" * 50)
        with open("file", "w") as file:
            file.write("x")
    finally:
        os.chdir(here)
    remove_tree(root)
    assert not root.exists()


def test_removing_follows_no_link_and_opens_locked_folders(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    root = tmp_path / "root"
    (root / "locked" / "inner").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "locked" / "inner" / "link").symlink_to(outside / "precious")
    (root / "locked").chmod(0)
    remove_tree(root)
    assert not root.exists() and (outside / "precious").read_text() == "kept"
    remove_tree(root)  # what is gone is no error
    (tmp_path / "alias").symlink_to(outside)
    remove_tree(tmp_path / "alias")
    assert (outside / "precious").exists()


def test_folders_are_made_without_following_links(tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "elsewhere").mkdir()
    made = make_beneath(tmp_path / "volume", ("a", "b"))
    assert made.is_dir() and made == make_beneath(tmp_path / "volume", ("a", "b"))
    (tmp_path / "volume" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "volume" / "file").write_text("")
    for parts in (("out",), ("out", "x"), ("file",), ("file", "x")):
        with pytest.raises(OSError):
            make_beneath(tmp_path / "volume", parts)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_sizes_count_what_is_taken(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 1_000_000)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 1_000_000 <= tree_size(tmp_path) < 2_000_000


@pytest.mark.parametrize(("depth", "name"), [(60, "d" * 100), (3_000, "d"), (40, "\N{SNOWMAN}" * 80)])
def test_sizes_count_what_lies_deeper_than_a_path_reaches(tmp_path, depth, name):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        for each in (name, "beside"):
            os.mkdir(each, dir_fd=here)
        with open("f", "wb", opener=lambda path, flags: os.open(path, flags, 0o600, dir_fd=here)) as file:  # noqa: B023
            file.write(b"x" * 10_000)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    size, entries = tree_use(tmp_path)
    assert entries == 3 * depth and size >= depth * 10_000
    assert len(os.listdir("/proc/self/fd")) == before
    remove_tree(tmp_path / name)


def test_a_tree_beyond_all_measure_has_too_many_entries(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    assert tree_use(tmp_path)[1] > 500_000
    assert len(os.listdir("/proc/self/fd")) == before
    remove_tree(tmp_path / ("d" * 200))


def test_atomic_writing_leaves_no_half_file(tmp_path):
    target = tmp_path / "record.json"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two" and [p.name for p in tmp_path.iterdir()] == ["record.json"]
    target.unlink()
    target.mkdir()
    with pytest.raises(OSError):
        write_atomic(target, b"three")
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]
