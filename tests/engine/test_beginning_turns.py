"""A turn that has been accepted and is only beginning is this process's own, whoever acts on it first."""

import threading
from collections.abc import Mapping
from typing import Any

from fleet_rlm.runtime.execution.events import Limits
from fleet_rlm.runtime.execution.executor import CancelFlag, TurnExecutor


class Live:
    def cancel(self) -> None: ...

    def cancel_run(self, run: str) -> bool:
        return False

    def set_limits(self, changes: Mapping[str, Any]) -> Limits:
        return Limits()

    def answer(self, approval: str, text: str | None) -> None: ...


def test_who_acts_on_a_beginning_turn_waits_for_it() -> None:
    executor, go_on, over, tree = TurnExecutor(), threading.Event(), threading.Event(), Live()

    def work(cancel: CancelFlag) -> Any:
        go_on.wait(20)
        cancel.arm(tree)
        over.wait(20)

    executor.submit("trn_1", "ses_1", work)
    found: list[object] = []
    asks = threading.Thread(target=lambda: found.append(executor.live("trn_1")), daemon=True)
    asks.start()
    asks.join(0.1)
    assert not found, "it waits"
    go_on.set()
    asks.join(20)
    assert found == [tree]
    over.set()
    executor.wait("trn_1", 20)
    assert executor.live("trn_1") is None and executor.live("trn_2") is None


def test_a_turn_that_fails_before_it_begins_keeps_nobody_waiting() -> None:
    executor, fail = TurnExecutor(), threading.Event()

    def work(cancel: CancelFlag) -> Any:
        fail.wait(20)
        raise ValueError("a defect")

    executor.submit("trn_1", "ses_1", work)
    found: list[object] = []
    asks = threading.Thread(target=lambda: found.append(executor.live("trn_1")), daemon=True)
    asks.start()
    fail.set()
    asks.join(8)
    assert found == [None]
