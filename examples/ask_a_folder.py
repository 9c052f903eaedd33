"""Ask a question over a folder: `python ask_a_folder.py FOLDER "question"`.

Without FLEET_MODEL the demo program answers.
"""

import os
import sys
from pathlib import Path

import fleet_rlm

folder, question = Path(sys.argv[1]), sys.argv[2]
result = fleet_rlm.run(question, context=folder, lm=os.environ.get("FLEET_MODEL", "demo/search"))
print(result.answer)
for citation in result.citations:
    print(f"  {citation.path}:{citation.line}: {citation.quote}")
print(f"{result.status}: {result.usage.calls} calls, {len(result.tree.runs)} runs")
