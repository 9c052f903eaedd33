"""Follow a task while it runs: the same events as on the socket. `python stream_events.py FILE "question"`."""

import asyncio
import sys
from pathlib import Path

import fleet_rlm


async def main() -> None:
    events = fleet_rlm.stream(sys.argv[2], context=Path(sys.argv[1]), mode="rlm", lm="demo/search")
    async for event in events:
        if event.type in ("run.started", "cell.finished", "turn.finished"):
            print(f"{event.seq:4} {'  ' * event.depth}{event.type}")


asyncio.run(main())
