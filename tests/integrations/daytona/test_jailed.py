"""The interpreter on the local server: contexts from the mount, nothing left behind, honest loss."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dspy import FinalOutput
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.binding import ContextValue
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.local_server import local_server
from fleet_rlm.integrations.daytona.offer import takes_handles
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import LOCAL_POOL, DaytonaSettings
from fleet_rlm.integrations.daytona.source import CONTEXTS_VOLUME, SandboxSpec, VolumeMountSpec
from fleet_rlm.runtime.content.contexts import ContextStore
from integrations.daytona.contexts import MIXED, store_files, store_text
from integrations.daytona.cut_line import CutSource
from integrations.daytona.host_processes import descendants

Make = Callable[..., DaytonaInterpreter]


@pytest.fixture
def jailed(runtime: SandboxRuntime, make: Make) -> Make:
    return lambda **options: make(runtime=runtime, **options)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class TestContexts:
    def stage(self, runtime: SandboxRuntime, home: Path, sha: str) -> None:
        store = ContextStore(home)
        runtime.stage_context(sha, store.data_path(sha), store.index_path(sha))

    def test_text_is_read_from_the_mount(self, runtime: SandboxRuntime, jailed: Make, tmp_path: Path) -> None:
        sha = store_text(tmp_path, "mixed.txt", MIXED)
        self.stage(runtime, tmp_path, sha)
        it = jailed(contexts=[sha])
        it.execute("1", variables={"context": ContextValue({"$context": sha}, "a text")})
        assert it.execute("print(len(context), context[-20:].line)") == f"{len(MIXED)} 12000"
        assert it.execute("print(context_info()['context']['chars'])") == str(len(MIXED))
        assert it.execute("context = context[:3]\nprint(len(context))") == "3"
        assert (
            it.execute("print(len(context))", variables={"context": ContextValue({"$context": sha}, "a text")}) == "3"
        )

    def test_as_dspy_injects_it(self, runtime: SandboxRuntime, jailed: Make, tmp_path: Path) -> None:
        sha = store_files(tmp_path, "project", {"a.txt": "alpha\nbeta", "b.txt": "gamma"})
        self.stage(runtime, tmp_path, sha)
        it, value = jailed(contexts=[sha]), ContextValue({"docs": {"$context": sha}}, "two files")
        it.execute(value.sandbox_assignment("context", "_raw_context"), {"_raw_context": value.to_sandbox().decode()})
        assert it.last_cell is None
        assert it.execute("print([(m.path, m.line) for m in grep('BETA')])") == "[('a.txt', 2)]"
        assert it.execute("print('_raw_context' in globals())") == "False"

    def test_the_mount_is_read_only(self, runtime: SandboxRuntime, jailed: Make, tmp_path: Path) -> None:
        sha = store_text(tmp_path, "t.txt", "text")
        self.stage(runtime, tmp_path, sha)
        it = jailed(contexts=[sha])
        with pytest.raises(CodeExecutionError, match="Read-only file system"):
            it.execute(f"open('/contexts/{sha}/data', 'w')")
        with pytest.raises(CodeExecutionError, match="Read-only file system"):
            it.execute(f"import os\nos.remove('/contexts/{sha}/index.json')")

    def test_only_the_given_contexts_are_there(self, runtime: SandboxRuntime, jailed: Make, tmp_path: Path) -> None:
        mine, other = store_text(tmp_path, "a", "mine"), store_text(tmp_path, "b", "other")
        self.stage(runtime, tmp_path, mine)
        self.stage(runtime, tmp_path, other)
        it = jailed(contexts=[mine])
        assert it.execute("import os\nprint(os.listdir('/contexts'))") == f"['{mine}']"
        it.execute("1", variables={"context": ContextValue({"$context": other}, "")})
        with pytest.raises(CodeExecutionError, match="is not mounted in this sandbox"):
            it.execute("context")

    def test_staging_again_does_nothing(self, runtime: SandboxRuntime, tmp_path: Path) -> None:
        sha = store_text(tmp_path, "t.txt", "staged twice")
        self.stage(runtime, tmp_path, sha)
        self.stage(runtime, tmp_path, sha)  # known to this runtime
        second = SandboxRuntime(runtime.settings)
        try:
            self.stage(second, tmp_path, sha)  # found in the volume
        finally:
            second.close()

    def test_where_mounts_can_be_written_contexts_are_checked(
        self, runtime: SandboxRuntime, make: Make, tmp_path: Path
    ) -> None:
        writable = SandboxRuntime(replace(runtime.settings, read_only_mounts=False))
        try:
            sha = store_files(tmp_path, "project", {"a.txt": "alpha", "empty.txt": ""})
            self.stage(writable, tmp_path, sha)
            context = {"context": ContextValue({"$context": sha}, "")}
            assert make(runtime=writable, contexts=[sha]).execute("print(context['a.txt'])", context) == "alpha"
            mount = VolumeMountSpec(CONTEXTS_VOLUME, "/evil", sha)
            for name in ("data", "index.json"):
                handle = writable.create(SandboxSpec(mounts=(mount,)))
                box = writable.sandbox(handle)
                kept = writable.call(box.fs.download_file(f"/evil/{name}"))
                assert kept is not None
                writable.call(box.fs.upload_file(kept.replace(b"a", b"e", 1), f"/evil/{name}"))
                with pytest.raises(CodeExecutionError, match="was changed on its volume"):
                    make(runtime=writable, contexts=[sha]).execute("print(context)", context)
                writable.call(box.fs.upload_file(kept, f"/evil/{name}"))
        finally:
            writable.close()

    def test_slices_cross_to_tools_as_handles(self, runtime: SandboxRuntime, jailed: Make, tmp_path: Path) -> None:
        sha = store_text(tmp_path, "mixed.txt", MIXED)
        self.stage(runtime, tmp_path, sha)
        got: list[Any] = []

        @takes_handles
        def by_handle(value: Any) -> Any:
            got.append(value)
            return value

        def by_text(value: Any) -> Any:
            got.append(value)

        it = jailed(contexts=[sha])
        it.tools.update(by_handle=by_handle, by_text=by_text)
        context = {"context": ContextValue({"$context": sha}, "")}
        assert it.execute("r = by_handle([context[5:9]])\nprint(r == [context[5:9]], r[0].start)", context) == "True 5"
        it.execute("by_text(value={'k': (context[5:9],)})")
        assert got == [[{"$slice": [sha, 5, 9]}], {"k": [MIXED[5:9]]}]
        assert it.execute("SUBMIT(context[5:9])") == FinalOutput({"output": MIXED[5:9]})


class TestIsolation:
    def test_what_the_guest_sees(self, jailed: Make) -> None:
        it = jailed()
        assert it.execute("import os\nprint(os.getcwd(), os.getuid() != 0, os.path.exists('/dev/tty'))") == (
            "/workspace True False"
        )
        it.execute("import socket")
        with pytest.raises(CodeExecutionError):
            it.execute("socket.create_connection(('1.1.1.1', 53), timeout=3)")

    def test_the_channels_key_is_out_of_reach(self, jailed: Make) -> None:
        code = "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(1)"
        with pytest.raises(CodeExecutionError, match="PermissionError|FileNotFoundError"):
            jailed().execute(code)

    def test_no_key_of_the_host_is_in_the_sandbox(self, jailed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        assert "sk-secret" not in str(jailed().execute("import os\nprint(dict(os.environ))"))


class TestLife:
    def test_shutdown_deletes_the_sandbox(self, runtime: SandboxRuntime, jailed: Make) -> None:
        labels = {"test": "shutdown"}
        it = jailed(labels=labels)
        it.execute("1")
        assert [info.state for info in runtime.list(labels)] == ["started"]
        begun = time.monotonic()
        it.shutdown()
        assert time.monotonic() - begun < 1  # in the background
        assert wait_for(lambda: runtime.list(labels) == [])

    @pytest.mark.parametrize("end", ["kill", "a cell runs", "the end of its turn", "nobody uses one"])
    def test_one_that_is_done_may_wait(self, runtime: SandboxRuntime, make: Make, end: str) -> None:
        """As long as others are in use; never one that is killed or has something running in it."""
        patient = SandboxRuntime(replace(runtime.settings, pool=replace(LOCAL_POOL, retire_s=600.0)))
        labels = {"test": f"{end} {uuid.uuid4()}", "fleet.turn": end}
        other, it = make(runtime=patient), make(runtime=patient, labels=labels)
        try:
            other.execute("1")
            it.execute("1")
            if end == "kill":
                it.kill()
            elif end == "a cell runs":
                it.tools["leave"] = it.shutdown
                with pytest.raises(CodeInterpreterError):
                    it.execute("leave()\nwhile True: pass")
            else:
                it.shutdown()
                assert wait_for(lambda: len(runtime.list(labels)) == 1)  # it gets its labels in the background
                time.sleep(0.5)
                assert len(runtime.list(labels)) == 1
                assert other.execute("2") == "2"
            if end == "the end of its turn":
                patient.turn_over(end)
            elif end == "nobody uses one":
                other.shutdown()
            assert wait_for(lambda: runtime.list(labels) == [])
        finally:
            patient.close()

    def test_and_not_for_long(self, runtime: SandboxRuntime, make: Make) -> None:
        brisk = SandboxRuntime(replace(runtime.settings, pool=replace(LOCAL_POOL, retire_s=0.2)))
        labels = {"test": f"brisk {uuid.uuid4()}"}
        try:
            with make(runtime=brisk) as other, make(runtime=brisk, labels=labels) as it:
                other.execute("1")
                it.execute("1")
                it.shutdown()
                assert wait_for(lambda: runtime.list(labels) == [])
        finally:
            brisk.close()

    def test_the_reaper_finds_by_labels(self, runtime: SandboxRuntime) -> None:
        labels = {"test": "reaper", "turn": "t1"}
        for _ in range(3):
            runtime.create(SandboxSpec(labels=labels))
        keep = runtime.create(SandboxSpec(labels={"test": "reaper", "turn": "t2"}))
        assert runtime.delete_labelled(labels) == 3
        assert [info.id for info in runtime.list({"test": "reaper"})] == [keep.id]
        runtime.delete(keep)
        with pytest.raises(ValueError, match="at least one label"):
            runtime.delete_labelled({})

    def test_a_deleted_sandbox_is_a_lost_session(self, runtime: SandboxRuntime, jailed: Make) -> None:
        labels = {"test": "lost"}
        it = jailed(labels=labels)
        it.tools["cut"] = lambda: runtime.delete_labelled(labels)
        with pytest.raises(CodeInterpreterError) as caught:
            it.execute("cut()\nimport time\ntime.sleep(60)")
        assert not isinstance(caught.value, CodeExecutionError)
        with pytest.raises(CodeInterpreterError, match="session is over"):
            it.execute("1")

    def test_many_at_once(self, jailed: Make) -> None:
        answers: list[str] = []

        def one(n: int) -> None:
            it = jailed()
            answers.append(str(it.execute(f"print({n} * 2)")))
            it.shutdown()

        threads = [threading.Thread(target=one, args=(n,)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(map(int, answers)) == [2 * n for n in range(24)]

    def test_memory_beyond_the_limit_is_the_guests_error(self, jailed: Make) -> None:
        it = jailed()
        with pytest.raises(CodeExecutionError, match="MemoryError"):
            it.execute("x = bytearray(8 << 30)")
        assert it.execute("print(1)") == "1"


class TestBadLine:
    @pytest.fixture
    def source(self, terminal_runtime: SandboxRuntime) -> Iterator[CutSource]:
        found = CutSource(terminal_runtime)
        yield found
        found.do(found.line.stop())

    def test_a_cut_connection_is_mended(self, source: CutSource, make: Make) -> None:
        it, calls = make(runtime=source), list[int]()

        def tool(n: int) -> int:
            calls.append(n)
            if n in (3, 11):
                source.do(source.line.cut())
            return n

        it.tools["tool"] = tool
        code = "for n in range(20):\n    print(tool(n), 'x' * 5000)"
        lines = str(it.execute(code)).splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(20)) == calls
        assert all(len(line.split()[1]) == 5000 for line in lines)
        assert source.line.connections == 3

    def test_a_sandbox_deleted_behind_a_cut_line_is_lost(
        self, terminal_runtime: SandboxRuntime, source: CutSource, make: Make
    ) -> None:
        labels = {"test": "cut and deleted"}
        it = make(runtime=source, labels=labels)

        def cut() -> None:
            terminal_runtime.delete_labelled(labels)
            source.do(source.line.cut())

        it.tools["cut"] = cut
        with pytest.raises(CodeInterpreterError, match="session is over"):
            it.execute("cut()\nimport time\ntime.sleep(60)")


class TestServer:
    def test_one_server_for_all_who_ask(self, tmp_path: Path) -> None:
        first, second = local_server(home=tmp_path), local_server(home=tmp_path)
        assert first.settings is second.settings
        assert "api_key" not in repr(first.settings) and first.settings.api_key not in repr(first.settings)
        first.close()
        first.close()
        runtime = SandboxRuntime(second.settings)
        runtime.delete(runtime.create(SandboxSpec()))
        runtime.close()
        second.close()

    def test_a_server_that_is_gone_is_one_clear_line(self, tmp_path: Path) -> None:
        server = local_server(home=tmp_path)
        settings = server.settings
        server.close()
        runtime = SandboxRuntime(settings)
        with pytest.raises(SandboxUnavailable, match="no sandbox: "):
            runtime.create(SandboxSpec())
        runtime.close()

    def test_closing_the_runtime_takes_its_sandboxes_along(self, runtime: SandboxRuntime) -> None:
        labels = {"test": "closing"}
        second = SandboxRuntime(runtime.settings)
        it = DaytonaInterpreter(runtime=second, labels=labels)
        it.execute("1")
        assert len(runtime.list(labels)) == 1
        second.close()
        second.close()
        assert wait_for(lambda: runtime.list(labels) == [])
        with pytest.raises((CodeInterpreterError, SandboxUnavailable)):
            it.execute("1")
        it.shutdown()
        with pytest.raises(SandboxUnavailable, match="runtime is closed"):
            DaytonaInterpreter(runtime=second).start()

    def test_what_comes_too_late_is_refused_and_not_left_lying(self, runtime: SandboxRuntime) -> None:
        late = SandboxRuntime(runtime.settings)
        late.close()
        work = asyncio.sleep(0)
        with pytest.raises(SandboxUnavailable, match="closed"):
            late.call(work)
        assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED

    def test_a_wrong_key_is_one_clear_line(self, runtime: SandboxRuntime) -> None:
        right = runtime.settings
        wrong = SandboxRuntime(DaytonaSettings("wrong-key-0123456789", right.api_url, "local", "local", "?"))
        with pytest.raises(SandboxUnavailable, match="DAYTONA_API_KEY"):
            wrong.create(SandboxSpec())
        wrong.close()

    def test_a_dotenv_file_decides_nothing(
        self, runtime: SandboxRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text("DAYTONA_API_KEY=stolen\nDAYTONA_TARGET=elsewhere\nDAYTONA_OTEL_ENABLED=true\n")
        monkeypatch.chdir(tmp_path)
        second = SandboxRuntime(runtime.settings)
        handle = second.create(SandboxSpec())
        assert second.sandbox(handle).target == "local"
        assert not isinstance(trace.get_tracer_provider(), TracerProvider)  # nothing is exported anywhere
        assert not [name for name in os.environ if name.startswith("DAYTONA_")]
        second.delete(handle)
        second.close()

    def test_nothing_outlives_a_killed_host(self, tmp_path: Path) -> None:
        program = textwrap.dedent("""
            import sys, pathlib
            from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
            it = DaytonaInterpreter()
            it.tools["ready"] = lambda: print("ready", flush=True)
            it.execute("ready()\\nimport subprocess\\nsubprocess.run(['sleep', '1000'])")
        """)
        environment = {**os.environ, "FLEET_HOME": str(tmp_path)}
        host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
        assert host.stdout is not None and host.stdout.readline() == b"ready\n"
        assert wait_for(lambda: "sleep" in descendants(host.pid).values())
        family = descendants(host.pid)
        host.send_signal(signal.SIGKILL)
        host.wait()
        host.stdout.close()
        assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 10)

    def test_zero_arguments_are_enough(self, tmp_path: Path) -> None:
        program = (
            "import dspy\nfrom fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter as D\n"
            "with D() as it: print(it.execute('40 + 2'), isinstance(it, dspy.CodeInterpreter))"
        )
        environment = {**os.environ, "FLEET_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=90
        )
        assert (done.stdout, done.returncode) == ("42 True\n", 0), done.stderr
        assert done.stderr == ""
