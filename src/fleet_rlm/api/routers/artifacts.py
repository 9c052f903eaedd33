"""/artifacts: the files that runs published; their bytes to keep, and to look at in a frame that can do nothing."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Response

from fleet_rlm.api.schemas.resources import ArtifactList
from fleet_rlm.api.services import Served
from fleet_rlm.runtime.execution.events import ArtifactPublished

FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of a generated page in the workspace's frame: no origin, no network, no way out. It does not cover what a page only
announces (see `_unlinked`), nor WebRTC, which scripts have."""
INERT_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
SHOWN_KINDS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "application/pdf"})
PAGE_KINDS = frozenset({"text/html", "image/svg+xml"})
_LINK = re.compile(rb"(</?(?:[^\s<>/:]*:)?)(link[\s/>])", re.IGNORECASE)
_ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)
_FOREVER = "private, max-age=31536000, immutable"

router = APIRouter(tags=["artifacts"])


@router.get("/sessions/{sid}/artifacts", response_model=ArtifactList)
async def list_artifacts(sid: str, served: Served) -> dict[str, Any]:
    """What a session has published, in order, every version."""
    await served.workspace.sessions.aget(sid)
    events = await served.workspace.journal.aof_type(sid, ArtifactPublished.type)
    # What a resumed turn published again has the same id: the first stays.
    found = {e.data.id: (e, e.data) for e in reversed(events) if isinstance(e.data, ArtifactPublished)}
    return {
        "artifacts": [
            {
                "id": data.id,
                "name": data.name,
                "version": data.version,
                "sha256": data.sha256,
                "bytes": data.bytes,
                "kind": data.kind,
                "turn": event.turn,
                "run": event.run,
                "cell": data.cell,
                "ts": event.ts,
            }
            for event, data in sorted(found.values(), key=lambda each: each[0].seq)
        ]
    }


@router.get("/artifacts/{artifact}/content", response_class=Response)
async def download_artifact(artifact: str, served: Served) -> Response:
    """The bytes, as a file to keep: a browser does not open them as a page of this address."""
    found, data = await _found(artifact, served)
    return _attachment(found, data)


@router.get("/artifacts/{artifact}/view", response_class=Response)
async def view_artifact(
    artifact: str, served: Served, dest: Annotated[str | None, Header(alias="Sec-Fetch-Dest")] = None
) -> Response:
    """The same for a frame of the workspace, which may run scripts but reach nothing; elsewhere a file to keep.

    Opened as a page of its own it could send what it holds away by its address.
    """
    found, data = await _found(artifact, served)
    if dest == "iframe" or (dest == "image" and found.kind in SHOWN_KINDS | {"image/svg+xml"}):
        page = found.kind in PAGE_KINDS
        shown = await asyncio.to_thread(_unlinked, data) if page else data
        kind = found.kind if page or found.kind in SHOWN_KINDS else "text/plain"
        return Response(
            shown,
            media_type=f"{kind}; charset=utf-8" if page or kind == "text/plain" else kind,
            headers={
                "Content-Security-Policy": FRAME_POLICY,
                "X-Frame-Options": "SAMEORIGIN",
                "X-DNS-Prefetch-Control": "off",
                "Cache-Control": _FOREVER,
                "Vary": "Sec-Fetch-Dest",
            },
        )
    return _attachment(found, data)


async def _found(artifact: str, served: Served) -> tuple[ArtifactPublished, bytes]:
    found = await served.workspace.journal.aartifact(artifact)
    return found, await asyncio.to_thread(served.workspace.blobs.read, f"blob_{found.sha256}")


def _unlinked(page: bytes) -> bytes:
    """The page without its `link` elements: of those that no policy covers, a browser opens connections ahead.

    None of the others could load anything either. Entities, which could hide one, make the page ill-formed; a byte
    order mark, which goes before what the header says of the encoding, is taken out with the encoding that it names.
    """
    if page[:2] in (b"\xff\xfe", b"\xfe\xff"):
        page = page.decode("utf-16", "replace").encode()
    return _ENTITY.sub(b"<!x-entity", _LINK.sub(rb"\1x-\2", page))


def _attachment(found: ArtifactPublished, data: bytes) -> Response:
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "_" for char in found.name)
    return Response(
        data,
        media_type=found.kind,
        headers={
            "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(found.name, safe='')}",
            "Content-Security-Policy": INERT_POLICY,
            "Cache-Control": _FOREVER,
            "Vary": "Sec-Fetch-Dest",
        },
    )
