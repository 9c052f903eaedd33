"""Documents that several tools attach at once: each once, under a name of its own."""

import sys
import threading
from types import SimpleNamespace

from tests.engine.test_approvals import Ledger

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.budget import TreeBudget
from fleet_rlm.runtime.execution.observer import RunScope, TurnObserver, entered
from fleet_rlm.runtime.tools.documents import Documents


def ref(number: int) -> ev.ContextRef:
    return ev.ContextRef(sha256=f"{number:064x}", name="page.html", kind="text", chars=1, lines=1, files=1, bytes=1)


def test_documents_attached_side_by_side_are_all_there_once() -> None:
    ledger = Ledger()
    tree = SimpleNamespace(refs={}, observer=TurnObserver(ledger, ledger, sid="s", turn="t", redact=str))
    documents = Documents(tree, [])
    scope = RunScope(id="run", lease=TreeBudget(ev.Limits()).root())
    start = threading.Barrier(8)

    def attach(first: int) -> None:
        start.wait()
        with entered(scope):
            for number in range(150):
                documents.attach(ref((first * 37 + number) % 150))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=attach, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    wanted = {ref(number).sha256 for number in range(150)}
    assert {each.sha256 for each in documents.refs.values()} == wanted == scope.contexts == set(tree.refs)
    assert len(documents.refs) == 150 == len([e for e in ledger.events if isinstance(e, ev.ContextAdded)])
    assert len({each.name for each in documents.refs.values()}) == 150
    assert all(name == each.name == tree.refs[each.sha256].name for name, each in documents.refs.items())
