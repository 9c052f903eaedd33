"""Runs inside a jail: one interpreter context. Orders come as JSON lines on descriptor 4, `{id, code, envs}`, and are
answered on 3, `{id, error}`; what the code prints goes to its own descriptors 1 and 2. Standard library only."""

import json
import linecache
import os
import signal
import sys
import traceback
import types
from typing import Any

_TEXT_LIMIT = 64 * 1024
_TRACE_LIMIT = 256 * 1024
_running = False


def main() -> None:
    """Serve until the orders end."""
    for fd in (3, 4):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, _interrupt)
    space = types.ModuleType("__main__")
    space.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = space
    with os.fdopen(4, encoding="utf-8") as orders:
        for line in orders:
            order = json.loads(line)
            answer = {"id": order["id"], "error": _run(order, space.__dict__)}
            _say(json.dumps(answer).encode() + b"\n")


def _run(order: dict[str, Any], space: dict[str, Any]) -> dict[str, str] | None:
    global _running  # a signal handler has no other way to know
    before = {name: os.environ.get(name) for name in order["envs"]}
    os.environ.update(order["envs"])
    name = f"<run {order['id']}>"
    code = order["code"]
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    error: dict[str, str] | None = None
    try:
        _running = True
        exec(compile(code, name, "exec", dont_inherit=True), space)  # noqa: S102  running given code is the purpose
    except BaseException as raised:  # noqa: BLE001  whatever it is, the context goes on and its client is told
        error = _describe(raised)
    finally:
        _running = False
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the code has closed or replaced it
    return error


def _describe(raised: BaseException) -> dict[str, str]:
    trace = raised.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        value = str(raised)
        text = "".join(traceback.format_exception(type(raised), raised, trace))
    except Exception as second:  # noqa: BLE001  the code's own exception may fail to show itself
        value = text = f"<the exception could not be shown: {type(second).__name__}>"
    return {"name": type(raised).__name__, "value": value[:_TEXT_LIMIT], "traceback": text[-_TRACE_LIMIT:]}


def _say(data: bytes) -> None:
    while data:
        data = data[os.write(3, data) :]


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    if _running:
        signal.default_int_handler(number, frame)


if __name__ == "__main__":
    __file__ = "<context>"
    sys.argv = [""]
    main()
