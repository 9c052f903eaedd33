"""Documents: their text, the way back to page, row and cell, and what is refused."""

import gzip
import hashlib
import json
import os
import sys
import tarfile
import time
from pathlib import Path

import msgspec
import pytest

import fleet_rlm
from content.documents import docx, encrypted_pdf, notebook, ods, pdf, tarred, xlsx, zipped
from fleet_rlm.errors import InvalidInput, NotConfigured, TooLarge
from fleet_rlm.runtime.content.citations import find_citations
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.extract.reader import DocumentReader, Unreadable

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path / "home")


def text_of(store: ContextStore, ref) -> str:
    return store.read(ref.sha256, 0, ref.chars)


def line_with(text: str, words: str) -> int:
    return 1 + next(n for n, line in enumerate(text.split("\n")) if words in line)


def test_pdf_page_by_page_and_back(store):
    data = pdf(["Alpha page\nsecond line", "", "The vault is in the cellar"])
    ref = store.add_stream("plan.pdf", [data[:700], data[700:]])
    text = text_of(store, ref)
    assert text.split("\n") == [
        "=== page 1 ===",
        "Alpha page",
        "second line",
        "=== page 2 ===",
        "=== page 3 ===",
        "The vault is in the cellar",
        "",
    ]
    (entry,) = store.index(ref.sha256).files
    assert entry.origin is not None
    assert (entry.origin.kind, entry.origin.bytes, entry.origin.starts) == ("pdf", len(data), [1, 4, 5])
    assert entry.origin.sha256 == hashlib.sha256(data).hexdigest()
    (citation,) = find_citations("It is in the cellar (plan.pdf:6).", [ref], store)
    assert (citation.line, citation.place, citation.quote) == (6, "page 3", "The vault is in the cellar")
    raw = json.loads(store.index_path(ref.sha256).read_text())
    assert raw["files"][0]["origin"]["starts"] == [1, 4, 5]


def test_spreadsheets_keep_rows_on_lines(store):
    data = xlsx({"Prices": {"A1": "what", "B1": "how, much", "B4": 3.5, "A4": "two\nlines"}, "Q & A": {"A2": 7}})
    ref = store.add_stream("shop.xlsx", [data])
    text = text_of(store, ref)
    assert text == '=== sheet Prices ===\nwhat,"how, much"\n\n\ntwo lines,3.5\n=== sheet Q & A ===\n\n7\n'
    found = find_citations("shop.xlsx:5 shop.xlsx:8 shop.xlsx:6", [ref], store)
    assert [c.place for c in found] == ["sheet Prices, row 4", "sheet Q & A, row 2", "sheet Q & A"]


def test_errors_of_cells_are_told(store):
    rows = 40_000  # more than is read at once
    cells = {f"A{row}": f"row {row}" for row in range(1, rows)}
    errors = {f"B{row}": "#DIV/0!" for row in range(1, rows, 777)} | {"B2": "#N/A", f"B{rows - 1}": "#NAME?"}
    text = text_of(store, store.add_stream("bad.xlsx", [xlsx({"Good": {"A1": 't="e"'}, "S": cells | errors})]))
    good, _, lines = text.partition("=== sheet S ===\n")
    assert good == '=== sheet Good ===\n"t=""e"""\n'
    told = {f"B{number}": line.partition(",")[2] for number, line in enumerate(lines.splitlines(), 1) if "," in line}
    assert told == errors


def test_open_document_spreadsheet(store):
    ref = store.add_stream("t.ods", [ods({"One": [["a", "b"], ["c", "d"]]})])
    assert text_of(store, ref) == "=== sheet One ===\na,b\nc,d\n"


def test_word_keeps_headings_and_tables(store):
    table = "".join(f"<w:tc><w:p><w:r><w:t>{cell}</w:t></w:r></w:p></w:tc>" for cell in ("key", "value"))
    heading = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Chapter</w:t></w:r></w:p>'
    ref = store.add_stream("memo.docx", [docx(heading, "Hello a_b & <c> *d*", f"<w:tbl><w:tr>{table}</w:tr></w:tbl>")])
    text = text_of(store, ref)
    assert "Chapter" in text and "Hello a_b & <c> *d*" in text and "| key | value |" in text
    assert find_citations("memo.docx:1", [ref], store)[0].place is None


def test_html_is_made_readable(store):
    page = (
        "<!doctype html><html><head><title>Cats</title><style>p{}</style><script>steal()</script></head>"
        "<body><nav>menu</nav><h2>Kinds</h2><p>A <b>tabby</b> is <a href='https://c.example/x'>here</a>, "
        "<a href='javascript:bad()'>not</a>.</p><ul><li>one</li></ul>"
        "<table><tr><th>n</th><th>m</th></tr><tr><td>1</td><td>2</td></tr></table>"
        "<img src='data:image/png;base64,AAAA' alt='a cat'><pre>x = 1\n  y</pre></body></html>"
    )
    for name in ("cats.html", "stdin"):
        text = text_of(store, store.add_stream(name, [page.encode()]))
        assert text.startswith("# Cats\n\n## Kinds\n")
        assert "A **tabby** is [here](https://c.example/x), not." in text
        assert "| 1 | 2 |" in text and "- one" in text and "a cat" in text and "x = 1\n  y" in text
        for gone in ("steal", "p{}", "menu", "javascript", "base64"):
            assert gone not in text


