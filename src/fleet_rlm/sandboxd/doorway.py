"""A door in a jail without a network: a listening socket of its own loopback, on which the server accepts."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Final

from fleet_rlm.sandboxd.errors import ApiError, not_implemented
from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail

_LISTEN: Final = (Path(__file__).parent / "guest" / "listen.py").read_text(encoding="utf-8")
_OPEN_S: Final = 30.0


async def open_door(jail: Jail) -> socket.socket:
    """A non-blocking listening socket on 127.0.0.1 of the jail; its name tells the port. The caller closes it.
    501 where the jail has no sockets, 503 when the sandbox has no room for it."""
    if not jail.has_sockets:
        raise not_implemented("a network under Landlock alone (the second rung)")
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with near:
        near.setblocking(False)
        try:
            with far:
                process = await jail.run(["python3", "-I", "-S", "-c", _LISTEN], extra=(far.fileno(),))
        except JailClosed:
            raise
        except OSError as error:
            raise _closed() from error
        try:
            async with asyncio.timeout(_OPEN_S):
                await _readable(near)
        except TimeoutError as error:
            raise _closed() from error
        finally:
            os.close(process.stdout)
        return _take(near)


def _take(near: socket.socket) -> socket.socket:
    """The socket that came, if it is what was asked for: code of the sandbox may have stood in the way."""
    try:
        _, fds, _, _ = socket.recv_fds(near, 16, 4, socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise _closed() from error
    sockets = [socket.socket(fileno=fd) for fd in fds if _is_socket(fd)]
    for item in sockets:
        try:
            listens = item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        except OSError:
            listens = False
        if len(fds) == 1 and listens and item.family == socket.AF_INET and item.type == socket.SOCK_STREAM:
            item.setblocking(False)
            return item
        item.close()
    raise _closed()


def _is_socket(fd: int) -> bool:
    if os.fstat(fd).st_mode & 0o170000 == 0o140000:
        return True
    os.close(fd)
    return False


def _closed() -> ApiError:
    return ApiError(503, "the sandbox has no room for a connection to the outside now", code="SERVICE_UNAVAILABLE")


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        loop.remove_reader(sock.fileno())
