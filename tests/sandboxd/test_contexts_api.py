"""Interpreter contexts through the SDK, sync and async, and their frames through a raw socket."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import aiohttp
import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaConnectionError,
    DaytonaNotFoundError,
    DaytonaTimeoutError,
)

PATIENCE_S = 60


def socket(server, sandbox):
    url = f"{server.api.removesuffix('/api')}/toolbox/{sandbox.id}/process/interpreter/execute"
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.key}"}), url


async def frames(server, sandbox, request) -> tuple[list[dict], int | None]:
    """All frames of one run and the close code."""
    session, url = socket(server, sandbox)
    async with session, session.ws_connect(url) as ws:
        await ws.send_str(request if isinstance(request, str) else json.dumps(request))
        got = []
        while (message := await asyncio.wait_for(ws.receive(), PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
            got.append(json.loads(message.data))
        return got, ws.close_code


def test_state_is_kept_and_output_streams(sandbox):
    run = sandbox.code_interpreter.run_code
    assert run("import math\nx = 20").stdout == ""
    seen = []
    result = run(
        "import sys, subprocess\nprint(x + 1)\nsys.stderr.write('bad ✓')\nsubprocess.run(['echo', 'child'])",
        on_stdout=lambda message: seen.append(message.output),
    )
    assert (result.stdout, result.stderr, result.error) == ("21\nchild\n", "bad ✓", None)
    assert "".join(seen) == "21\nchild\n"


def test_errors_come_with_their_source_line(sandbox):
    run = sandbox.code_interpreter.run_code
    result = run("def f():\n    return 1 / 0\nprint('before')\nf()")
    assert result.stdout == "before\n"
    assert (result.error.name, result.error.value) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in result.error.traceback and "exec(" not in result.error.traceback
    assert run("f(").error.name == "SyntaxError"
    assert run("raise SystemExit(3)").error.name == "SystemExit"
    assert run("class E(Exception):\n  def __str__(self): raise ValueError\nraise E").error.name == "E"
    assert run("print(f)").stdout.startswith("<function f")


def test_contexts_are_apart(sandbox):
    interpreter = sandbox.code_interpreter
    sandbox.fs.create_folder("elsewhere", "755")
    context = interpreter.create_context(cwd="/workspace/elsewhere")
    assert (context.language, context.cwd, context.active) == ("python", "/workspace/elsewhere", True)
    interpreter.run_code("y = 1", context=context)
    assert interpreter.run_code("import os; print(y, os.getcwd())", context=context).stdout == (
        "1 /workspace/elsewhere\n"
    )
    assert interpreter.run_code("y").error.name == "NameError"
    assert [c.id for c in interpreter.list_contexts()] == [context.id]
    interpreter.delete_context(context)
    assert interpreter.list_contexts() == []
    with pytest.raises(DaytonaNotFoundError):
        interpreter.delete_context(context)
    with pytest.raises(DaytonaConnectionError, match="1008"):
        interpreter.run_code("1", context=context)


def test_what_is_refused(sandbox):
    interpreter = sandbox.code_interpreter
    with pytest.raises(DaytonaBadRequestError, match="could not be started"):
        interpreter.create_context(cwd="/nowhere")
    with pytest.raises(DaytonaBadRequestError, match="default"):
        interpreter.delete_context(SimpleNamespace(id="default"))


def test_environment_of_one_run(sandbox):
    run = sandbox.code_interpreter.run_code
    code = "import os; print(os.environ.get('ONCE'), os.environ['HOME'])"
    assert run(code, envs={"ONCE": "yes", "HOME": "/else"}).stdout == "yes /else\n"
    assert run(code).stdout == "None /workspace\n"


def test_a_timeout_interrupts_and_keeps_the_state(sandbox):
    interpreter = sandbox.code_interpreter
    context = interpreter.create_context()
    interpreter.run_code("kept = 5", context=context)
    with pytest.raises(DaytonaTimeoutError):
        interpreter.run_code("while True: pass", context=context, timeout=1)
    assert interpreter.run_code("print(kept)", context=context).stdout == "5\n"
    interpreter.delete_context(context)


def test_code_that_ignores_the_interrupt_is_killed(sandbox):
    interpreter = sandbox.code_interpreter
    context = interpreter.create_context()
    code = "gone = 1\nimport signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    with pytest.raises(DaytonaTimeoutError):
        interpreter.run_code(code, context=context, timeout=1)
    assert interpreter.run_code("gone", context=context).error.name == "NameError"
    interpreter.delete_context(context)


def test_a_process_that_dies_is_told_once(sandbox):
    interpreter = sandbox.code_interpreter
    context = interpreter.create_context()
    with pytest.raises(DaytonaConnectionError, match="state is lost"):
        interpreter.run_code("import os; print('last words'); os._exit(3)", context=context)
    assert interpreter.run_code("print('afresh')", context=context).stdout == "afresh\n"
    pid = interpreter.run_code("import os; print(os.getpid())", context=context).stdout.strip()
    sandbox.process.exec(f"kill -9 {pid}; while test -d /proc/{pid}; do sleep 0.05; done", timeout=30)
    with pytest.raises(DaytonaConnectionError, match="state is lost"):
        interpreter.run_code("1", context=context)
    assert interpreter.run_code("print(2)", context=context).stdout == "2\n"
    interpreter.delete_context(context)


def test_large_output_without_newlines_and_large_code(sandbox):
    result = sandbox.code_interpreter.run_code("print('é' * 3_000_000, end='')")
    assert result.stdout == "é" * 3_000_000
    assert sandbox.code_interpreter.run_code(f"text = {'x' * 1_000_000!r}\nprint(len(text))").stdout == "1000000\n"


def test_input_has_an_end_and_background_output_does_not_block(sandbox):
    run = sandbox.code_interpreter.run_code
    assert run("input()").error.name == "EOFError"
    code = "import subprocess; p = subprocess.Popen('head -c 1000000 /dev/zero | tr \"\\\\0\" x; touch flooded', shell=True)"
    run(code)
    assert sandbox.process.exec("while ! test -e flooded; do sleep 0.05; done", timeout=60).exit_code == 0


def test_code_that_forges_frames_reaches_nobody_else(sandbox):
    interpreter = sandbox.code_interpreter
    one, other = interpreter.create_context(), interpreter.create_context()
    interpreter.run_code("x = 1", context=other)
    forge = "import os\nos.write(3, b'{\"id\": 1, \"error\": null}\\nnot json at all\\n' + b'x' * 3_000_000)"
    with pytest.raises(DaytonaConnectionError):
        for _ in range(3):
            interpreter.run_code(forge, context=one, timeout=20)
    assert interpreter.run_code("print(x)", context=other).stdout == "1\n"
    interpreter.delete_context(one)
    interpreter.delete_context(other)


async def test_the_frames_of_a_run(server, sandbox):
    got, code = await frames(server, sandbox, {"code": "print('a')"})
    *output, last = got  # how output is cut into frames is the kernel's affair
    assert {frame["type"] for frame in output} == {"stdout"} and "".join(frame["text"] for frame in output) == "a\n"
    assert last == {"type": "control", "text": "completed"} and code == 1000
    got, code = await frames(server, sandbox, {"code": "import nothing_of_this_name"})
    assert [frame["type"] for frame in got] == ["error", "control"] and code == 1000
    assert set(got[0]) == {"type", "name", "value", "traceback"}
    got, code = await frames(server, sandbox, {"code": "import time; time.sleep(60)", "timeout": 1})
    assert got[-1] == {"type": "control", "text": "interrupted"} and code == 4008
    for bad in ("not json", "[]", {"code": 1}, {"code": "1", "contextId": "nobody"}, {"code": "1", "timeout": -1}):
        assert await frames(server, sandbox, bad) == ([], 1008)


async def test_a_client_that_leaves_does_not_end_the_code(server, sandbox):
    session, url = socket(server, sandbox)
    async with session, session.ws_connect(url) as ws:
        await ws.send_json({"code": "import time\nprint('on')\ntime.sleep(0.5)\nfinished = True"})
        await asyncio.wait_for(ws.receive(), PATIENCE_S)
    got, code = await frames(server, sandbox, {"code": "print(finished)"})  # waits for the one before
    text = "".join(frame["text"] for frame in got if frame["type"] == "stdout")  # in as many pieces as it likes
    assert text == "True\n" and code == 1000


async def test_a_client_that_reads_slowly_slows_the_code_and_loses_nothing(server, sandbox):
    session, url = socket(server, sandbox)
    async with session, session.ws_connect(url) as ws:
        await ws.send_json({"code": "import sys\nfor _ in range(400): sys.stdout.write('y' * 100_000)"})
        await asyncio.sleep(1.0)
        size = 0
        while (message := await asyncio.wait_for(ws.receive(), PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
            frame = json.loads(message.data)
            size += len(frame["text"]) if frame["type"] == "stdout" else 0
        assert size == 40_000_000 and ws.close_code == 1000


def test_stop_ends_contexts(make):
    sandbox = make()
    context = sandbox.code_interpreter.create_context()
    sandbox.code_interpreter.run_code("z = 1", context=context)
    sandbox.stop()
    sandbox.start()
    assert sandbox.code_interpreter.list_contexts() == []
    assert sandbox.code_interpreter.run_code("z").error.name == "NameError"


async def test_the_asynchronous_client(server):
    async with server.async_sdk() as client:
        sandbox = await client.create(CreateSandboxFromSnapshotParams(ephemeral=True))
        try:
            interpreter = sandbox.code_interpreter
            context = await interpreter.create_context()
            started = time.monotonic()
            both = await asyncio.gather(
                interpreter.run_code("import time; time.sleep(0.2); v = 1; print('in context')", context=context),
                interpreter.run_code("print('default')"),
            )
            assert [result.stdout for result in both] == ["in context\n", "default\n"]
            assert time.monotonic() - started < PATIENCE_S
            with pytest.raises(DaytonaTimeoutError):
                await interpreter.run_code("import time; time.sleep(60)", context=context, timeout=1)
            assert (await interpreter.run_code("print(v)", context=context)).stdout == "1\n"
            await interpreter.delete_context(context)
        finally:
            await sandbox.delete()
