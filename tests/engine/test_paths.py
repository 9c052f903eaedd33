"""Run paths: the same whenever a turn is run again, whatever ran first."""

import time

from tests.engine.conftest import events_of
from tests.scripted import action, scripted

from fleet_rlm.runtime.execution import events as ev
from fleet_rlm.runtime.execution.paths import Places, tool_place
from fleet_rlm.runtime.execution.requests import TurnRequest
from fleet_rlm.runtime.factory import Workspace


def test_the_order_of_threads_does_not_matter() -> None:
    names = ["a", "b", "c", "c"]
    one, two = Places("root"), Places("root")
    for places in (one, two):
        places.next_cell()
    forward = {one.branch("rlm_query", [name, None, None]) for name in names}
    backward = {two.branch("rlm_query", [name, None, None]) for name in reversed(names)}
    assert forward == backward and len(forward) == 4
    assert all(name.startswith("c1.rlm_query:") for name in forward)


def test_the_same_words_in_another_cell_are_another_place() -> None:
    places = Places("root")
    places.next_cell()
    first = places.branch("rlm_query", ["a", None, None])
    places.next_cell()
    assert places.branch("rlm_query", ["a", None, None]) != first


def test_a_tool_call_is_a_place_of_its_own_run_only() -> None:
    agent, child = Places("root"), Places("root/s1.2.delegate:00")
    child.next_cell()
    with tool_place("root", 1, 2):
        assert agent.here == "s1.2"
        assert child.here == "c1"


def test_two_turns_of_the_same_program_have_the_same_paths(workspace: Workspace) -> None:
    """Children asked for by threads that are slow in another order each time."""
    order: list[float] = []

    def reply(prompt: str) -> str:
        if "child" in prompt.split("Your task:")[-1]:
            time.sleep(order[hash(prompt) % len(order)])
            return action("SUBMIT(answer='x')")
        return action(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(4) as pool:\n"
            "    one = list(pool.map(lambda i: rlm_query(f'child {i % 3}'), range(6)))\n"
            "two = rlm_query_batched(['child a', 'child b'])\nSUBMIT(answer=str(len(one) + len(two)))"
        )

    paths: list[set[str]] = []
    for delays in ([0.0, 0.05, 0.1], [0.1, 0.0, 0.05]):
        order[:] = delays
        request = TurnRequest(question="go", mode="rlm", model=scripted(reply), limits=ev.Limits())
        done = workspace.submit(request)
        assert workspace.wait(done.turn, timeout=100).answer == "8"
        started = [e.data for e in events_of(workspace, done.session) if isinstance(e.data, ev.RunStarted)]
        assert len({data.path for data in started}) == len(started) == 9, "every run has a path of its own"
        paths.append({data.path for data in started})
    assert paths[0] == paths[1]
    assert not any("run_" in path or "cel_" in path or "sbx_" in path for path in paths[0])
