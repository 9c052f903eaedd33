"""Our sandboxed interpreter in a plain dspy.RLM. `python interpreter_in_dspy_rlm.py`

The model is a script, so that this runs without a key. FLEET_MODEL=openai/gpt-5-mini takes a real one in its place, and
FLEET_API_BASE names a server of your own.
"""

import os

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

import fleet_rlm

CODE = "SUBMIT(vowels=sum(letter in 'aeiou' for letter in text))"


class Script:
    """An engine that always writes the same cell."""

    def complete(self, request: Request) -> Response:
        reply = f"[[ ## reasoning ## ]]\nI count.\n\n[[ ## code ## ]]\n```python\n{CODE}\n```\n\n[[ ## completed ## ]]"
        message = Message.assistant([TextPart(reply)])
        usage = Usage(input_tokens=100, output_tokens=20, total_tokens=120)
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None: ...


own = {"api_base": os.environ["FLEET_API_BASE"], "api_key": "none"} if "FLEET_API_BASE" in os.environ else {}
if "FLEET_MODEL" in os.environ:
    lm = dspy.LM(os.environ["FLEET_MODEL"], cache=False, **own)
else:
    lm = dspy.LM("my/script", engine=Script(), cache=False)
with dspy.context(lm=lm):
    rlm = dspy.RLM("text -> vowels: int", interpreter_factory=fleet_rlm.DaytonaInterpreter)
    print(rlm(text="recursive language models " * 1000).vowels)
