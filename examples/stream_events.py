"""Follow a task while it runs: the same events as on the socket.

`python stream_events.py [FILE ["question"]]`; without any, about this file.
"""

import asyncio
import sys
from pathlib import Path

import fleet_rlm


async def main() -> None:
    given = dict(enumerate(sys.argv))
    file, question = Path(given.get(1, __file__)), given.get(2, "Which events are printed?")
    async for event in fleet_rlm.stream(question, context=file, mode="rlm", lm="demo/search"):
        if event.type in ("run.started", "cell.finished", "turn.finished"):
            print(f"{event.seq:4} {'  ' * event.depth}{event.type}")


asyncio.run(main())
