"""A program that owns a jail and waits to be killed: owner.py FOLDER MARKER CODE RUNG. Prints the pids of
the warm process and of what it forked."""

import asyncio
import os
import sys
from pathlib import Path

from fleet_rlm.sandboxd.jail.spec import JailSpec, Rung
from fleet_rlm.sandboxd.jail.warm import WarmServer


async def main() -> None:
    folder, marker, code = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    server = WarmServer(data_dir=folder / "data", preload=(), rung=Rung(sys.argv[4]), spares=2)
    await server.start()
    jail = await server.spawn(JailSpec(f"a-{os.getpid()}", folder / "ws"))
    await jail.run(["python3", "-c", code, marker])
    await asyncio.sleep(1.0)  # long enough for the spares
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    print(server.pid, *{*children, str(jail.pid)}, flush=True)
    await asyncio.sleep(900)


asyncio.run(main())
