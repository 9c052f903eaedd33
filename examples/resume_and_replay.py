"""A task that met its limit goes on with a higher one, and is then replayed from its journal without any call.

`python resume_and_replay.py`. The model is a function, so that this runs without a key. A model string in its place
(`lm="openai/gpt-5-mini"`) need not be given again to `resume`; an object must be, for it cannot be made from its name.
"""

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

import fleet_rlm

CODE = """
notes = [llm_query(f"Summarise page {page}") for page in range(8)]
SUBMIT(answer=" ".join(notes))
"""


class Counting:
    """Writes that cell where a run asks what to do next, and a word for each page."""

    asked = 0

    def complete(self, request: Request) -> Response:
        self.asked += 1
        text = " ".join(
            part.text for message in request.messages for part in message.parts if isinstance(part, TextPart)
        )
        if text.startswith("Summarise page"):
            answer = f"summary-{text.split()[-1]}"
        else:
            answer = f"[[ ## reasoning ## ]]\nPage by page.\n\n[[ ## code ## ]]\n```python{CODE}```"
        usage = Usage(input_tokens=100, output_tokens=20, total_tokens=120)
        message = Message.assistant([TextPart(answer)])
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None: ...


model = Counting()
lm = dspy.LM("my/counting", engine=model)

cut = fleet_rlm.run("What do the pages say?", mode="rlm", lm=lm, budget=fleet_rlm.Budget(calls=6))
print(cut.status, cut.limit)

whole = fleet_rlm.resume(cut.turn, lm=lm, budget=fleet_rlm.Budget(calls=50))
calls = [event.data for event in whole.journal if event.type == "call.finished"]
print(whole.status, whole.answer)
print(sum(call.replayed for call in calls), "of", len(calls), "calls were known")

before = model.asked
again = fleet_rlm.replay(whole.turn)
print(again.status, again.answer == whole.answer, model.asked - before, "calls made")
