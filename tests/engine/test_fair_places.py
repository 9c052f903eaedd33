"""Who gets the next place at a provider, and how many there are."""

from collections import Counter

from fleet_rlm.runtime.execution.fair import FairQueue
from fleet_rlm.runtime.execution.throttle import KEPT, Place, Providers, Throttle


def places(turn: str, path: tuple[str, ...], n: int, urgency: int = 2) -> list[Place]:
    return [Place(turn, urgency, path) for _ in range(n)]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_branch_of_a_thousand_does_not_starve_one_of_five() -> None:
    queue: FairQueue[Place] = FairQueue()
    for place in places("t", ("root", "big"), 1000) + places("t", ("root", "small"), 5):
        queue.push(place)
    first = Counter(queue.pop().path[-1] for _ in range(10))
    assert first == {"big": 5, "small": 5}


def test_turns_share_before_branches_do() -> None:
    queue: FairQueue[Place] = FairQueue()
    for branch in range(50):
        for place in places("busy", ("root", f"b{branch}"), 10, urgency=0):
            queue.push(place)
    for place in places("other", ("root",), 4):
        queue.push(place)
    assert Counter(queue.pop().turn for _ in range(8)) == {"busy": 4, "other": 4}


def test_what_a_whole_turn_waits_for_goes_before_its_sub_calls() -> None:
    queue: FairQueue[Place] = FairQueue()
    sub, step, closing = (Place("t", urgency, ("root",)) for urgency in (2, 1, 0))
    for place in (sub, step, closing):
        queue.push(place)
    assert [queue.pop() for _ in range(4)] == [closing, step, sub, None]


def test_fairness_holds_at_every_level_of_the_tree() -> None:
    queue: FairQueue[Place] = FairQueue()
    for grandchild in range(20):  # one child has twenty children, the other calls by itself
        for place in places("t", ("root", "a", f"g{grandchild}"), 5):
            queue.push(place)
    for place in places("t", ("root", "b"), 20):
        queue.push(place)
    assert Counter(queue.pop().path[1] for _ in range(20)) == {"a": 10, "b": 10}


def test_nothing_is_kept_of_those_that_left() -> None:
    queue: FairQueue[Place] = FairQueue()
    stay, leave = Place("t", 2, ("root", "x")), Place("t", 2, ("root", "y"))
    queue.push(stay)
    queue.push(leave)
    queue.remove(leave)
    assert queue.pop() is stay and queue.pop() is None
    queue.ended(stay)
    assert not queue._turns and queue.waiting == 0


def granted(all_places: list[Place]) -> list[Place]:
    return [place for place in all_places if place.granted]


def test_a_refusal_halves_the_width_once_for_all_that_were_sent_under_it() -> None:
    clock = Clock()
    gate = Throttle(64, clock=clock)
    waiting = places("t", ("root",), 200)
    for place in waiting:
        gate.enter(place)
    sent = granted(waiting)
    assert len(sent) == gate.width == 64
    for place in sent[:50]:
        gate.leave(place, "limited")
    assert gate.width == 32
    for place in sent[50:]:
        gate.leave(place, "ok")
    assert gate.in_flight <= 33


def test_the_level_that_was_refused_is_not_tried_again_for_a_while() -> None:
    clock = Clock()
    gate = Throttle(64, clock=clock)

    def work(rounds: int, bears: int) -> int:
        """A provider that refuses what is more than `bears` at once. Returns its refusals."""
        refused = 0
        for _ in range(rounds):
            batch = places("t", ("root",), gate.width * 2)
            for place in batch:
                gate.enter(place)
            sent = granted(batch)
            refused += max(0, len(sent) - bears)
            clock.now += 0.1
            for index, place in enumerate(sent):
                gate.leave(place, "ok" if index < bears else "limited")
            for place in set(batch) - set(sent):
                gate.give_up(place)
        return refused

    assert work(15, bears=10) < 100
    assert work(60, bears=10) == 0, "it has found what the provider bears"
    assert gate.width == 10
    clock.now += 60
    assert work(30, bears=1000) == 0 and gate.width > 20, "and it looks again later"


def test_retry_after_pauses_everyone() -> None:
    clock = Clock()
    gate = Throttle(4, clock=clock)
    first, *others = places("t", ("root",), 3)
    gate.enter(first)
    gate.leave(first, "limited", retry_after=5.0)
    for place in others:
        gate.enter(place)
    assert not granted(others) and gate.paused_s == 5.0
    clock.now += 5.1
    late = Place("t", 2, ("root",))
    gate.enter(late)
    assert granted(others) == others[:2], "two at once: the width was halved"
    gate.give_up(late)


def test_a_server_that_works_one_by_one_is_not_asked_for_sixty_four_at_once() -> None:
    clock = Clock()
    gate = Throttle(64, clock=clock)
    waiting = places("t", ("root",), 400)
    for place in waiting:
        gate.enter(place)
    for _ in range(400):
        oldest = next(place for place in waiting if place.granted)
        clock.now += 1.0  # one answer a second, whatever is in flight
        waiting.remove(oldest)
        gate.leave(oldest, "ok", tokens=(10, 100))
    assert gate.width <= 8


def test_a_provider_is_asked_as_widely_as_configured_from_the_first_call_on() -> None:
    gate = Throttle(256, clock=Clock())
    waiting = places("t", ("root",), 1000)
    for place in waiting:
        gate.enter(place)
    assert len(granted(waiting)) == gate.width == 256


def test_a_wider_setting_counts_at_once_for_a_provider_that_refused_nothing() -> None:
    providers = Providers()
    gate = providers.throttle("a", 4)
    used = Place("t", 2, ("root",))
    gate.enter(used)
    gate.leave(used, "ok", tokens=(10, 10))
    assert providers.throttle("a", 32) is gate and gate.width == 32


def test_a_wider_setting_does_not_undo_what_a_refusal_taught() -> None:
    clock = Clock()
    providers = Providers()
    gate = providers.throttle("a", 8)
    gate._clock = clock
    refused = Place("t", 2, ("root",))
    gate.enter(refused)
    gate.leave(refused, "limited")
    assert providers.throttle("a", 64) is gate and gate.width == 4


def test_endpoints_have_gates_of_their_own_and_old_ones_are_forgotten() -> None:
    providers = Providers()
    one = providers.throttle("a", 8)
    assert providers.throttle("a", 4) is one and one.most == 4
    busy = Place("t", 2, ("root",))
    one.enter(busy)
    for number in range(KEPT + 50):
        providers.throttle(number, 8)
    assert providers.throttle("a", 4) is one, "one that is used stays"
    assert len(providers._throttles) <= KEPT
