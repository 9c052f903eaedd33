"""What a request is known by."""

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from fleet_rlm.runtime.models.wording import KEPT_CHARS, request_hash, whole_characters


def test_the_hash_of_a_request_does_not_change_between_versions() -> None:
    """A journal is read by later versions."""
    messages = [{"role": "user", "content": "Who?\n\u00e9\ud800"}]
    known = request_hash("openai/m", None, messages, {"temperature": 0.5, "stop": ["a", 1]})
    assert known == "573183fedf173fa7cca84dce52411cded4c0e478386cc95bbbd2156f1c58c6e8"


TEXT = some.text() | some.sampled_from(["x" * KEPT_CHARS, "x" * (KEPT_CHARS + 1), '"\\', "\ud800"])
PLAIN = some.fixed_dictionaries({"role": TEXT, "content": TEXT | some.none() | some.lists(TEXT)})
VALUE = some.none() | some.integers() | some.floats(allow_nan=False) | TEXT
MESSAGE = PLAIN | some.dictionaries(some.text(), VALUE) | TEXT


@given(prompt=some.none() | TEXT, messages=some.none() | some.lists(MESSAGE) | some.lists(PLAIN).map(tuple))
def test_it_is_that_of_the_whole_request_as_json(prompt: Any, messages: Any) -> None:
    for _ in range(2):  # what was put into JSON once is put there again
        whole = json.dumps(["m", prompt, messages, {"n": 1}], sort_keys=True, ensure_ascii=False)
        expected = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
        assert request_hash("m", prompt, messages, {"n": 1}) == expected


def test_halves_of_surrogate_pairs_are_replaced_and_nothing_else() -> None:
    plain = {"role": "user", "content": ["\ufeffcaf\u00e9 \U0001f600 \x00", 3, None]}
    assert whole_characters(plain) == plain
    assert whole_characters("\ud83d") == whole_characters("\ude00") == "\ufffd"
    assert whole_characters("a\ud83db\ude00c\ud83d") == "a\ufffdb\ufffdc\ufffd"
    assert whole_characters("\ufeff\ud83d\ude00 \ud83d") == "\ufeff\U0001f600 \ufffd", "two halves are one character"
    assert whole_characters({"\ud83d": [("\ud83d",)]}) == {"\ufffd": [["\ufffd"]]}
