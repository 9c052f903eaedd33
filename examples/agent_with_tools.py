"""`FleetAgent` with tools of one's own, as a DSPy module outside of any turn. `python agent_with_tools.py`

The model is a script, so that this runs without a key; `dspy.LM("openai/gpt-5-mini")` takes its place.
"""

import json
from collections.abc import Iterator

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

import fleet_rlm

STOCK = {"pump": 3, "valve": 0}


def stock(part: str) -> int:
    """How many of a part are in stock."""
    return STOCK[part]


def order(part: str, number: int) -> str:
    """Order some of a part."""
    STOCK[part] += number
    return f"{number} x {part} ordered"


def step(thought: str, *calls: tuple[str, dict[str, object]]) -> str:
    """A reply in the form that DSPy's chat adapter reads."""
    wanted = {"tool_calls": [{"name": name, "args": args} for name, args in calls]}
    return (
        f"[[ ## next_thought ## ]]\n{thought}\n\n[[ ## tool_calls ## ]]\n{json.dumps(wanted)}\n\n[[ ## completed ## ]]"
    )


class Script:
    """An engine that gives its replies one after the other."""

    def __init__(self, *replies: str) -> None:
        self.replies: Iterator[str] = iter(replies)

    def complete(self, request: Request) -> Response:
        message = Message.assistant([TextPart(next(self.replies))])
        usage = Usage(input_tokens=100, output_tokens=20, total_tokens=120)
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None: ...


script = Script(
    step("I look at both.", ("stock", {"part": "pump"}), ("stock", {"part": "valve"})),
    step("There is no valve.", ("order", {"part": "valve", "number": 2})),
    step("Done.", ("submit", {"answer": "3 pumps are there, 2 valves are ordered."})),
    step("I remember.", ("submit", {"answer": "Valves."})),
)
with dspy.context(lm=dspy.LM("my/script", engine=script)):
    agent = fleet_rlm.FleetAgent(tools=[stock, order])
    first = agent(question="What is in stock? Order two of what is missing.")
    print(first.answer, STOCK)
    print(agent(question="What did you order?", history=first.history).answer)
