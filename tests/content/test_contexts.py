"""Contexts: what is stored, how it is addressed, and what is refused."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_rlm.errors import InvalidInput, NotFound, StorageError, TooLarge
from fleet_rlm.runtime.content import tree
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.index import STRIDE
from fleet_rlm.runtime.content.sources import add_named

TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from("ab \n\n\r\té🎉\u2028\x85"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=400,
).filter(lambda text: not text.startswith("\ufeff"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> ContextStore:
    return ContextStore(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path / "home")


def naive_lines(text: str) -> list[str]:
    rows = text.split("\n")
    return rows[:-1] if text.endswith("\n") or not text else rows


def check_against_python(store: ContextStore, sha256: str, whole: str) -> None:
    """The stored index says what plain Python says about the same text."""
    index = store.index(sha256)
    data = whole.encode()
    assert store.data_path(sha256).read_bytes() == data
    assert (index.chars, index.bytes) == (len(whole), len(data))
    expected = [(len(whole[:at].encode()), whole[:at].count("\n")) for at in range(0, len(whole) + 1, STRIDE)]
    assert index.checkpoints == expected
    for entry in index.files:
        piece = whole[entry.char : entry.char + entry.chars]
        assert len(whole[: entry.char].encode()) == entry.byte
        assert len(piece.encode()) == entry.bytes
        assert entry.lines == len(naive_lines(piece))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    unit=TEXT,
    repeat=st.sampled_from([1, 1, 3, 700]),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5),
    pick=st.data(),
)
def test_any_text_is_addressed_as_python_would(shared, unit, repeat, sizes, pick):
    whole = unit * repeat
    data = whole.encode()
    pieces, at = [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    ref = shared.add_stream("x", iter(pieces))
    assert ref.sha256 == hashlib.sha256(data).hexdigest()
    assert (ref.kind, ref.chars, ref.bytes, ref.lines, ref.files) == (
        "text",
        len(whole),
        len(data),
        len(naive_lines(whole)),
        1,
    )
    check_against_python(shared, ref.sha256, whole)
    start = pick.draw(st.integers(-5, len(whole) + 5))
    end = pick.draw(st.integers(-5, len(whole) + 5))
    assert shared.read(ref.sha256, start, end) == whole[max(start, 0) : max(end, 0)]
    rows = naive_lines(whole)
    first = pick.draw(st.integers(1, len(rows)))
    last = pick.draw(st.integers(first, len(rows)))
    assert shared.lines(ref.sha256, "x", first, last) == [row.removesuffix("\r") for row in rows[first - 1 : last]]
    begin, stop = shared.line_span(ref.sha256, "x", first)
    assert whole[begin:stop] == rows[first - 1]
    assert whole[:begin].count("\n") == first - 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.one_of(st.just(""), TEXT), min_size=1, max_size=6),
    repeat=st.sampled_from([1, 500]),
    pick=st.data(),
)
def test_any_tree_is_addressed_as_python_would(shared, texts, repeat, pick):
    texts = [text * repeat for text in texts]
    if not any(texts):
        texts.append("x")
    files = [(f"d/{number}.txt", [text.encode()]) for number, text in enumerate(texts)]
    ref = shared.add_files("folder", files)
    assert (ref.kind, ref.files) == ("tree", len(texts))
    assert ref.lines == sum(len(naive_lines(text)) for text in texts)
    check_against_python(shared, ref.sha256, "".join(texts))
    number = pick.draw(st.integers(0, len(texts) - 1))
    rows = naive_lines(texts[number])
    got = shared.lines(ref.sha256, f"d/{number}.txt", 1, len(rows) + 3)
    assert got == [row.removesuffix("\r") for row in rows]
    for line in range(1, len(rows) + 1)[:20]:
        begin, stop = shared.line_span(ref.sha256, f"d/{number}.txt", line)
        assert "".join(texts)[begin:stop] == rows[line - 1]
        if stop > begin:
            assert shared.index(ref.sha256).file_at(begin).path == f"d/{number}.txt"


def test_exactly_one_stride(store):
    for size in (STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE):
        for unit in ("a", "é"):
            ref = store.add_text("s", unit * size)
            check_against_python(store, ref.sha256, unit * size)
            assert store.read(ref.sha256, size - 1, size) == unit


def test_line_ends_stay_and_a_byte_order_mark_goes(store):
    ref = store.add_stream("w.txt", [b"\xef", b"\xbb\xbfone\r\n", b"two\r\n"])
    assert store.read(ref.sha256, 0, 99) == "one\r\ntwo\r\n"
    assert store.lines(ref.sha256, "w.txt", 1, 9) == ["one", "two"]
    assert ref.sha256 == hashlib.sha256(b"one\r\ntwo\r\n").hexdigest()


def test_the_same_content_is_stored_once_under_both_names(store):
    first = store.add_text("a", "same")
    again = store.add_text("b", "same")
    assert (first.name, again.name) == ("a", "b")
    assert first.sha256 == again.sha256
    assert store.get(first.sha256).name == "a"
    assert len(list(store.data_path(first.sha256).parent.parent.iterdir())) == 1


def test_tree_identity_covers_its_file_table(store):
    one = store.add_files("t", [("a", [b"xy"]), ("b", [b"z"])])
    moved = store.add_files("t", [("a", [b"x"]), ("b", [b"yz"])])
    same = store.add_files("u", [("a", [b"x", b"y"]), ("b", [b"z"])])
    assert one.sha256 != moved.sha256
    assert one.sha256 == same.sha256
    assert store.read(one.sha256, 0, 9) == store.read(moved.sha256, 0, 9)


def test_files_and_folders_are_private_and_nothing_is_left_over(store, tmp_path):
    ref = store.add_text("a", "text")
    folder = store.data_path(ref.sha256).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"data": 0o600, "index.json": 0o600}
    with pytest.raises(InvalidInput):
        store.add_text("e", "")
    assert [path.name for path in folder.parent.iterdir()] == [ref.sha256]


def test_the_index_is_the_published_format(store):
    ref = store.add_text("a.txt", "one\ntwo")
    assert json.loads(store.index_path(ref.sha256).read_text()) == {
        "v": 1, "kind": "text", "name": "a.txt", "sha256": ref.sha256, "chars": 7, "bytes": 7, "lines": 2,
        "stride": 65536, "skipped": 0, "checkpoints": [[0, 0]],
        "files": [{"path": "a.txt", "char": 0, "byte": 0, "chars": 7, "bytes": 7, "lines": 2}],
    }  # fmt: skip


def test_a_folder_takes_text_and_leaves_out_the_rest(store, tmp_path):
    root = tmp_path / "proj"
    for name in ("src", ".git", "node_modules/x", "src/__pycache__"):
        (root / name).mkdir(parents=True)
    (root / "b.txt").write_text("bee\n")
    (root / "src/a.py").write_text("print(1)")
    (root / "src/empty.py").write_text("")
    (root / "src/latin.txt").write_bytes("caf\xe9 au lait".encode("latin-1") + b"x" * 3_000_000)
    (root / "src/pic.png").write_bytes(b"\x89PNG\0\0" * 10)
    (root / ".env").write_text("KEY=secret")
    (root / ".git/config").write_text("x")
    (root / "node_modules/x/i.js").write_text("x")
    (root / "src/__pycache__/a.pyc").write_text("x")
    (root / "src/link.txt").symlink_to(root / ".env")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    ref = store.add_path(root)
    index = store.index(ref.sha256)
    assert [entry.path for entry in index.files] == ["b.txt", "src/a.py", "src/empty.py"]
    assert (ref.name, ref.files, ref.lines) == ("proj", 3, 2)
    assert store.read(ref.sha256, 0, 999) == "bee\nprint(1)"
    assert index.skipped == 5  # latin.txt, pic.png, .env, link.txt, pipe; a linked folder is never entered
    check_against_python(store, ref.sha256, "bee\nprint(1)")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s, d: s.add_path(d / "nothing.txt"), "does not exist"),
        (lambda s, d: s.add_path(d / ("x" * 400)), "File name too long"),
        (lambda s, d: s.add_path(d / "pic.bin" / "x"), "does not exist"),
        (lambda s, d: s.add_path(d / "pic.bin"), "binary"),
        (lambda s, d: s.add_path(d / "latin.txt"), "not UTF-8"),
        (lambda s, d: s.add_path(d / "empty.txt"), "empty"),
        (lambda s, d: s.add_path(d / "cut.txt"), "not UTF-8"),
        (lambda s, d: s.add_path(d / "hollow"), "no text file"),
        (lambda s, d: s.add_path(Path("/dev/zero")), "neither a file nor a folder"),
        (lambda s, d: s.add_text("t", "a\0b"), "binary"),
        (lambda s, d: s.add_text("t", "a\ud800b"), "surrogate"),
        (lambda s, d: s.add_text("t", "\ufeff"), "empty"),
        (lambda s, d: s.add_files("t", [("../x", [b"a"])]), "bad file path"),
        (lambda s, d: s.add_files("t", [("/etc/x", [b"a"])]), "bad file path"),
        (lambda s, d: s.add_files("t", [("a\nb", [b"a"])]), "bad file path"),
        (lambda s, d: s.add_files("t", [("x", [b"a"]), ("./x", [b"b"])]), "comes twice"),
        (lambda s, d: s.add_files("t", [("x", [b""])]), "empty"),
    ],
)
def test_bad_input_is_one_clear_line(store, tmp_path, make, said):
    (tmp_path / "pic.bin").write_bytes(b"GIF\0\0")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "cut.txt").write_bytes("caf\u00e9".encode()[:-1])
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InvalidInput) as caught:
        make(store, tmp_path)
    assert said in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x does not exist"),
        ("~$doc.docx", "~$doc.docx does not exist"),
        ("x" * 400, "File name too long"),
        ("x" * 400 + "@HEAD", "File name too long"),
        ("git+file:///" + "x" * 400, "File name too long"),
        ("a\0b", "does not exist"),
    ],
)
def test_a_name_that_stands_for_nothing_is_one_clear_line(store, tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        add_named(store, name)
    assert said in caught.value.message


def test_a_file_whose_name_begins_like_a_home_folder_is_taken_as_it_is(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me").mkdir()
    (tmp_path / "me/a.txt").write_text("mine")
    (tmp_path / "~$notes.txt").write_text("theirs")
    assert store.read(add_named(store, "~$notes.txt").sha256, 0, 9) == "theirs"
    assert store.read(add_named(store, "~/a.txt").sha256, 0, 9) == "mine"


@pytest.mark.parametrize(("made", "folder"), [(ContextStore, "contexts"), (BlobStore, "blobs")])
def test_a_file_in_place_of_the_folder_is_one_clear_line(tmp_path, made, folder):
    (tmp_path / folder).write_text("")
    with pytest.raises(StorageError, match=f"^cannot use the folder {tmp_path / folder}: File exists$"):
        made(tmp_path)


def test_too_large_says_so(tmp_path):
    store = ContextStore(tmp_path / "home", max_bytes=1000)
    (tmp_path / "big.txt").write_text("x" * 1001)
    for make in (lambda: store.add_path(tmp_path / "big.txt"), lambda: store.add_stream("s", [b"x" * 600] * 2)):
        with pytest.raises(TooLarge):
            make()
    assert store.add_text("fits", "x" * 1000).bytes == 1000


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_text_with_a_mark_of_its_encoding_is_text(store, codec):
    text = "caf\xe9 \U0001f642\n" * 300
    data = ("\ufeff" + text).encode(codec)
    ref = store.add_stream("notes.txt", [data[:1], data[1:7], data[7:]])
    assert store.read(ref.sha256, 0, 9999) == text
    assert ref == store.add_text("notes.txt", text)
    folder = store.add_files("p", [("a.txt", [data]), ("b.txt", [data[:-1]])])
    assert (folder.files, store.index(folder.sha256).skipped) == (1, 1)
    with pytest.raises(InvalidInput, match=f"b.txt: it is not {codec.upper()}"):
        store.add_stream("b.txt", [data[:-1]])


def test_a_pipe_is_read_to_its_end_and_bounded(tmp_path):
    store = ContextStore(tmp_path / "home", max_bytes=1_000_000)
    for size in (500_000, 1_000_001):
        read, write = os.pipe()

        def fill(write: int = write, size: int = size) -> None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(write, "wb") as file:
                file.write(b"x" * size)

        writer = threading.Thread(target=fill)
        writer.start()
        try:
            if size > 1_000_000:
                with pytest.raises(TooLarge, match="pipe is larger"):
                    add_named(store, f"/dev/fd/{read}")
            else:
                ref = add_named(store, f"/dev/fd/{read}")
                assert (ref.name, ref.chars) == ("pipe", size)
        finally:
            os.close(read)
            writer.join()


def test_unreadable_file(store):
    with pytest.raises(InvalidInput, match="cannot read /proc/self/mem: Input/output error"):
        store.add_path(Path("/proc/self/mem"))


def test_a_file_that_goes_or_fails_while_its_folder_is_read_is_left_out(store, tmp_path):
    for name in ("a.txt", "b.txt", "c.txt", "c.pdf"):
        (tmp_path / name).write_text("%PDF-" if name == "c.pdf" else "text\n")
    files = iter([*tree.walk(tmp_path)])
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.pdf").unlink()
    broken = ("z.txt", chain([b"x" * 2000], tree.read_chunks(Path("/proc/self/mem"))))
    ref = store.add_tree("p", chain(((shown, tree.read_chunks(file)) for shown, file in files), [broken]))
    index = store.index(ref.sha256)
    assert ([entry.path for entry in index.files], index.skipped) == (["a.txt", "c.txt"], 3)
    assert store.read(ref.sha256, 0, 999) == "text\ntext\n"
    gone, failed = "No such file or directory", "Input/output error"
    assert index.unread == [f"b.txt: {gone}", f"c.pdf: {gone}", f"z.txt: {failed}"]


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read everything")
def test_what_may_not_be_read_in_a_folder_is_left_out_and_named(tmp_path):
    root = tmp_path / "p"
    (root / "closed").mkdir(parents=True)
    (root / "listed/deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "closed/c.txt", "listed/d.txt"):
        (root / name).write_text("needle\n")
    code = (
        "import sys, pathlib\nfrom fleet_rlm.errors import InvalidInput\n"
        "from fleet_rlm.runtime.content.contexts import ContextStore\n"
        "store = ContextStore(pathlib.Path(sys.argv[1]))\n"
        "try:\n    ref = store.add_path(pathlib.Path(sys.argv[2]))\n"
        "    print(ref.files, store.index(ref.sha256).unread)\n"
        "except InvalidInput as error:\n    print(error)"
    )
    powers = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]
    as_other = powers if os.geteuid() == 0 else []

    def said(path: Path) -> str:
        command = [*as_other, sys.executable, "-c", code, tmp_path / "home", path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    shut = {"b.txt": 0, "closed": 0, "listed": 0o400}
    for name, mode in shut.items():
        (root / name).chmod(mode)
    try:
        named = ["b.txt", "closed", "listed/d.txt", "listed/deep"]
        assert said(root) == f"1 {[f'{name}: Permission denied' for name in named]}"
        assert said(root / "closed/c.txt") == f"cannot read {root / 'closed/c.txt'}: Permission denied"
        assert said(root / "closed") == f"cannot read {root / 'closed'}: Permission denied"
    finally:
        for name in shut:
            (root / name).chmod(0o700)


def test_unknown_and_malformed_names(store):
    for name in ("0" * 64, "../../etc", "", "A" * 64):
        with pytest.raises(NotFound):
            store.get(name)
    ref = store.add_files("t", [("a", [b"x"])])
    with pytest.raises(NotFound):
        store.lines(ref.sha256, "b", 1, 1)
    with pytest.raises(NotFound):
        store.line_span(ref.sha256, "a", 2)


def test_many_writers_of_one_content(store):
    text = "line\n" * 200_000
    found, barrier = [], threading.Barrier(8)

    def add() -> None:
        barrier.wait()
        found.append(store.add_text("t", text).sha256)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 8
    assert [path.name for path in store.data_path(found[0]).parent.parent.iterdir()] == [found[0]]


def test_a_stream_that_breaks_leaves_nothing(store):
    def broken():
        yield b"first part"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store.add_stream("s", broken())
    assert list(store.data_path("0" * 64).parent.parent.iterdir()) == []


def test_a_second_store_sees_what_the_first_wrote(store, tmp_path):
    ref = store.add_text("a", "hello\n")
    assert ContextStore(tmp_path / "home").get(ref.sha256) == ref


def test_lines_are_bounded(store):
    ref = store.add_text("a", "x" * 3_000_000)
    assert len(store.lines(ref.sha256, "a", 1, 1)[0]) == 1_000_000


def test_a_character_has_a_file_and_a_line(store):
    """At every character of a tree: the line counted by hand, also at line ends, after an empty file, past a stride."""
    texts = {"a.txt": "one\ntwo\n", "b/empty.txt": "", "b/long.txt": "é\n" * 40_000 + "end"}
    ref = store.add_files("t", ((path, [text.encode()]) for path, text in texts.items()))
    whole = store.read(ref.sha256, 0, ref.chars)
    for entry in store.index(ref.sha256).files:
        for at in {0, 1, 3, 4, entry.chars // 2, entry.chars - 1} & set(range(entry.chars)):
            line = whole[entry.char : entry.char + at].count("\n") + 1
            assert store.place(ref.sha256, entry.char + at) == (entry.path, line)
    with pytest.raises(NotFound, match="no character"):
        store.place(ref.sha256, ref.chars)
    with pytest.raises(NotFound):
        store.place("0" * 64, 0)


def test_a_store_opens_while_another_process_finishes_an_upload(tmp_path: Path) -> None:
    """What stood there when the folder was read may have its place by now: a link to nothing looks the same."""
    ContextStore(tmp_path)
    (tmp_path / "contexts" / ".new-0123456789abcdef").symlink_to(tmp_path / "moved")
    assert ContextStore(tmp_path).add_text("a", "text").chars == 4


@pytest.mark.parametrize(
    ("file", "size"), [("index.json", 30), ("index.json", 0), ("index.json", None), ("data", 100), ("data", None)]
)
def test_a_damaged_context_is_mended_by_adding_it_again(store: ContextStore, file: str, size: int | None) -> None:
    text = "line of text\n" * 500
    ref = store.add_text("n", text)
    damaged = store.data_path(ref.sha256).with_name(file)
    if size is None:
        damaged.unlink()
    else:
        os.truncate(damaged, size)
    anew = ContextStore(store.data_path(ref.sha256).parents[2])
    assert anew.add_text("n", text) == ref
    check_against_python(anew, ref.sha256, text)
    assert [path.name for path in store.data_path(ref.sha256).parents[1].iterdir()] == [ref.sha256]
