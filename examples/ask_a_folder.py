"""Ask a question over a folder: `python ask_a_folder.py [FOLDER ["question"]]`; without any, about these examples.

Without FLEET_MODEL the demo program answers.
"""

import os
import sys
from pathlib import Path

import fleet_rlm

given = dict(enumerate(sys.argv))
folder = Path(given.get(1, Path(__file__).parent))
question = given.get(2, "Which example shows a limit and a partial answer?")
result = fleet_rlm.run(question, context=folder, lm=os.environ.get("FLEET_MODEL", "demo/search"))
print(result.answer)
for citation in result.citations:
    print(f"  {citation.path}:{citation.line}: {citation.quote}")
print(f"{result.status}: {result.usage.calls} calls, {len(result.tree.runs)} runs")
