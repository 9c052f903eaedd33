"""Volumes through the SDK: shared between sandboxes, by subpath, read-only where the label says so."""

from __future__ import annotations

import uuid

import pytest
from daytona import DaytonaBadRequestError, DaytonaConflictError, DaytonaNotFoundError, VolumeMount

LABEL = "sandboxd.read-only-mounts"


@pytest.fixture
def volume(client):
    volume = client.volume.create(f"volume-{uuid.uuid4()}")
    yield volume
    client.volume.delete(volume)


def run(sandbox, command: str) -> str:
    return sandbox.process.exec(command).result


def test_create_get_list_delete(client):
    volume = client.volume.create("first")
    assert volume.state == "ready"
    assert client.volume.get("first").id == volume.id
    assert "first" in {v.name for v in client.volume.list()}
    with pytest.raises(DaytonaConflictError):
        client.volume.create("first")
    client.volume.delete(volume)
    with pytest.raises(DaytonaNotFoundError):
        client.volume.get("first")
    again = client.volume.get("first", create=True)
    assert again.id != volume.id
    client.volume.delete(again)


def test_shared_between_sandboxes_and_kept_after_them(client, make, volume):
    writer = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data")])
    writer.fs.upload_file(b"shared", "/data/from-host.txt")
    assert run(writer, "mkdir /data/d && echo more > /data/d/f; echo $?") == "0\n"
    reader = make(volumes=[VolumeMount(volume_id=volume.name, mount_path="/workspace/in/data")])
    assert run(reader, "cat in/data/from-host.txt in/data/d/f") == "sharedmore\n"
    assert run(reader, "echo changed > in/data/d/f; cat in/data/d/f") == "changed\n"
    assert run(writer, "cat /data/d/f") == "changed\n"
    reader.fs.upload_file(b"uploaded again", "in/data/from-host.txt")
    assert run(writer, "echo >> /data/from-host.txt; cat /data/from-host.txt") == "uploaded again\n"
    with pytest.raises(DaytonaConflictError):
        client.volume.delete(volume)
    writer.delete()
    reader.delete()
    third = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data")])
    assert run(third, "cat /data/d/f") == "changed\n"
    third.delete()


def test_subpaths_are_walls(make, volume):
    left = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data", subpath="runs/left")])
    right = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data", subpath="runs/right/")])
    assert run(left, "echo left > /data/f; ls -a /data /data/..; cat /data/../right/f 2>&1").count("right") == 1
    assert run(right, "ls /data") == ""
    whole = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/whole")])
    assert run(whole, "find /whole -type f") == "/whole/runs/left/f\n"
    for sandbox in (left, right, whole):
        sandbox.delete()


def test_read_only_by_label_while_another_writes(make, volume):
    writer = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data", subpath="context")])
    mount = VolumeMount(volume_id=volume.id, mount_path="/context", subpath="context")
    scratch = VolumeMount(volume_id=volume.id, mount_path="/scratch", subpath="scratch")
    reader = make(volumes=[mount, scratch], labels={LABEL: "/context"})
    writer.fs.upload_file(b"fact", "/data/f.txt")
    assert run(reader, "cat /context/f.txt") == "fact"
    assert "Read-only file system" in run(reader, "echo x > /context/f.txt")
    assert run(reader, "echo ok > /scratch/f && cat /scratch/f") == "ok\n"
    only = make(volumes=[mount], labels={LABEL: "/context"})
    assert run(only, "cat /context/f.txt; touch /context/new; ls /context").endswith("f.txt\n")
    assert run(writer, "cat /data/f.txt; ls /data") == "factf.txt\n"
    for sandbox in (writer, reader, only):
        sandbox.delete()


def test_a_link_in_a_volume_cannot_be_mounted_through(make, volume):
    hostile = make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data")])
    run(hostile, "ln -s / /data/out; ln -s /etc /data/etc")
    for subpath in ("out", "out/etc", "etc"):
        with pytest.raises(DaytonaBadRequestError, match="not a folder"):
            make(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data", subpath=subpath)])
    hostile.delete()


@pytest.mark.parametrize(
    ("mount_path", "subpath", "error"),
    [
        ("data", None, DaytonaBadRequestError),
        ("/", None, DaytonaBadRequestError),
        ("/usr/lib", None, DaytonaBadRequestError),
        ("/workspace", None, DaytonaBadRequestError),
        ("/a/../etc", None, DaytonaBadRequestError),
        ("/data", "../other", DaytonaBadRequestError),
        ("/data", "/etc", DaytonaBadRequestError),
    ],
)
def test_mounts_that_cannot_be(make, volume, mount_path, subpath, error):
    with pytest.raises(error):
        make(volumes=[VolumeMount(volume_id=volume.id, mount_path=mount_path, subpath=subpath)])


def test_unknown_volume_and_two_at_one_place(make, volume):
    with pytest.raises(DaytonaNotFoundError):
        make(volumes=[VolumeMount(volume_id="absent", mount_path="/data")])
    twice = [VolumeMount(volume_id=volume.id, mount_path=path) for path in ("/data", "/data/sub")]
    with pytest.raises(DaytonaBadRequestError):
        make(volumes=twice)
