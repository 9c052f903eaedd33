"""Citations: which written places count, and what they quote."""

import msgspec
import pytest

from fleet_rlm.runtime.content.citations import MAX_CITATIONS, find_citations
from fleet_rlm.runtime.content.contexts import ContextStore


@pytest.fixture
def store(tmp_path) -> ContextStore:
    return ContextStore(tmp_path)


def test_places_of_texts_and_trees(store):
    text = store.add_text("server.log", "alpha\nbeta\r\ngamma")
    tree = store.add_files(
        "proj", [("src/a.py", [b"one\ntwo\n"]), ("doc/read me.md", [b"title\n"]), ("lib/a.py", [b"x\n"])]
    )
    answer = (
        "See server.log:2, (`src/a.py:2`) and **doc/read me.md:1**; also proj/lib/a.py:1-3.\n"
        "Not: server.log:9, a.py:1 (two files), other.log:1, xserver.log:1, server.log:0, 12:30, http://x:80/\n"
        "Again server.log:2. By its last part: read me.md:1"
    )
    found = find_citations(answer, [text, tree], store)
    assert [(c.context, c.path, c.line, c.quote) for c in found] == [
        ("server.log", "server.log", 2, "beta"),
        ("proj", "src/a.py", 2, "two"),
        ("proj", "doc/read me.md", 1, "title"),
        ("proj", "lib/a.py", 1, "x"),
    ]
    assert store.read(text.sha256, found[0].start, found[0].end) == "beta\r"
    assert store.read(tree.sha256, found[1].start, found[1].end) == "two"


def test_a_text_attached_under_another_name_than_stored(store):
    store.add_text("first.txt", "hello\n")
    second = store.add_text("second.txt", "hello\n")
    for written in ("first.txt:1", "second.txt:1"):
        (citation,) = find_citations(written, [second], store)
        assert (citation.context, citation.path, citation.quote) == ("second.txt", "second.txt", "hello")


def test_a_stored_name_that_two_contexts_have_is_no_place(store):
    refs = [store.add_text("log.txt", text) for text in ("alpha\n", "beta\n")]
    called = [msgspec.structs.replace(ref, name=name) for ref, name in zip(refs, ("x.txt", "y.txt"), strict=True)]
    found = find_citations("log.txt:1 y.txt:1", called, store)
    assert [(citation.context, citation.quote) for citation in found] == [("y.txt", "beta")]


def test_bounds(store):
    ref = store.add_text("t", "\n".join("x" * 1000 for _ in range(200)))
    answer = " ".join(f"t:{line}" for line in range(1, 201))
    found = find_citations(answer, [ref], store)
    assert len(found) == MAX_CITATIONS
    assert max(len(citation.quote) for citation in found) == 300


def test_none_without_contexts(store):
    assert find_citations("a.txt:1", [], store) == []
