"""Any language model behind DSPy's engine interface: here one that is a function. `python own_lm.py`"""

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

import fleet_rlm


class Echo:
    """The two methods of an engine. A real one would send `request` to a model."""

    def complete(self, request: Request) -> Response:
        answer = "[[ ## answer ## ]]\nI am a function, not a model.\n\n[[ ## completed ## ]]"
        usage = Usage(input_tokens=100, output_tokens=20, total_tokens=120)
        message = Message.assistant([TextPart(answer)])
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None: ...


result = fleet_rlm.run("Who are you?", mode="direct", lm=dspy.LM("my/echo", engine=Echo()))
print(result.answer, result.usage.calls, result.usage.prompt_tokens)
