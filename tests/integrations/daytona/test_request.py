"""What is sent with a cell: only what the worker does not have, and nothing that it could not take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet_rlm.integrations.daytona.binding import ContextValue
from fleet_rlm.integrations.daytona.offer import takes_handles
from fleet_rlm.integrations.daytona.request import BadRequest, RequestWriter, is_internal


def sent(writer: RequestWriter, variables: dict[str, Any], **more: Any) -> dict[str, Any]:
    return json.loads(writer.write("c", "code", variables, more.get("tools", {}), more.get("fields")))


def test_a_variable_is_sent_when_its_value_changed() -> None:
    writer = RequestWriter()
    rows = [1, {"a": None}]
    assert sent(writer, {"x": 1, "rows": rows})["vars"] == {"x": 1, "rows": rows}
    assert sent(writer, {"x": 1, "rows": [1, {"a": None}]})["vars"] == {}
    rows.append(2)
    assert sent(writer, {"x": True, "rows": rows})["vars"] == {"x": True, "rows": rows}  # True == 1, yet it changed


def test_tools_and_fields_are_sent_when_they_changed() -> None:
    def plain() -> None: ...

    @takes_handles
    def handles() -> None: ...

    writer, tools = RequestWriter(), {"plain": plain, "handles": handles}
    first = sent(writer, {}, tools=tools, fields=[{"name": "a"}])
    assert first["tools"] == [["plain", ""], ["handles", "handles"]] and first["fields"] == [{"name": "a"}]
    assert not {"tools", "fields"} & set(sent(writer, {}, tools=tools, fields=[{"name": "a"}]))
    assert sent(writer, {}, tools={"plain": plain}, fields=None) | {"cell": 0} == {
        "cell": 0,
        "code": "code",
        "tools": [["plain", ""]],
        "fields": None,
        "vars": {},
        "bind": {},
    }


def test_context_values_are_bound_not_sent() -> None:
    value = ContextValue({"$slice": ["0" * 64, 0, 5]}, "preview")
    request = sent(RequestWriter(), {"context": value, "x": 1})
    assert request["bind"] == {"context": value.spec} and request["vars"] == {"x": 1}


def test_what_is_too_large_is_refused_and_sent_again_later() -> None:
    writer = RequestWriter(limit=1000)
    with pytest.raises(BadRequest, match="more than 1,000; large inputs belong into a context"):
        sent(writer, {"a": "x" * 600, "b": "x" * 600})
    assert sent(writer, {"a": "x" * 600})["vars"] == {"a": "x" * 600}


def test_odd_texts_survive() -> None:
    value = "\ud800 \x00 \u2028 \U0001f600"
    raw = RequestWriter().write("c", value, {"v": value}, {}, None)
    assert json.loads(raw.decode("utf-8", "surrogatepass"))["vars"] == {"v": value}


@pytest.mark.parametrize(
    ("code", "variables", "internal"),
    [
        ("shim", {"__dspy_host_token": "t"}, True),
        ("import x\ny = _raw_y", {"_raw_y": ""}, True),
        ("__fleet_bind__('context', _raw_context)", {}, True),
        ("print(_raw_y)", {"_raw_y": "", "z": 1}, False),
        ("print(1)", {}, False),
    ],
)
def test_dspys_own_code_is_known(code: str, variables: dict[str, Any], internal: bool) -> None:
    assert is_internal(code, variables) is internal
