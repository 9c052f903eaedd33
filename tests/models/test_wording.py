"""What a request is known by."""

from fleet_rlm.runtime.models.wording import request_hash


def test_the_hash_of_a_request_does_not_change_between_versions() -> None:
    """A journal is read by later versions."""
    messages = [{"role": "user", "content": "Who?\n\u00e9\ud800"}]
    known = request_hash("openai/m", None, messages, {"temperature": 0.5, "stop": ["a", 1]})
    assert known == "573183fedf173fa7cca84dce52411cded4c0e478386cc95bbbd2156f1c58c6e8"
