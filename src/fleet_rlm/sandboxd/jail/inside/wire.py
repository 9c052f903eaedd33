"""Messages between the server and what runs inside: one JSON object per SOCK_SEQPACKET packet, with fds."""

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

MAX_MESSAGE = 128 * 1024  # below the default socket buffer, so that one packet always fits
MAX_FDS = 8

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """One packet. OSError (EMSGSIZE) when it would be too large to send."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise OSError(90, f"a message of {len(data)} bytes; at most {MAX_MESSAGE}")
    return data


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one packet, waiting for room."""
    socket.send_fds(sock, [encode(message)], list(fds))


def receive(sock: socket.socket, flags: int = 0) -> tuple[Message, list[int]] | None:
    """The next packet and its fds (close-on-exec); None when the other side is gone."""
    try:
        data, fds, seen, _ = socket.recv_fds(sock, MAX_MESSAGE, MAX_FDS, flags | socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if not data:
        return None
    try:
        if seen & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a packet was cut short")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("a packet is not an object")
    except (ValueError, RecursionError) as error:
        for fd in fds:
            os.close(fd)
        raise ValueError("a packet cannot be read") from error
    return message, list(fds)


def error_of(error: OSError) -> Message:
    """An OSError as a value, see `raise_error`."""
    return {"errno": error.errno or 5, "text": error.strerror or str(error), "path": _text(error.filename)}


def raise_error(error: Message) -> None:
    """Raise the OSError subclass that the number stands for."""
    raise OSError(int(error["errno"]), str(error["text"]), error.get("path"))


def _text(name: object) -> str | None:
    return name if isinstance(name, str) else None
