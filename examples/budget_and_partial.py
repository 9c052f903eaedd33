"""A limit that is too small: the best partial answer comes back, and which limit it met. `python budget_and_partial.py`

The model is a function, so that this runs without a key: it summarises page by page, needs 15 calls and gets 8. The
last of them is held back for an answer from what there is.
"""

import re

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

import fleet_rlm

TEXT = "".join(f"Page {page}: {'the pump ran. ' * 20}\n" for page in range(1, 13))
CODE = """
pages, notes = context.splitlines(), globals().get("notes", [])
for page in pages[len(notes):][:4]:
    notes.append(llm_query("Summarise " + page))
print("So far:", " ".join(notes))
if len(notes) == len(pages):
    SUBMIT(answer=" ".join(notes))
"""


class Summarising:
    """Writes that cell where a run asks what to do next, a word for a page, and at the limit what was printed."""

    def complete(self, request: Request) -> Response:
        text = " ".join(
            part.text for message in request.messages for part in message.parts if isinstance(part, TextPart)
        )
        if text.startswith("Summarise"):
            reply = f"page-{text.split()[2].rstrip(':')}-fine"
        elif found := re.findall(r"So far: (.*)", text) if "[[ ## code ## ]]" not in text else None:
            reply = f"[[ ## answer ## ]]\n{found[-1]}\n\n[[ ## completed ## ]]"
        else:
            reply = f"[[ ## reasoning ## ]]\nFour more.\n\n[[ ## code ## ]]\n```python{CODE}```"
        message = Message.assistant([TextPart(reply)])
        usage = Usage(input_tokens=100, output_tokens=20, total_tokens=120)
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None: ...


result = fleet_rlm.run(
    "What does each page say?",
    context=TEXT,
    mode="rlm",
    lm=dspy.LM("my/summarising", engine=Summarising()),
    budget=fleet_rlm.Budget(calls=8, wall_s=60),
)
print(result.status, result.limit, result.usage.calls)
print(result.answer)