def test_instructions_to_programs_are_no_text_of_a_page(store):
    page = '<?xml version="1.0"?><?xml-stylesheet href="a.css"?><!DOCTYPE html><html><body><p>Words</p></body></html>'
    assert text_of(store, store.add_stream("a.xhtml", [page.encode()])) == "Words\n"


def test_html_in_other_encodings_and_hopelessly_nested(store):
    text = text_of(store, store.add_stream("l.html", ["<meta charset=latin-1><p>caf\xe9".encode("latin-1")]))
    assert text == "café\n"
    deep = text_of(store, store.add_stream("deep.html", [b"<div>" * 20_000 + b"bottom"]))
    assert "bottom" in deep


def test_notebooks_cell_by_cell(store):
    png = {"output_type": "display_data", "data": {"image/png": "iVBOR" * 999, "text/plain": ["<Figure>"]}}
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[0;31mE: bad\x1b[0m"]}
    data = notebook(
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": "1/0", "outputs": [{"output_type": "stream", "text": ["out\n"]}, png, error]},
    )
    ref = store.add_stream("a.ipynb", [data])
    text = text_of(store, ref)
    assert text == (
        "=== cell 1 (markdown) ===\n# Title\nwords\n=== cell 2 (code) ===\n1/0\n--- output of cell 2 ---\nout\n"
        "--- output of cell 2 ---\n<Figure>\n[image/png]\n--- output of cell 2 ---\nE: bad\n"
    )
    assert [c.place for c in find_citations("a.ipynb:3 a.ipynb:11", [ref], store)] == ["cell 1", "cell 2"]


def test_text_kinds_stay_as_they_are(store):
    for name, data in {
        "a.md": "# T\n<html>\n",
        "a.json": '{"a": 1}',
        "a.jsonl": '{"a": 1}\n{"a": 2}\n',
        "a.csv": "x;y\r\n1;2\r\n",
        "a.py": "<html",
    }.items():
        ref = store.add_stream(name, [data.encode()])
        assert (text_of(store, ref), ref.sha256) == (data, hashlib.sha256(data.encode()).hexdigest())
    assert store.add_text("t", "<!doctype html><p>x").chars == 19


def test_the_bytes_decide_before_the_name(store):
    assert "Alpha" in text_of(store, store.add_stream("stdin", [pdf(["Alpha"])]))
    assert "Alpha" in text_of(store, store.add_stream("report.txt", [docx("Alpha")]))
    ref = store.add_stream("notes", [notebook({"cell_type": "code", "source": "1"})], filename="x.ipynb")
    assert ref.name == "notes" and "cell 1" in text_of(store, ref)


def test_documents_in_a_folder_are_read_and_bad_ones_are_counted(store, tmp_path):
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a.txt").write_text("plain\n")
    (root / "b.pdf").write_bytes(pdf(["From the pdf"]))
    (root / "c.xlsx").write_bytes(xlsx({"S": {"A1": "cell"}}))
    (root / "d.pdf").write_bytes(b"%PDF-1.4 broken")
    (root / "e.html").write_bytes(b"<!doctype html><p>source</p>")
    (root / "f.zip").write_bytes(zipped({"x": "y"}))
    (root / "g.tgz").write_bytes(tarred({"x": b"y"}))
    ref = store.add_path(root)
    index = store.index(ref.sha256)
    assert [entry.path for entry in index.files] == ["a.txt", "b.pdf", "c.xlsx", "e.html"]
    assert index.skipped == 3  # d.pdf, f.zip, g.tgz
    assert [line.partition(": ")[0] for line in index.unread] == ["d.pdf", "f.zip"]
    assert store.lines(ref.sha256, "b.pdf", 1, 9) == ["=== page 1 ===", "From the pdf"]
    assert store.lines(ref.sha256, "e.html", 1, 1) == ["<!doctype html><p>source</p>"]
    found = find_citations("docs/b.pdf:2, c.xlsx:2, a.txt:1", [ref], store)
    assert [c.place for c in found] == ["page 1", "sheet S, row 1", None]


def test_a_folder_of_unreadable_documents_says_why(store, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.pdf").write_bytes(pdf([""]))
    with pytest.raises(InvalidInput, match=r"docs holds no text file \(1 skipped: .*; a.pdf: its 1 pages hold no text"):
        store.add_path(tmp_path / "docs")


def test_flat_uploads_of_pages_are_readable(store):
    ref = store.add_files("files", [("a.html", [b"<p>one"]), ("b.html", [b"<p>two"])])
    assert text_of(store, ref) == "one\ntwo\n"


def test_equal_words_from_other_documents_are_other_contexts(store):
    refs = [
        store.add_stream("a.pdf", [pdf(["same"])]),
        store.add_stream("b.pdf", [pdf(["same", ""])]),
        store.add_text("c.txt", "=== page 1 ===\nsame\n"),
    ]
    assert len({ref.sha256 for ref in refs}) == 3
    again = store.add_stream("again.pdf", [pdf(["same"])])
    assert again.sha256 == refs[0].sha256


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.pdf", encrypted_pdf(["secret"]), "encrypted"),
        ("a.pdf", encrypted_pdf(["secret"], cipher=5), "encrypted"),
        ("a.pdf", pdf(["", ""]), "its 2 pages hold no text (a scan?)"),
        ("a.pdf", b"%PDF-1.7\n" + os.urandom(4000), "damaged PDF"),
        ("a.pdf", b"not a pdf at all", "damaged PDF"),
        ("a.docx", b"PK\x03\x04" + b"x" * 500, "damaged archive or document"),
        ("a.docx", docx("words")[:-300], "damaged archive or document"),
        ("a.docx", docx(), "Word document without text"),
        ("a.docx", zipped({"word/document.xml": "<w:broken"}), "damaged"),
        ("a.xlsx", xlsx({"S": {}}), "spreadsheet without values"),
        ("a.xlsx", zipped({"xl/workbook.xml": "<workbook"}), "damaged spreadsheet"),
        ("a.pptx", zipped({"ppt/presentation.xml": "<p/>"}), "save it as PDF"),
        ("a.doc", OLE, "old or encrypted Office file"),
        ("a.ipynb", b'{"cells": 3}', "no Jupyter notebook"),
        ("a.ipynb", b"[" * 100_000, "no Jupyter notebook"),
        ("a.ipynb", notebook(), "without cells"),
        ("a.html", b"<html><script>x()</script></html>", "holds no text"),
        ("a.pptx", zipped({"ppt/presentation.xml": "<p/>", "\x1b[31m\n": "x"}), "save it as PDF"),
        ("a.zip", zipped({"\x1b[31m\n/../..": "x"}), "leaves its folder"),
    ],
)
def test_bad_documents_are_one_clear_line(store, tmp_path, name, data, said):
    with pytest.raises(InvalidInput) as caught:
        store.add_stream(name, [data])
    assert said in caught.value.message
    assert caught.value.message.startswith(f"{name}: ")
    assert str(caught.value).isprintable()
    assert list((tmp_path / "home/contexts").iterdir()) == []


def test_a_spreadsheet_bomb_ends_only_its_reader(store):
    """One cell in the last corner of the sheet: a dense table of it would need hundreds of gigabytes."""
    with pytest.raises((InvalidInput, TooLarge)) as caught:
        store.add_stream("bomb.xlsx", [xlsx({"S": {"A1": 1, "XFD1048576": 2}})])
    assert "\n" not in str(caught.value)
    assert store.add_stream("next.xlsx", [xlsx({"S": {"A1": 1}})]).chars


def test_a_document_that_takes_too_long_is_given_up_and_the_next_is_read(tmp_path):
    """A tar whose left-out member unpacks to 25 GB: nothing of it is kept, and it takes a while to pass over."""
    hidden = tarfile.TarInfo(".hidden")
    hidden.size = 400 << 26
    slow = [gzip.compress(hidden.tobuf(tarfile.GNU_FORMAT)), *[gzip.compress(bytes(1 << 26))] * 400]
    with DocumentReader(tmp_path, 10**9, seconds=5) as reader:
        started = time.monotonic()
        with pytest.raises(TooLarge, match="slow.tgz took more than 5 s"):
            reader.read("slow.tgz", "tar", slow)
        assert time.monotonic() - started < 60
        with pytest.raises(Unreadable, match="no Jupyter notebook"):
            reader.read("next.ipynb", "notebook", [b"{}"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_with_what_to_install(store, tmp_path, monkeypatch):
    """A real child in an environment without the extra: an interpreter that has msgspec and nothing else."""
    library = tmp_path / "lib"
    library.mkdir()
    for package in (msgspec, fleet_rlm):
        folder = Path(package.__file__).parent
        (library / folder.name).symlink_to(folder)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nshift\nenv > {tmp_path}/environment\nPYTHONPATH={library} exec {sys._base_executable} -S "$@"\n'  # `shift` drops -P
    )
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(NotConfigured) as caught:
        store.add_stream("a.pdf", [pdf(["x"])])
    assert str(caught.value) == (
        "a.pdf needs the Python package pypdf (install the readers: pip install 'fleet-rlm[documents]')"
    )
    assert store.add_stream("a.ipynb", [notebook({"cell_type": "code", "source": "1"})]).lines == 2
    assert "secret" not in (tmp_path / "environment").read_text()
