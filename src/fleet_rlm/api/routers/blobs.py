"""/blobs: the whole of a large value."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from fleet_rlm.api.services import Served

MAX_PIECE = 4 * 1024 * 1024

LONGEST = 3
"""Continuation bytes of the longest character in UTF-8."""

router = APIRouter(prefix="/blobs", tags=["blobs"])


@router.get("/{ref}", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def get_blob(
    ref: str,
    served: Served,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PIECE)] = MAX_PIECE,
) -> Response:
    """The characters that begin within these bytes of a blob; `X-Blob-Bytes` is the size of the whole.

    So pages of any size, put together, are the whole text: none begins or ends within a character.
    """
    size = await asyncio.to_thread(served.workspace.blobs.size, ref)
    piece = await asyncio.to_thread(served.workspace.blobs.read, ref, offset, limit + LONGEST)
    return Response(
        whole_characters(piece, limit, first=offset == 0),
        media_type="text/plain; charset=utf-8",
        headers={"X-Blob-Bytes": str(size), "Cache-Control": "private, max-age=31536000, immutable"},
    )


def whole_characters(piece: bytes, limit: int, *, first: bool) -> bytes:
    """Of bytes read a little too far: the first character that begins here up to the last that begins within limit."""
    start = 0
    while not first and start < min(LONGEST, len(piece)) and piece[start] & 0xC0 == 0x80:
        start += 1
    end = min(limit, len(piece))
    while end < len(piece) and piece[end] & 0xC0 == 0x80:
        end += 1
    return piece[start : max(start, end)]
