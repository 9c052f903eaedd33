"""The live process of an interpreter context, and what it says.

It gets orders and gives answers on descriptors of its own, so what the code or its subprocesses print is only ever
output. It runs in the jail and is not trusted: an answer is bounded and checked, and a forged one can only end the
forger's own run.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet_rlm.sandboxd.jail.spec import JailClosed
from fleet_rlm.sandboxd.jail.warm import Jail, JailProcess
from fleet_rlm.sandboxd.pipes import read_now, readable, write_all

_PROGRAM: Final = (Path(__file__).parent / "guest" / "interpreter.py").read_text(encoding="utf-8")
_ANSWER_LIMIT: Final = 1024 * 1024
_DRAIN_READS: Final = 64

Emit = Callable[[Mapping[str, Any]], Awaitable[None]]


class _Error(msgspec.Struct):
    name: str
    value: str
    traceback: str


class _Answer(msgspec.Struct):
    id: int
    error: _Error | None = None


class Gone(Exception):
    """The context's process has ended, or says what it never would."""


class Worker:
    """The live process of a context. Between runs its output is read and dropped, so that it never blocks."""

    def __init__(self, process: JailProcess, answers: int, orders: int) -> None:
        assert process.stderr is not None
        self._process = process
        self._answers = answers
        self._orders = orders
        self._said = b""
        self._next = 0
        self._outputs = {"stdout": process.stdout, "stderr": process.stderr}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder(errors="replace") for name in self._outputs}
        self._open = True
        self._idle()

    @classmethod
    async def start(cls, jail: Jail, cwd: str | None) -> Worker:
        """A new process. OSError when it cannot be started."""
        answers, theirs = os.pipe()
        orders_end, orders = os.pipe()
        try:
            argv = ["python3", "-u", "-c", _PROGRAM]
            process = await jail.run(argv, cwd=cwd, merge=False, extra=(theirs, orders_end))
        except BaseException:
            os.close(answers)
            os.close(orders)
            raise
        finally:
            os.close(theirs)
            os.close(orders_end)
        os.set_blocking(answers, False)
        os.set_blocking(orders, False)
        return cls(process, answers, orders)

    async def run(self, code: str, envs: Mapping[str, str], emit: Emit) -> None:
        """One run to its end. Gone when the process ends before; cancelled, `finish` can still wait for it."""
        self._next += 1
        order = msgspec.json.encode({"id": self._next, "code": code, "envs": envs}) + b"\n"
        writing = asyncio.create_task(write_all(self._orders, order))
        try:
            await self.finish(emit)
        finally:
            writing.cancel()
            await asyncio.wait((writing,))

    async def finish(self, emit: Emit) -> None:
        """Pass output on until the present run has ended, then its error."""
        self._busy()
        try:
            answer = await self._until_answered(emit)
        finally:
            if self._open:
                self._idle()
        if answer.error is not None:
            await emit({"type": "error", **msgspec.to_builtins(answer.error)})

    def interrupt(self) -> None:
        """SIGINT to the process and what it has started."""
        self._process.kill_group(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the process and what it has started."""
        self._process.kill_group(signal.SIGKILL)

    async def ended(self) -> None:
        """Wait until the process has ended."""
        with contextlib.suppress(JailClosed):
            await self._process.wait()

    async def close(self) -> None:
        """Kill it, wait for its end and let go of everything. Not while it runs something; once."""
        self._open = False
        self._busy()
        self.kill()
        await self.ended()
        os.close(self._answers)
        os.close(self._orders)
        self._process.close()

    async def _until_answered(self, emit: Emit) -> _Answer:
        answer: _Answer | None = None
        try:
            while (answer := self._answer()) is None:
                if not await self._pass(emit):
                    await readable((self._answers, *self._outputs.values()))
        except Gone:
            await self._drain(emit)
            raise
        await self._drain(emit)
        return answer

    async def _drain(self, emit: Emit) -> None:
        """What was printed before the end is in the pipes already; programs left behind may print for ever."""
        for _ in range(_DRAIN_READS):
            if not await self._pass(emit):
                return

    async def _pass(self, emit: Emit) -> bool:
        """Pass on what is there; whether there was anything."""
        some = False
        for name, fd in tuple(self._outputs.items()):
            data = read_now(fd)
            if data == b"":
                del self._outputs[name]  # the code has closed it
            elif data:
                some = True
                if text := self._decoders[name].decode(data):
                    await emit({"type": name, "text": text})
        return some

    def _answer(self) -> _Answer | None:
        """The answer to the present run, when it is there."""
        data = read_now(self._answers)
        if data == b"":
            raise Gone
        *lines, self._said = (self._said + (data or b"")).split(b"\n")
        if len(self._said) > _ANSWER_LIMIT:
            raise Gone
        for line in lines:
            try:
                answer = msgspec.json.decode(line, type=_Answer)
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                raise Gone from error
            if answer.id == self._next:
                return answer
        return None

    def _idle(self) -> None:
        loop = asyncio.get_running_loop()
        for name, fd in self._outputs.items():
            loop.add_reader(fd, self._drop, name)

    def _busy(self) -> None:
        loop = asyncio.get_running_loop()
        for fd in self._outputs.values():
            loop.remove_reader(fd)

    def _drop(self, name: str) -> None:
        fd = self._outputs[name]
        if read_now(fd) == b"":
            asyncio.get_running_loop().remove_reader(fd)
            del self._outputs[name]
