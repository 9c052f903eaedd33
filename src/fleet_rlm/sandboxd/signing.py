"""URLs of single files that carry their own permission: HMAC-SHA256 with a key of the sandbox, until a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Scope

from fleet_rlm.sandboxd.errors import ApiError
from fleet_rlm.sandboxd.sandboxes import Sandboxes

_PATH: Final = re.compile(r"/toolbox/([^/]{1,128})/files/(download|upload-v2)")
_METHODS: Final = {"download": "GET", "upload-v2": "POST"}


def new_key() -> str:
    """A fresh signing key."""
    return secrets.token_urlsafe(32)


def signature(key: str, method: str, path: str, expires: int) -> str:
    """The signature of one operation on one path; `expires` in seconds since 1970, 0 for never."""
    canonical = f"v1:files:{method}:{path}:{expires}".encode(errors="surrogatepass")
    digest = hmac.new(key.encode(), canonical, hashlib.sha256).digest()
    return "v1_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Signed:
    """Decides whether a request without a key carries a signature that fits."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    def __call__(self, scope: Scope) -> bool:
        """True for a signed request that may pass, False for one without a signature. 403 for a bad one."""
        match = _PATH.fullmatch(scope["path"])
        if scope["type"] != "http" or match is None:
            return False
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=16)
        given = query.get("signature", [""])[0]
        if not given:
            return False
        if not self._fits(match, scope["method"], given, query):
            raise ApiError(403, "the signature of this URL does not fit, or its time is over", code="FORBIDDEN")
        return True

    def _fits(self, match: re.Match[str], method: str, given: str, query: dict[str, list[str]]) -> bool:
        paths, times = query.get("path", []), query.get("expires", [])
        if method != _METHODS[match[2]] or len(paths) != 1 or len(times) != 1 or not times[0].isdecimal():
            return False
        expires = int(times[0][:15])
        try:
            key = self._sandboxes.find(match[1]).record.signing_key
        except ApiError:
            return False
        right = hmac.compare_digest(signature(key, method, paths[0], expires).encode(), given.encode())
        return bool(key) and right and (expires == 0 or self._sandboxes.now() < expires)
