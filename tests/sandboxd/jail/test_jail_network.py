"""The jail's own loopback: its ports, connections into it, and nothing else on it."""

import asyncio
import os
import socket

import pytest
from jail_support import PATIENCE_S, output, read_until

from fleet_rlm.sandboxd.jail.warm import Jail

SERVE = """
import socket
listeners = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
hidden = socket.create_server(("127.0.0.9", 0))
print(*(l.getsockname()[1] for l in (*listeners, hidden)), "ready", flush=True)
while True:
    for listener in listeners:
        connection, _ = listener.accept()
        connection.sendall(b"hello from " + connection.recv(100))
        connection.close()
"""


async def talk(fd: int) -> bytes:
    with socket.socket(fileno=fd) as connection:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        await asyncio.wait_for(loop.sock_sendall(connection, b"me"), PATIENCE_S)
        return await asyncio.wait_for(loop.sock_recv(connection, 100), PATIENCE_S)


@pytest.mark.namespaces
async def test_ports_and_connections(jail: Jail) -> None:
    process = await jail.run(["python3", "-u", "-c", SERVE])
    first, second, hidden = map(int, (await read_until(process.stdout, "ready")).split()[:3])
    assert await jail.ports() == sorted({first, second} - {hidden})
    assert await talk(await jail.connect(first)) == b"hello from me"
    assert await talk(await jail.connect(second, six=True)) == b"hello from me"
    process.kill_group(9)
    await process.wait()
    process.close()
    assert await jail.ports() == []


async def test_a_port_where_nothing_listens(jail: Jail) -> None:
    with pytest.raises(OSError):  # noqa: PT011  refused at once, or told when it is writable
        await talk(await jail.connect(1))


async def test_the_hosts_loopback_is_another(jail: Jail) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert port not in await jail.ports()
        with pytest.raises(OSError):  # noqa: PT011
            await talk(await jail.connect(port))


@pytest.mark.namespaces
async def test_extra_descriptors_arrive_under_their_numbers(jail: Jail) -> None:
    pipes = [os.pipe() for _ in range(3)]
    process = await jail.run(
        ["sh", "-c", "for n in 3 4 5; do echo to $n >&$n; done; ls /proc/self/fd"], extra=[w for _, w in pipes]
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    assert [os.read(r, 100) for r, _ in pipes] == [b"to 3\n", b"to 4\n", b"to 5\n"]
    assert os.read(process.stdout, 1000).split() == [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]
    process.close()
    for pair in pipes:
        for fd in pair:
            os.close(fd)


async def test_environment_for_what_starts_later(jail: Jail) -> None:
    jail.update_env({"LATER": "yes"})
    assert await output(jail, "sh", "-c", "echo $LATER") == (0, "yes\n")
    jail.update_env({}, ["LATER"])
    assert await output(jail, "sh", "-c", "echo $LATER") == (0, "\n")
