"""Adapters: what is left of a reply that has not the form that was asked for."""

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from tests.scripted import action

from fleet_rlm.runtime.models.adapters import Json
from fleet_rlm.runtime.models.rlm import salvage


@pytest.mark.parametrize("code", ["names = {f'child {i}' for i in range(9)}", 'found = {"a": 1}\nprint(found)'])
def test_code_with_braces_is_taken_out_of_a_reply_that_is_no_json(code: str) -> None:
    with pytest.raises(AdapterParseError) as caught:
        Json().parse(dspy.Signature("task -> reasoning, code"), action(code))
    found = salvage(caught.value.lm_response)
    assert found is not None and found.code.strip() == code
