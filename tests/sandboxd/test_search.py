"""Content search, name search, replacing and deep lists, through the SDK."""

from __future__ import annotations

import asyncio

import pytest
from daytona import (
    DaytonaBadRequestError,
    DaytonaError,
    DaytonaFileAccessDeniedError,
    DaytonaFileNotFoundError,
    DaytonaInvalidFilePathError,
    FileUpload,
)


@pytest.fixture(scope="module")
def tree(sandbox):
    sandbox.fs.upload_files(
        [
            FileUpload(b"first\nTODO: one (a.*b)\nlast\r\n", "tree/a.py"),
            FileUpload(b"nothing here\n", "tree/b.txt"),
            FileUpload("TODO: zwei ünïcödé".encode(), "tree/deep/er/c.py"),
            FileUpload(b"\0TODO: binary", "tree/deep/blob.bin"),
        ]
    )
    sandbox.process.exec("ln -s /workspace/tree/deep tree/link; mkfifo tree/fifo; ln -s /etc tree/etc")
    return sandbox


def test_find_gives_file_line_and_content(tree):
    found = [(m.file, m.line, m.content) for m in tree.fs.find_files("tree", "TODO:")]
    assert found == [("tree/a.py", 2, "TODO: one (a.*b)"), ("tree/deep/er/c.py", 1, "TODO: zwei ünïcödé")]
    assert [m.line for m in tree.fs.find_files("/workspace/tree/a.py", "last")] == [3]
    assert tree.fs.find_files("tree", "(a.*b)")[0].line == 2, "a pattern is text, not an expression"
    assert tree.fs.find_files("tree", "not there") == []


def test_search_is_a_glob_on_names(tree):
    assert sorted(tree.fs.search_files("tree", "*.py").files) == ["tree/a.py", "tree/deep/er/c.py"]
    assert tree.fs.search_files("/workspace/tree", "de?p").files == ["/workspace/tree/deep"]
    assert tree.fs.search_files("tree", "passwd").files == [], "links are not followed"


def test_folders_deeper_than_a_path_are_no_end_of_a_search(make):
    """And what can be reached is found; the rest no path names."""
    sandbox = make()
    code = (
        "import os\n"
        "open('a.txt', 'w').write('needle')\n"
        "for n in range(3000):\n"
        "    os.mkdir('d'); os.chdir('d')\n"
        "    if n in (1500, 2500): open('deep.txt', 'w').write('needle')\n"
    )
    sandbox.fs.upload_file(code.encode(), "nest.py")
    assert sandbox.process.exec("python3 nest.py && rm nest.py").exit_code == 0
    names = sandbox.fs.search_files(".", "*.txt").files
    found = [match.file for match in sandbox.fs.find_files(".", "needle")]
    sandbox.process.exec("rm -rf d")  # pytest could not
    assert names == found == ["./a.txt", "./" + "d/" * 1501 + "deep.txt"]


def test_a_link_to_a_folder_is_found_and_not_entered(tree):
    assert tree.fs.search_files("tree", "l?nk").files == ["tree/link"]
    assert tree.fs.search_files("tree", "c.*").files == ["tree/deep/er/c.py"]


def test_replace_tells_of_each_file(tree):
    tree.fs.upload_file(b"red red\nblue", "colours")
    tree.fs.set_file_permissions("colours", mode="640")
    results = tree.fs.replace_in_files(["colours", "missing", "tree", "tree/fifo"], "red", "greenish")
    assert [(r.file, r.success) for r in results] == [
        ("colours", True),
        ("missing", False),
        ("tree", False),
        ("tree/fifo", False),
    ]
    assert "no such file" in results[1].error
    assert tree.fs.download_file("colours") == b"greenish greenish\nblue"
    tree.fs.replace_in_files(["colours"], "greenish", "r")
    assert tree.fs.download_file("colours") == b"r r\nblue", "a shorter file has no rest of the longer one"
    assert tree.fs.get_file_info("colours").permissions == "0640"


def test_a_list_with_depth(tree):
    tree.fs.upload_file(b"", "levels/one/two/three")
    assert [i.path for i in tree.fs.list_files("levels")] == ["/workspace/levels/one"]
    assert [i.path for i in tree.fs.list_files("levels", depth=2)][-1] == "/workspace/levels/one/two"
    deep = tree.fs.list_files("levels", depth=64)
    assert [(i.name, i.is_dir) for i in deep] == [("one", True), ("two", True), ("three", False)]
    assert "c.py" not in {i.name for i in tree.fs.list_files("tree", depth=2)}
    with pytest.raises(DaytonaBadRequestError, match="depth"):
        tree.fs.list_files("tree", depth=65)


def test_errors_of_searches(tree):
    with pytest.raises(DaytonaFileNotFoundError):
        tree.fs.find_files("nowhere", "x")
    with pytest.raises(DaytonaInvalidFilePathError):
        tree.fs.search_files("tree/a.py", "*")
    with pytest.raises(DaytonaBadRequestError, match="pattern"):
        tree.fs.find_files("tree", "")


def test_owners_are_mapped_honestly(tree):
    tree.fs.set_file_permissions("tree/a.py", mode="600", owner="sandbox", group="sandbox")
    assert tree.fs.get_file_info("tree/a.py").permissions == "0600"
    with pytest.raises(DaytonaError, match="owner") as raised:
        tree.fs.set_file_permissions("tree/a.py", owner="root")
    assert raised.value.status_code == 501
    with pytest.raises(DaytonaFileNotFoundError):
        tree.fs.set_file_permissions("tree/missing", owner="sandbox")
    with pytest.raises(DaytonaFileAccessDeniedError):
        tree.fs.set_file_permissions("/usr/bin/env", mode="777")


def test_async_searches(server, tree):
    async def run() -> None:
        async with server.async_sdk() as client:
            mine = await client.get(tree.id)
            found, names = await asyncio.gather(
                mine.fs.find_files("tree", "TODO"), mine.fs.search_files("tree", "*.txt")
            )
            assert [m.file for m in found] == ["tree/a.py", "tree/deep/er/c.py"]
            assert names.files == ["tree/b.txt"]

    asyncio.run(run())
