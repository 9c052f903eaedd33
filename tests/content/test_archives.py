"""Archives: unpacked into a set within bounds, never out of it."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile

import pytest

from content.documents import pdf, tarred, zipped
from fleet_rlm.errors import InvalidInput, TooLarge
from fleet_rlm.runtime.content.citations import find_citations
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.extract.reader import DocumentReader

FILES = {"src/b.py": b"print(1)\n", "a.txt": b"alpha\n", "doc.pdf": pdf(["inside"]), ".env": b"KEY=x", "pic": b"\0\1"}


@pytest.fixture
def store(tmp_path) -> ContextStore:
    return ContextStore(tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.zip", zipped(FILES)),
        ("p.tar", tarred(FILES, "w:")),
        ("p.tar.gz", tarred(FILES)),
        ("p.tar.bz2", tarred(FILES, "w:bz2")),
        ("p.tar.xz", tarred(FILES, "w:xz")),
        ("stdin", tarred(FILES)),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_an_archive_is_a_set_of_its_files(store, name, data):
    ref = store.add_stream(name, [data])
    index = store.index(ref.sha256)
    assert (ref.kind, ref.name, ref.files, index.skipped) == ("tree", name, 3, 2)
    assert [entry.path for entry in index.files] == ["a.txt", "doc.pdf", "src/b.py"]
    found = find_citations(f"a.txt:1 {name}/src/b.py:1 doc.pdf:2", [ref], store)
    assert [(c.quote, c.place) for c in found] == [("alpha", None), ("print(1)", None), ("inside", "page 1")]


def test_the_same_files_are_the_same_context(store, tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    (root / "a.txt").write_text("a\n")
    (root / "b.txt").write_text("b\n")
    one = store.add_stream("p.zip", [zipped({"b.txt": "b\n", "a.txt": "a\n"})])
    assert one.sha256 == store.add_path(root).sha256


def test_links_and_devices_stay_out(store):
    link, hard, device = tarfile.TarInfo("link"), tarfile.TarInfo("hard"), tarfile.TarInfo("device")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../etc/passwd"
    device.type = tarfile.CHRTYPE
    ref = store.add_stream("t.tgz", [tarred({"a": b"x"}, extra=[link, hard, device])])
    assert (ref.files, store.index(ref.sha256).skipped) == (1, 3)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("a", "another")
    ref = store.add_stream("t.zip", [out.getvalue()])
    assert (ref.files, store.index(ref.sha256).skipped) == (1, 1)


def encrypted_zip() -> bytes:
    data = bytearray(zipped({"a.txt": "secret"}, packed=False))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", data, data.index(mark) + at, 1)
    return bytes(data)


def flipped_zip() -> bytes:
    data = bytearray(zipped({"a.txt": "x" * 100}, packed=False))
    data[60] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("e.zip", encrypted_zip(), "encrypted"),
        ("e.zip", zipped({"../up.txt": "x"}), "'../up.txt', which leaves its folder"),
        ("e.zip", zipped({"a/../../up.txt": "x"}), "leaves its folder"),
        ("e.tar", tarred({"/etc/cron.d/x": b"x"}, "w:"), "leaves its folder"),
        ("e.zip", flipped_zip(), "damaged archive"),
        ("e.zip", b"PK\x03\x04 cut", "damaged archive"),
        ("e.tgz", tarred({"a": bytes(range(256)) * 999})[:-200], "damaged archive"),
        ("e.csv.gz", gzip.compress(b"a,b\n" * 999), "no tar archive"),
        ("e.gz", b"\x1f\x8b\x08" + b"x" * 99, "damaged archive"),
        ("e.zip", zipped({}), "no text file"),
        ("e.zip", zipped({"pic": b"\0"}), "no text file"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else "data"
    ),  # else the bytes, which hold the time of day, name the test, and two collections differ
)
def test_bad_archives_are_one_clear_line(store, tmp_path, name, data, said):
    with pytest.raises(InvalidInput) as caught:
        store.add_stream(name, [data])
    assert said in caught.value.message
    assert caught.value.message.startswith(name)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "home/contexts").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_bombs_are_given_up(store, tmp_path):
    with pytest.raises(TooLarge, match="200 times its size"):
        store.add_stream("bomb.zip", [zipped({f"{n}.txt": b"0" * 10_000_000 for n in range(4)})])
    with pytest.raises(TooLarge, match="200 times its size"):
        store.add_stream("bomb.tgz", [tarred({"0.txt": b"0" * 40_000_000})])
    small = ContextStore(tmp_path / "small", max_bytes=1_000_000)
    with pytest.raises(TooLarge):
        small.add_stream("many.zip", [zipped({f"{n}.txt": bytes([65 + n]) * 300_000 for n in range(4)})])
    with (
        DocumentReader(tmp_path, 10**9, max_files=1_000) as reader,
        pytest.raises(TooLarge, match="holds more than 1000 files"),
    ):
        reader.read("many.tar", "tar", [tarred({f"{n}.txt": b"" for n in range(1_001)}, "w:")])
    assert list((tmp_path / "home/contexts").iterdir()) == []


def test_a_huge_header_needs_no_memory_of_ours(store):
    """A pax header that declares and holds 4 GB of zeros, packed small."""
    head = tarfile.TarInfo("pax")
    head.type, head.size = tarfile.XHDTYPE, 4 << 30
    data = [gzip.compress(head.tobuf(tarfile.USTAR_FORMAT)), *[gzip.compress(bytes(1 << 26))] * 64]
    with pytest.raises((InvalidInput, TooLarge)) as caught:
        store.add_stream("pax.tgz", data)
    assert "\n" not in str(caught.value)
