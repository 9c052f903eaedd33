"""A workspace with the engine's methods whose turns are small scripts: real events in a real journal, no model."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fleet_rlm.errors import Conflict, InvalidInput, NotConfigured
from fleet_rlm.integrations.database import Database, JournalStore, Sessions
from fleet_rlm.runtime.agent.memory import Change, SessionMemory
from fleet_rlm.runtime.config import Settings, load_settings
from fleet_rlm.runtime.content.blobs import BlobStore
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.ids import new_id
from fleet_rlm.runtime.execution.journal import Journal
from fleet_rlm.runtime.execution.requests import Submitted, TurnRequest


@dataclasses.dataclass
class Step:
    name: str
    ok: bool
    ms: float
    detail: str
    fix: str | None = None


class ScriptedModels:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def resolve(self, model: str | None = None) -> Any:
        name = model or self.settings.model
        if name is None:
            raise NotConfigured("no model is configured")
        if not name.startswith(("openai/", "demo/")):
            raise InvalidInput(f"unknown model {name!r}")
        return SimpleNamespace(
            model=name,
            api_base=self.settings.api_base,
            api_key=self.settings.api_key,
            key_variable="FLEET_API_KEY",
            price=self.settings.prices.get(name),
            context_window=8192,
            weak="it sees 8,192 tokens at once",
            probed="2026-11-02",
        )

    def for_role(self, role: str) -> Any:
        return self.resolve({"sub": self.settings.sub_model, "judge": self.settings.judge_model}.get(role))

    def probe_new(self) -> None: ...

    def test(self, spec: Any) -> list[Step]:
        ok = spec.api_key is not None
        return [Step("answer", ok, 1.0, spec.model, None if ok else "set a key")]

    def available(self) -> list[Any]:
        return [
            SimpleNamespace(model="openai/gpt-5-mini", label="OpenAI", reason="OPENAI_API_KEY is set", api_base=None),
            SimpleNamespace(model="ollama_chat/q", label="Ollama", reason="runs at http://127.0.0.1:1", api_base=None),
            SimpleNamespace(model="demo/search", label="search program", reason="built in", api_base=None),
        ]


class ScriptedWorkspace:
    """Questions are little programs: `deltas 500`, `slow`, `wait` (until cancelled), anything else echoes."""

    def __init__(self, home: Path, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings(home=home)
        self.database = Database(home)
        self.journal = Journal(JournalStore(self.database))
        self.sessions = Sessions(self.database)
        self.blobs = BlobStore(home)
        self.contexts = ContextStore(home)
        self.isolation: str | None = "scripted"
        self._active: dict[str, tuple[str, threading.Event]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def models(self) -> ScriptedModels:
        return ScriptedModels(self.settings)

    def configure(self, settings: Settings) -> None:
        self.settings = settings

    def prepare(self, *, ahead: bool = False) -> None:
        pass

    def status(self) -> Any:
        return SimpleNamespace(
            version="0", provider="local", isolation=self.isolation, isolation_detail=None, model=self.settings.model,
            model_label=None, demo=False, configured=self.settings.model is not None,
            active_turns=len(self._active), warnings=(),
        )  # fmt: skip

    def submit(self, request: TurnRequest) -> Submitted:
        if not request.question.strip():
            raise InvalidInput("the question is empty")
        assert request.session is not None
        sid = request.session
        with self._lock:
            if request.command and (again := self.sessions.find_turn_by_command(sid, request.command)):
                return Submitted(sid, again.tid, again.accepted_seq)
            if sid in self._active:
                raise Conflict("a turn of this session is still running")
            turn, stop = new_id("trn"), threading.Event()
            accepted = ev.TurnAccepted(
                question=request.question, mode=request.mode, model=request.model or "m", sub_model="m",
                limits=request.limits or self.settings.limits, contexts=list(request.contexts), command=request.command,
            )  # fmt: skip
            seq = self.journal.append(sid, [ev.Draft(accepted, turn=turn)], durable=True)[-1].seq
            self._active[sid] = (turn, stop)
        thread = threading.Thread(target=self._run, args=(sid, turn, request.question, stop))
        self._threads.append(thread)
        thread.start()
        return Submitted(sid, turn, seq)

    def _run(self, sid: str, turn: str, question: str, stop: threading.Event) -> None:
        def emit(*data: Any, durable: bool = False) -> None:
            drafts = [ev.Draft(item, turn=turn, run=f"run_{turn}") for item in data]
            self.journal.append(sid, drafts, durable=durable)

        emit(ev.TurnStarted(), ev.RunStarted(kind="agent", task=question, signature="s", model="m"))
        emit(ev.MessageStarted(id=f"msg_{turn}"))
        word, _, rest = question.partition(" ")
        status: Any = "ok"
        if word == "deltas":
            size = int(rest.partition(" ")[2] or 10)
            for n in range(int(rest.partition(" ")[0])):
                emit(ev.MessageDelta(id=f"msg_{turn}", text=f"{n:0{size}d} "))
        elif word == "slow":
            for n in range(int(rest)):
                emit(ev.MessageDelta(id=f"msg_{turn}", text=f"{n} "))
                time.sleep(0.005)
        elif word == "wait":
            stop.wait(60)
            status = "cancelled"
        emit(ev.MessageFinished(id=f"msg_{turn}", length=0, sha256=""))
        usage = ev.Usage(calls=1, cost_usd=0.25)
        emit(ev.BudgetUpdated(spent=usage, reserved_calls=0, limits=ev.Limits()))
        emit(ev.RunFinished(status=status, usage=usage))
        with self._lock:
            self._active.pop(sid, None)
            emit(
                ev.TurnFinished(status=status, answer=f"you said {question}", usage=usage, runs=1, max_depth_reached=0),
                durable=True,
            )

    def delete_session(self, session: str) -> None:
        self.journal.delete(session)

    def memory(self, session: str) -> SessionMemory:
        return SessionMemory(self.journal, session)

    def set_memory(self, session: str, block: str, text: str | None) -> Change:
        return self.memory(session).set(block, text, "person")

    def undo_memory(self, session: str, seq: int) -> Change:
        return self.memory(session).undo(seq)

    def cancel(self, turn: str) -> bool:
        with self._lock:
            for active, stop in self._active.values():
                if active == turn:
                    stop.set()
                    return True
        return False

    def active_turn(self, session: str) -> str | None:
        with self._lock:
            return self._active.get(session, (None, None))[0]

    def close(self) -> None:
        for _, stop in list(self._active.values()):
            stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
        self.journal.close()
