"""Identifiers: their shape, their order, and that no two are the same."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from fleet_rlm.runtime.execution.ids import new_id

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def test_an_id_names_its_kind_and_the_moment() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id("trn")
    after = time.time_ns() // 1_000_000
    assert re.fullmatch(f"trn_[{CROCKFORD}]{{26}}", made)
    moment = 0
    for char in made[4:14]:
        moment = moment * 32 + CROCKFORD.index(char)
    assert before <= moment <= after


def test_ids_of_different_moments_sort_by_time() -> None:
    made: list[str] = []
    for _ in range(5):
        made.append(new_id("evt"))
        time.sleep(0.002)
    assert made == sorted(made)


def test_many_threads_get_no_id_twice() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [one for some in pool.map(lambda _: [new_id("cal") for _ in range(1_500)], range(8)) for one in some]
    assert len(set(made)) == 12_000
    places = list(zip(*(one[14:] for one in made), strict=True))
    assert len(places) == 16
    assert all(set(each) == set(CROCKFORD) for each in places)  # chance in every character of the random half


def test_a_fork_has_chance_of_its_own() -> None:
    new_id("cal")  # some of what was fetched is left
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, "\n".join(new_id("cal")[14:] for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = set(os.read(reading, 65_536).decode().split())
    os.close(reading)
    os.close(writing)
    assert len(told) == 50
    assert told.isdisjoint({new_id("cal")[14:] for _ in range(400)})
