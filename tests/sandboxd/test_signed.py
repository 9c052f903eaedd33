"""URLs of single files that work without the key, and only for what was signed."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest

ODD = "odd/ü n&ä=me? 100%.bin"


@pytest.fixture
def stranger():
    """Somebody without the key."""
    with httpx.Client(timeout=30) as client:
        yield client


def test_download_and_upload_without_the_key(sandbox, stranger):
    data = os.urandom(3_000_000)
    sent = stranger.post(sandbox.upload_url(ODD), content=data)
    assert (sent.status_code, sent.json()["path"]) == (200, ODD)
    got = stranger.get(sandbox.download_url(ODD))
    assert (got.status_code, got.content) == (200, data)
    assert got.headers["content-disposition"].startswith("attachment")
    assert sandbox.fs.download_file(ODD) == data


def test_upload_as_a_form(sandbox, stranger):
    sent = stranger.post(
        sandbox.upload_url("form.txt"), files={"file": ("other name", b"from a form")}, data={"a": "b"}
    )
    assert sent.status_code == 200
    assert sandbox.fs.download_file("form.txt") == b"from a form"
    assert stranger.post(sandbox.upload_url("f"), files={"else": b"x"}).status_code == 400


def test_a_streamed_body_and_an_empty_one(sandbox, stranger):
    chunks = (b"x" * 100_000 for _ in range(20))
    assert stranger.post(sandbox.upload_url("streamed"), content=chunks).status_code == 200
    assert sandbox.fs.get_file_info("streamed").size == 2_000_000
    assert stranger.post(sandbox.upload_url("streamed"), content=b"").status_code == 200
    assert stranger.get(sandbox.download_url("streamed")).content == b""


def test_a_signature_fits_one_thing_only(make, sandbox, stranger):
    sandbox.fs.upload_file(b"a", "a")
    sandbox.fs.upload_file(b"b", "b")
    url = httpx.URL(sandbox.download_url("a", ttl_seconds=600))
    assert stranger.get(url).status_code == 200
    other = make(ephemeral=True)
    other.fs.upload_file(b"a", "a")
    strange = [
        url.copy_set_param("path", "b"),
        url.copy_set_param("expires", "99999999999"),
        url.copy_set_param("signature", "v1_x"),
        url.copy_set_param("expires", "-1"),
        url.copy_remove_param("expires"),
        url.copy_add_param("path", "b"),
        str(url).replace(sandbox.id, other.id),
        str(url).replace("/files/download", "/files"),
        str(url).replace("/files/download", "/files/upload-v2"),
    ]
    assert [stranger.get(u).status_code in (401, 403) for u in strange] == [True] * len(strange)
    assert stranger.post(url).status_code == 403
    assert stranger.get(url.copy_remove_param("signature")).status_code == 401


def test_time_and_rotation_end_a_url(sandbox, stranger):
    sandbox.fs.upload_file(b"a", "a")
    forever = sandbox.download_url("a", ttl_seconds=0)
    assert stranger.get(forever).status_code == 200
    path, key = "a", sandbox._ensure_signing_key()
    from daytona._utils.file_url_signing import compute_file_url_signature

    past = {"path": path, "expires": "1", "signature": compute_file_url_signature(key, "GET", path, 1)}
    base = forever.partition("?")[0]
    assert stranger.get(base, params=past).status_code == 403
    sandbox.rotate_signing_key()
    assert stranger.get(forever).status_code == 403
    assert stranger.get(sandbox.download_url("a")).status_code == 200


def test_errors_of_single_files(sandbox, stranger, server):
    assert stranger.get(sandbox.download_url("missing")).json()["code"] == "FILE_NOT_FOUND"
    assert stranger.get(sandbox.download_url("/workspace")).json()["code"] == "INVALID_FILE_PATH"
    assert stranger.post(sandbox.upload_url("/usr/x"), content=b"x").json()["code"] == "FILE_ACCESS_DENIED"
    with server.http() as client:
        shown = client.get(f"/api/sandbox/{sandbox.id}").text
        assert "signingKey" not in shown and sandbox._ensure_signing_key() not in shown


def test_async_urls(server, sandbox):
    async def run() -> None:
        async with server.async_sdk() as client, httpx.AsyncClient() as stranger:
            mine = await client.get(sandbox.id)
            await stranger.post(await mine.upload_url("async"), content=b"async")
            assert (await stranger.get(await mine.download_url("async"))).content == b"async"

    asyncio.run(run())
