"""A limit that is too small: the best partial answer comes back, and which limit it met.

`python budget_and_partial.py FILE`
"""

import sys
from pathlib import Path

import fleet_rlm

result = fleet_rlm.run(
    "Which lines speak of an error?",
    context=Path(sys.argv[1]),
    mode="rlm",
    lm="demo/search",
    budget=fleet_rlm.Budget(calls=3, wall_s=60),
)
print(result.status, result.limit, result.usage.calls)
print(result.answer)
