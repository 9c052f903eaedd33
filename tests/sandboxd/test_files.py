"""Files through the SDK: up, down, lists, odd names, and paths that try to lead out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading

import httpx
import pytest
from daytona import (
    DaytonaError,
    DaytonaFileAccessDeniedError,
    DaytonaFileNotFoundError,
    DaytonaInvalidFilePathError,
    FileDownloadRequest,
    FileUpload,
)

ODD_NAMES = ["spaces and 'quotes'.txt", 'a"b.txt', "back\\slash", "ünïcödé 数据 🙂.bin", "new\nline", "%41;x=y", "-rf"]


def test_twenty_megabytes_both_ways(sandbox, tmp_path):
    data = os.urandom(20 << 20)
    sandbox.fs.upload_file(data, "deep/er/big.bin")
    digest = sandbox.process.exec("sha256sum deep/er/big.bin").result.split()[0]
    assert digest == hashlib.sha256(data).hexdigest()
    assert sandbox.fs.download_file("deep/er/big.bin") == data
    local = tmp_path / "big.bin"
    sandbox.fs.download_file("deep/er/big.bin", str(local))
    assert local.read_bytes() == data
    assert b"".join(sandbox.fs.download_file_stream("deep/er/big.bin")) == data


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(sandbox, name):
    sandbox.fs.upload_file(name.encode(), f"odd/{name}")
    assert sandbox.fs.download_file(f"odd/{name}") == name.encode()
    assert name in {info.name for info in sandbox.fs.list_files("odd")}
    sandbox.fs.delete_file(f"odd/{name}")
    with pytest.raises(DaytonaFileNotFoundError):
        sandbox.fs.download_file(f"odd/{name}")


def test_a_name_that_is_no_text_is_listed(sandbox):
    """With a replacement character, as searches tell it; only code in the sandbox can use the name as it is."""
    sandbox.process.exec("mkdir -p $'raw/sub\\xff'; touch $'raw/bad\\xff' $'raw/sub\\xff/f' raw/good")
    assert {info.name for info in sandbox.fs.list_files("raw")} == {"bad\ufffd", "good", "sub\ufffd"}
    assert "/workspace/raw/sub\ufffd/f" in {info.path for info in sandbox.fs.list_files("raw", depth=2)}
    sandbox.fs.delete_file("raw", recursive=True)


def test_many_files_in_one_request(sandbox):
    sandbox.fs.upload_files([FileUpload(f"file {n}".encode(), f"many/{n}.txt") for n in range(40)])
    wanted = [FileDownloadRequest(source=f"many/{n}.txt") for n in (0, 39, 99)]
    first, last, missing = sandbox.fs.download_files(wanted)
    assert (first.result, last.result) == (b"file 0", b"file 39")
    assert missing.error_details.code == "FILE_NOT_FOUND"


def test_empty_file_and_overwriting(sandbox):
    sandbox.fs.upload_file(b"long long content", "over.txt")
    sandbox.fs.upload_file(b"", "over.txt")
    assert sandbox.fs.get_file_info("over.txt").size == 0


def test_upload_stream_of_unknown_length(sandbox):
    sandbox.fs.upload_file_stream(b"x" * 3_000_000, "streamed.bin")
    assert sandbox.fs.get_file_info("streamed.bin").size == 3_000_000


def test_async_sdk_uploads_and_downloads(server, sandbox):
    async def run() -> None:
        async with server.async_sdk() as client:
            mine = await client.get(sandbox.id)
            data = os.urandom(3_000_000)
            await mine.fs.upload_files([FileUpload(data, "async/ä b.bin"), FileUpload(b"", "async/empty")])
            assert await mine.fs.download_file("async/ä b.bin") == data
            chunks = [chunk async for chunk in await mine.fs.download_file_stream("async/ä b.bin")]
            assert b"".join(chunks) == data

    asyncio.run(run())


def test_folders_info_move_and_delete(sandbox):
    sandbox.fs.create_folder("one/two", "700")
    sandbox.fs.upload_file(b"12345", "one/two/f")
    info = sandbox.fs.get_file_info("one/two/f")
    assert (info.name, info.size, info.is_dir, info.owner) == ("f", 5, False, "sandbox")
    sandbox.fs.set_file_permissions("one/two/f", mode="600")
    assert sandbox.fs.get_file_info("one/two/f").mode == "-rw-------"
    folder = sandbox.fs.get_file_info("one/two")
    assert folder.is_dir and folder.mode.startswith("d")
    sandbox.fs.move_files("one/two/f", "one/g")
    assert {info.name for info in sandbox.fs.list_files("one")} == {"two", "g"}
    with pytest.raises(DaytonaInvalidFilePathError):
        sandbox.fs.delete_file("one")
    sandbox.fs.delete_file("one", recursive=True)
    with pytest.raises(DaytonaFileNotFoundError):
        sandbox.fs.list_files("one")


def test_errors_have_their_precise_classes(sandbox):
    with pytest.raises(DaytonaFileNotFoundError):
        sandbox.fs.get_file_info("missing")
    with pytest.raises(DaytonaFileAccessDeniedError):
        sandbox.fs.create_folder("/usr/mine", "755")
    with pytest.raises(DaytonaInvalidFilePathError):
        sandbox.fs.download_file("/workspace")
    with pytest.raises(DaytonaError, match="denied|read-only") as raised:
        sandbox.fs.upload_file(b"x", "/usr/bin/evil")
    assert raised.value.status_code == 403


def test_paths_stay_inside(server, sandbox):
    secret = server.data.parent / "secret.txt"
    secret.write_text("host secret")
    sandbox.process.exec(f"ln -sf {secret} link; ln -sf / root")
    for path in ("link", f"root{secret}", f"../../../../../../{secret}", str(secret)):
        with pytest.raises(DaytonaFileNotFoundError):
            sandbox.fs.download_file(path)
    with contextlib.suppress(DaytonaError):  # it may make a file of that name inside
        sandbox.fs.upload_file(b"overwritten", "link")
    assert secret.read_text() == "host secret"


def test_a_fifo_does_not_hold_up_the_server(sandbox):
    sandbox.process.exec("mkfifo pipe")
    with pytest.raises(DaytonaError):
        sandbox.fs.download_file("pipe")
    with pytest.raises(DaytonaError, match="not a regular file") as raised:
        sandbox.fs.upload_file(b"x", "pipe")
    assert raised.value.status_code == 400


def test_a_file_that_shrinks_while_it_is_read_is_an_error(sandbox):
    sandbox.process.exec("head -c 80000000 /dev/zero > shrinking")
    stream = sandbox.fs.download_file_stream("shrinking")
    next(stream)
    cut = threading.Thread(target=sandbox.process.exec, args=(": > shrinking",))
    cut.start()
    cut.join()
    with pytest.raises((DaytonaError, httpx.HTTPError)):  # never a short file that looks whole
        for _ in stream:
            pass
