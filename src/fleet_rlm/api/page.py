"""The built page: its files, its one-time entrance, and what is shown where there is no page."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from fleet_rlm.api.auth.guard import has_cookie
from fleet_rlm.api.auth.local import COOKIE_SECONDS, LocalAccess
from fleet_rlm.api.envelope import content_policy

DIST = Path(__file__).parent.parent / "web" / "dist"
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_RANGE = re.compile(r"(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})?|-(?P<suffix>[0-9]{1,18})")
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("font/woff2", ".woff2")

_NOTE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>fleet-rlm</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem}}</style>
<h1>{title}</h1><p>{text}</p></html>"""


class _PageFile(FileResponse):
    """A file, or the parts of it that are asked for. Starlette answers a wrong Range as plain text, so only one that
    can be answered is left to it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Errors: HTTPException 416."""
        asked = Headers(scope=scope).get("range")
        if asked is not None:
            size = (await run_in_threadpool(Path(self.path).stat)).st_size
            ranges = satisfiable(asked, size)
            headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
            if ranges:
                headers.append((b"range", f"bytes={','.join(ranges)}".encode()))
            elif ranges is not None and "if-range" not in Headers(scope=scope):
                raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
            scope = {**scope, "headers": headers}
        await super().__call__(scope, receive, send)


def satisfiable(asked: str, size: int) -> list[str] | None:
    """The ranges of a Range header that touch a file of this size; None for a header to ignore: another unit, or not
    as RFC 9110 (14.1) has it."""
    unit, _, rest = asked.partition("=")
    parts = [_RANGE.fullmatch(part.strip(" \t")) for part in rest.split(",") if part.strip(" \t")]
    if unit.strip().lower() != "bytes" or not parts:
        return None
    ranges: list[str] = []
    for part in parts:
        if part is None or (part["first"] and part["last"] and int(part["first"]) > int(part["last"])):
            return None
        if (int(part["first"]) < size) if part["first"] else (size > 0 and int(part["suffix"]) > 0):
            ranges.append(part[0])
    return ranges


class Page:
    """The files of the built page. Read anew when they change, so that a rebuild needs no restart."""

    def __init__(self, dist: Path = DIST) -> None:
        self._dist = dist.resolve()
        self._policy: tuple[float, str] = (-1.0, content_policy())

    def policy(self) -> str:
        """The Content-Security-Policy with the hashes of the page's inline scripts."""
        try:
            changed = (self._dist / "index.html").stat().st_mtime
        except OSError:
            return content_policy()
        if changed != self._policy[0]:
            scripts = _INLINE.findall((self._dist / "index.html").read_text("utf-8"))
            self._policy = (changed, content_policy(tuple(_hash(script) for script in scripts)))
        return self._policy[1]

    def file(self, path: str) -> Path | None:
        """A file of the page by its URL path; None for whatever is not inside the folder."""
        if not path or "\0" in path:
            return None
        try:
            found = (self._dist / path).resolve()
            return found if found.is_relative_to(self._dist) and found.is_file() else None
        except OSError:  # longer than any file's name
            return None

    def answer(self, found: Path, cache: str, packed: bool) -> Response:
        """A file, in its packed form where the build made one and the browser takes it."""
        headers = {"Cache-Control": cache, "Vary": "Accept-Encoding"}
        kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        small = found.with_name(f"{found.name}.gz")
        if packed and small.is_file():
            return _PageFile(small, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
        return _PageFile(found, media_type=kind, headers=headers)

    def index(self, packed: bool) -> Response:
        """The page itself, or how to build it."""
        found = self.file("index.html")
        if found is None:
            text = "The page is not built. Run <code>make frontend</code> (Node 20 or newer), then reload."
            return HTMLResponse(_NOTE.format(title="fleet-rlm is running", text=text), status_code=503)
        return self.answer(found, "no-cache", packed)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def page_router(page: Page, access: LocalAccess) -> APIRouter:
    """`/` with its entrance, the files, and the page for every other address a person opens."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def entrance(request: Request, k: str | None = None) -> Response:
        if k is None:
            return await run_in_threadpool(page.index, _takes_gzip(request))
        return await run_in_threadpool(_enter, access, request, k)

    @router.get("/{path:path}")
    async def anything(request: Request, path: str) -> Response:
        if path == "api" or path.startswith("api/"):
            raise HTTPException(404)
        found = await run_in_threadpool(page.file, path)
        if found is not None:
            hashed = path.startswith("assets/")
            cache = "public, max-age=31536000, immutable" if hashed else "no-cache"
            return await run_in_threadpool(page.answer, found, cache, _takes_gzip(request))
        if "text/html" in request.headers.get("accept", ""):
            return await run_in_threadpool(page.index, _takes_gzip(request))
        raise HTTPException(404)

    return router


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def _enter(access: LocalAccess, request: Request, key: str) -> Response:
    session = access.redeem(key)
    if session is None and not has_cookie(access, request.headers):
        text = (
            "This address was used before, or is too old. Take the newest one from the terminal where "
            "<code>fleet web</code> runs, or start it again."
        )
        return HTMLResponse(_NOTE.format(title="Not signed in", text=text), status_code=401)
    answer = RedirectResponse("/", status_code=303, headers={"Cache-Control": "no-store"})
    if session is not None:
        answer.set_cookie(access.cookie, session, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", path="/")
    return answer
