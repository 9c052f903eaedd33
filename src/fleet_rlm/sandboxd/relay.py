"""One WebSocket on one terminal: binary frames both ways, control messages as text, the exit in the close frame."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.types import Message, Receive, Scope, Send

from fleet_rlm.sandboxd.terminal import Attachment, Terminal

EXIT_CONTROL: Final = "X-Daytona-Pty-Exit-Control"
_CONNECTED: Final = '{"type":"control","status":"connected"}'
_NORMAL, _POLICY, _TOO_LARGE, _INTERNAL = 1000, 1008, 1009, 1011
_REASON_LIMIT: Final = 60  # characters; a close reason has 123 bytes at most


async def relay(terminal: Terminal, scope: Scope, receive: Receive, send: Send, input_limit: int) -> None:
    """Accept the upgrade and pass bytes until the client leaves, falls too far behind, sends a message
    of more than `input_limit` bytes, or the terminal ends."""
    offered = EXIT_CONTROL in scope["subprotocols"]
    client = terminal.attach()
    terminal.start()  # after attaching, so that the first byte is not lost
    output: asyncio.Task[None] | None = None
    try:
        await send({"type": "websocket.accept", "subprotocol": EXIT_CONTROL if offered else None, "headers": []})
        await send({"type": "websocket.send", "text": _CONNECTED})
        output = asyncio.create_task(_pass_output(terminal, client, send, offered))
        while (message := await receive())["type"] == "websocket.receive":
            data = _input(message)
            if len(data) > input_limit:
                output.cancel()  # nothing may be sent after the close
                await asyncio.wait((output,))
                await send({"type": "websocket.close", "code": _TOO_LARGE, "reason": "message too large"})
                return
            await terminal.write(data)
    except OSError:
        return  # the client is gone; the terminal goes on
    finally:
        terminal.detach(client)
        if output is not None:
            output.cancel()
            await asyncio.wait((output,))


def _input(message: Message) -> bytes:
    data = message.get("bytes")
    return data if data is not None else message["text"].encode()


async def _pass_output(terminal: Terminal, client: Attachment, send: Send, offered: bool) -> None:
    """Send frames as they come; at the end tell why there are no more."""
    try:
        while (frame := await client.next()) is not None:
            await send({"type": "websocket.send", "bytes": frame})
        if client.dropped:
            await send({"type": "websocket.close", "code": _POLICY, "reason": "slow consumer"})
            return
        exit_data: dict[str, Any] = {"exitCode": terminal.exit_code}
        if terminal.exit_reason:
            exit_data["exitReason"] = terminal.exit_reason[:_REASON_LIMIT]
        if offered:
            control = {"type": "control", "status": "exited", **exit_data}
            await send({"type": "websocket.send", "text": msgspec.json.encode(control).decode()})
        code = _NORMAL if terminal.exit_code == 0 else _INTERNAL
        await send({"type": "websocket.close", "code": code, "reason": msgspec.json.encode(exit_data).decode()})
    except OSError:
        return  # the client is gone while it was being written to
