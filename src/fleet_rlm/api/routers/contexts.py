"""/contexts: upload of large inputs, and their lines."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import ValidationError

from fleet_rlm.api.routers.upload import Upload, receive_upload
from fleet_rlm.api.schemas.resources import Lines, NewText, Place
from fleet_rlm.api.schemas.values import ContextRef, Sha256
from fleet_rlm.api.services import Served
from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev

MAX_LINES = 2_000
Sha = Annotated[Sha256, Path()]

router = APIRouter(prefix="/contexts", tags=["contexts"])

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": NewText.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": "the name of a set of several files"},
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                    "required": ["file"],
                }
            },
        },
    }
}


@router.post("", status_code=201, response_model=ContextRef, openapi_extra=BODY)
async def add_context(request: Request, served: Served) -> Any:
    """Keep a text (JSON), a file, or several files as one set (multipart; a filename may hold a relative path).

    Documents (PDF, Word, spreadsheets, notebooks, HTML) become text; one archive becomes a set of files.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    store = served.workspace.contexts
    if kind == "application/json":
        try:
            text = NewText.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
        return _whole(await asyncio.to_thread(store.add_text, text.name, text.text))
    if kind != "multipart/form-data":
        raise InvalidInput("a context comes as multipart/form-data or application/json")
    async with receive_upload(request, served.workspace.settings.home / "uploads") as upload:
        return _whole(await asyncio.to_thread(_keep, store, upload))


def _keep(store: ContextStore, upload: Upload) -> ev.ContextRef:
    part = upload.parts[0]
    if len(upload.parts) == 1 and "/" not in part.path:
        return store.add_stream(upload.name or part.path, upload.chunks(part), filename=part.path)
    return store.add_files(upload.name or "files", ((part.path, upload.chunks(part)) for part in upload.parts))


def _whole(reference: ev.ContextRef) -> dict[str, Any]:
    return msgspec.structs.asdict(reference)


@router.get("/{sha256}", response_model=ContextRef)
async def get_context(sha256: Sha, served: Served) -> Any:
    """The handle of a stored context."""
    return _whole(await asyncio.to_thread(served.workspace.contexts.get, sha256))


@router.get("/{sha256}/lines", response_model=Lines)
async def get_lines(
    sha256: Sha,
    served: Served,
    path: Annotated[str, Query(max_length=4096)],
    first: Annotated[int, Query(ge=1)] = 1,
    last: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """Lines first..last (1-based, both included; at most 2,000) of a context's file: the place behind a citation."""
    end = min(last if last is not None else first, first + MAX_LINES - 1)
    return {"lines": await asyncio.to_thread(served.workspace.contexts.lines, sha256, path, first, end)}


@router.get("/{sha256}/place", response_model=Place)
async def get_place(sha256: Sha, served: Served, char: Annotated[int, Query(ge=0)]) -> dict[str, Any]:
    """The file and line of a character: the lines behind a span that a run has read."""
    path, line = await asyncio.to_thread(served.workspace.contexts.place, sha256, char)
    return {"path": path, "line": line}
