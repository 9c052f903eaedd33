"""Artifacts: names, kinds, versions, and what a hostile sandbox may send."""

import base64

import pytest

from fleet_rlm.errors import InvalidInput, TooLarge
from fleet_rlm.runtime.execution.artifacts import MAX_BYTES, checked_name, from_guest, kind_of

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.mark.parametrize("name", ["report.md", "Bericht über Äpfel (2).csv", "a" * 120])
def test_plain_names_stay(name: str) -> None:
    assert checked_name(f" {name} ") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        None,
        7,
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        ".bashrc",
        "-rf",
        "x\ny",
        "x\0",
        "a" * 121,
        "c:x",
        "x.",
        "a\u202eb",
    ],
)
def test_others_are_refused(name: object) -> None:
    with pytest.raises(InvalidInput):
        checked_name(name)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("x.png", PNG, "image/png"),
        ("x.txt", PNG, "image/png"),
        ("x.png", b"<script>", "application/octet-stream"),
        ("x.pdf", b"<html>", "application/octet-stream"),
        ("x.html", b"<p>", "text/html"),
        ("x.html", b"\0\1", "application/octet-stream"),
        ("x.svg", b"<svg>", "image/svg+xml"),
        ("x.csv", "ä,b\n".encode(), "text/csv"),
        ("x.md", b"# t", "text/markdown"),
        ("x.json", b"{}", "application/json"),
        ("noname", b"text", "text/plain"),
        ("noname", b"\xff\xfe\0", "application/octet-stream"),
        ("x.xlsx", b"PK\x03\x04rest", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ],
)
def test_the_kind_is_what_the_bytes_bear_out(name: str, data: bytes, kind: str) -> None:
    assert kind_of(name, data) == kind


def test_what_comes_from_a_sandbox_is_checked() -> None:
    assert from_guest(base64.b64encode(b"x").decode()) == b"x"
    for bad in (None, 7, {"$file": "/etc/passwd"}, "/etc/passwd", "not base64!"):
        with pytest.raises(InvalidInput):
            from_guest(bad)
    with pytest.raises(TooLarge):
        from_guest("A" * (MAX_BYTES * 4 // 3 + 100))
