"""A warm script for the tests: says what it finds, then echoes lines until `quit` or `boom`."""

import json
import os
import sys


def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False


print(
    json.dumps(
        {
            "name": __name__,
            "argv": sys.argv,
            "cwd": os.getcwd(),
            "marker": os.environ.get("MARKER"),
            "home": os.environ.get("HOME"),
            "numpy": "numpy" in sys.modules,
            "inside": any(name.split(".")[0] == "inside" for name in sys.modules),
            "tty": os.isatty(0),
            "leader": os.getsid(0) == os.getpid() == os.tcgetpgrp(0),
            "fds": [fd for fd in range(256) if is_open(fd)],
        }
    ),
    flush=True,
)
for line in sys.stdin:
    if line.strip() == "quit":
        sys.exit(7)
    if line.strip() == "boom":
        raise ValueError("boom")
    print("got", line.strip(), flush=True)
