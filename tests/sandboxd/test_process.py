"""Programs run to their end, through the SDK."""

from __future__ import annotations

import time

import pytest
from daytona import CodeRunParams, DaytonaBadRequestError, DaytonaProcessExecutionTimeoutError
from daytona_toolbox_api_client.exceptions import ApiException


def test_exec_gives_exit_code_and_merged_output(sandbox):
    response = sandbox.process.exec("echo out; echo err >&2; exit 3")
    assert response.exit_code == 3
    assert sorted(response.result.split()) == ["err", "out"]


def test_exec_takes_folder_and_environment(sandbox):
    sandbox.fs.create_folder("sub", "755")
    response = sandbox.process.exec('echo "$GREETING"; pwd', cwd="sub", env={"GREETING": "hej på dig"})
    assert response.result == "hej på dig\n/workspace/sub\n"


def test_exec_of_many_lines_and_a_large_output(sandbox):
    response = sandbox.process.exec("for i in 1 2 3; do\n echo $i\ndone\nhead -c 3000000 /dev/zero | tr '\\0' x")
    assert response.result.startswith("1\n2\n3\nxxx")
    assert len(response.result) == 3_000_006


def test_exec_timeout_kills_the_command(sandbox):
    started = time.monotonic()
    with pytest.raises(DaytonaProcessExecutionTimeoutError) as raised:
        sandbox.process.exec("sleep 300 & sleep 300", timeout=1)
    assert time.monotonic() - started < 60
    assert raised.value.status_code == 408
    assert "sleep" not in sandbox.process.exec("cat /proc/[0-9]*/comm").result


def test_a_background_program_goes_on_after_exec(sandbox):
    sandbox.process.exec("(sleep 0.5; echo $((40+2)) > later) >/dev/null 2>&1 &")
    assert sandbox.process.exec("while ! test -s later; do sleep 0.05; done; cat later", timeout=60).result == "42\n"


def test_exec_that_cannot_start_says_why(sandbox):
    response = sandbox.process.exec("true", cwd="/nowhere")
    assert response.exit_code == -1
    assert "No such file" in response.result
    with pytest.raises(DaytonaBadRequestError):
        sandbox.process.exec("   ")
    with pytest.raises(DaytonaBadRequestError, match="timeout"):
        sandbox.process.exec("true", timeout=-1)


def test_a_command_killed_by_a_signal(sandbox):
    assert sandbox.process.exec("kill -9 $$").exit_code == 137


def test_code_run_is_a_fresh_interpreter(sandbox):
    params = CodeRunParams(argv=["one", "two"], env={"X": "7"})
    code = "import os, sys\nprint(sys.argv[1:], os.environ['X'])\nraise SystemExit(5)"
    response = sandbox.process.code_run(code, params)
    assert (response.exit_code, response.result) == (5, "['one', 'two'] 7\n")
    assert "NameError" in sandbox.process.code_run("print(code)").result
    with pytest.raises(ApiException) as raised:  # the SDK does not translate errors of this one call
        sandbox.process.code_run("while True: pass", timeout=1)
    assert raised.value.status == 408


def test_nothing_of_the_host_and_no_network(sandbox):
    environment = sandbox.process.exec("env").result
    assert "SANDBOXD" not in environment and "FLEET_HOME" not in environment
    response = sandbox.process.code_run("import socket\nsocket.create_connection(('127.0.0.1', 80), 2)")
    assert response.exit_code != 0
