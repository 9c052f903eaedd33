"""What the network proxy says when there is nobody left to say it to."""

import asyncio
import socket
import struct

import uvloop

from fleet_rlm.sandboxd import proxy

RESET = struct.pack("ii", 1, 0)  # closing sends a reset


def test_nothing_is_said_to_a_connection_that_was_reset() -> None:
    """The server's loop raises for that what no error of a connection is."""
    said: list[BaseException | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(100):
                pass
        except ConnectionError:
            pass
        writer.transport.abort()
        await asyncio.sleep(0.05)
        try:
            await proxy._say(writer, 502, "the other side broke off")
        except Exception as error:
            said.append(error)
        else:
            said.append(None)

    async def whole() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        async with asyncio.timeout(10):
            while not said:
                await asyncio.sleep(0.01)
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())
    assert said == [None]
