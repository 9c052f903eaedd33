"""A sentence for what can happen to a sandbox of the cloud and not to one of a single machine."""

from __future__ import annotations

from typing import Final

from fleet_rlm.sandboxd.errors import ApiError

_SENTENCES: Final = {
    "pause": "pause keeps the memory of a virtual machine, which a sandbox here is not: stop it, its files are kept",
    "archive": "archive moves files to an object store, which one machine has not: a stopped sandbox only takes disk",
    "fork": "fork copies the memory and disk of a virtual machine: create another sandbox and copy its files",
    "forks": "sandboxes here cannot be forked, so none has forks",
    "parent": "sandboxes here cannot be forked, so none has a parent",
    "ancestors": "sandboxes here cannot be forked, so none has ancestors",
    "backup": "backup copies files to an object store, which one machine has not: share them by a volume",
    "ssh-access": "there is no SSH server here: use a terminal (create_pty_session) instead",
}


def cannot(what: str) -> ApiError | None:
    """400 with the sentence, which the SDK raises as a bad request; None for a word that is none of these."""
    if (sentence := _SENTENCES.get(what)) is None:
        return None
    return ApiError(400, sentence, code="UNSUPPORTED_BY_SANDBOX_CLASS")
