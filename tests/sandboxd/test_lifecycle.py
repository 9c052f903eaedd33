"""Sandboxes through the unmodified SDK: their life, their names and labels, their lists."""

from __future__ import annotations

import asyncio

import pytest
from daytona import (
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
    ListSandboxesQuery,
    SandboxState,
)


def test_a_sandbox_is_started_when_create_returns(make):
    sandbox = make(labels={"purpose": "life"}, env_vars={"COLOUR": "blue"})
    assert sandbox.state == SandboxState.STARTED
    assert sandbox.labels["purpose"] == "life"
    assert sandbox.env == {"COLOUR": "blue"}
    assert sandbox.get_work_dir() == sandbox.get_user_home_dir() == "/workspace"
    assert sandbox.process.exec("echo $COLOUR").result == "blue\n"


def test_get_by_id_and_by_name(client, make):
    sandbox = make(name="a name with spaces")
    assert client.get(sandbox.id).name == "a name with spaces"
    assert client.get("a name with spaces").id == sandbox.id
    assert make().name != sandbox.name


def test_stop_keeps_files_and_ends_processes(client, make):
    sandbox = make()
    sandbox.fs.upload_file(b"kept", "note.txt")
    sandbox.process.exec("sleep 1000 >/dev/null 2>&1 &")
    sandbox.stop()
    assert client.get(sandbox.id).state == SandboxState.STOPPED
    with pytest.raises(DaytonaError, match="not started"):
        sandbox.fs.list_files(".")
    sandbox.start()
    assert sandbox.state == SandboxState.STARTED
    assert sandbox.fs.download_file("note.txt") == b"kept"
    assert "sleep" not in sandbox.process.exec("cat /proc/[0-9]*/comm").result


def test_delete_and_what_is_gone(client, make, server):
    sandbox = make()
    folder = server.data / "sandboxes" / sandbox.id
    assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "record.json").stat().st_mode & 0o777 == 0o600
    sandbox.delete(wait=True)
    assert not folder.exists()
    with pytest.raises(DaytonaNotFoundError):
        client.get(sandbox.id)
    with pytest.raises(DaytonaNotFoundError):
        sandbox.process.exec("true")


def test_an_ephemeral_sandbox_is_deleted_by_stop(client, make):
    sandbox = make(ephemeral=True)
    assert sandbox.auto_delete_interval == 0
    sandbox.stop()
    with pytest.raises(DaytonaNotFoundError):
        client.get(sandbox.id)


def test_a_taken_name_is_a_conflict(make):
    make(name="taken")
    with pytest.raises(DaytonaConflictError, match="exists already"):
        make(name="taken")


def test_labels_and_intervals(client, make):
    sandbox = make(labels={"a": "1"}, ttl_minutes=90)
    sandbox.set_labels({"b": "2"})
    sandbox.set_autostop_interval(30)
    sandbox.set_auto_delete_interval(60)
    again = client.get(sandbox.id)
    assert (again.labels, again.auto_stop_interval, again.auto_delete_interval) == ({"b": "2"}, 30, 60)
    assert again.auto_destroy_at > again.created_at
    with pytest.raises(DaytonaError, match="is 1000000000000;") as raised:
        sandbox.set_autostop_interval(10**12)
    assert raised.value.status_code == 400


def test_lists_are_filtered_and_paged(client, make):
    ids = {make(labels={"list": "paged", "n": str(n)}, ephemeral=True).id for n in range(5)}
    listed = list(client.list(ListSandboxesQuery(labels={"list": "paged"}, limit=2)))
    assert [s.id for s in listed] == list(dict.fromkeys(s.id for s in listed)), "no sandbox twice"
    assert {s.id for s in listed} == ids
    assert [s.labels["n"] for s in listed] == ["4", "3", "2", "1", "0"], "newest first"
    one = list(client.list(ListSandboxesQuery(labels={"list": "paged", "n": "3"})))
    assert len(one) == 1
    assert not list(client.list(ListSandboxesQuery(labels={"list": "other"})))
    assert not list(client.list(ListSandboxesQuery(labels={"list": "paged"}, states=[SandboxState.STOPPED])))


def test_lists_are_bounded_by_size_and_time(client, make, server):
    sandbox = make(labels={"list": "ranges"}, ttl_minutes=60)
    with server.http() as http:

        def found(**bounds) -> list[str]:
            query = {"labels": '{"list": "ranges"}', **bounds}
            return [item["id"] for item in http.get("/api/sandbox", params=query).json()["items"]]

        assert found(minCpu=1, maxMemoryGiB=1, maxDiskGiB=3) == [sandbox.id]
        assert found(minCpu=2) == found(maxDiskGiB=2) == found(snapshots="other") == []
        assert found(createdAtAfter=sandbox.created_at, createdAtBefore="2999-01-01T00:00:00Z") == [sandbox.id]
        assert found(createdAtBefore="2001-01-01") == found(autoDestroyAtAfter="2999-01-01T00:00:00+01:00") == []


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (CreateSandboxFromImageParams(image="ubuntu:24.04"), "image"),
        (CreateSandboxFromSnapshotParams(snapshot="nowhere"), "snapshot"),
        (CreateSandboxFromSnapshotParams(network_allow_list="10.0.0.0/88"), "networkAllowList"),
        (CreateSandboxFromSnapshotParams(env_vars={"A=B": "c"}), "environment variable"),
        (CreateSandboxFromSnapshotParams(name="a/b"), "name"),
    ],
)
def test_what_cannot_be_had_is_said(client, params, text):
    with pytest.raises(DaytonaError, match=text):
        client.create(params)


def test_many_at_once_through_the_async_sdk(server):
    async def run() -> None:
        async with server.async_sdk() as client:
            params = [CreateSandboxFromSnapshotParams(ephemeral=True, labels={"crowd": "yes"}) for _ in range(16)]
            crowd = await asyncio.gather(*(client.create(p) for p in params))
            results = await asyncio.gather(*(s.process.exec(f"echo {n}") for n, s in enumerate(crowd)))
            assert [r.result for r in results] == [f"{n}\n" for n in range(16)]
            await asyncio.gather(*(s.delete() for s in crowd))
            assert [s async for s in client.list(ListSandboxesQuery(labels={"crowd": "yes"}))] == []

    asyncio.run(run())
