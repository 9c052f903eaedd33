"""Our sandboxed interpreter in a plain dspy.RLM.

`FLEET_MODEL=openai/gpt-5-mini python interpreter_in_dspy_rlm.py`; FLEET_API_BASE names a server of your own.
"""

import os

import dspy

import fleet_rlm

own = {"api_base": os.environ["FLEET_API_BASE"], "api_key": "none"} if "FLEET_API_BASE" in os.environ else {}
with dspy.context(lm=dspy.LM(os.environ["FLEET_MODEL"], cache=False, **own)):
    rlm = dspy.RLM("text -> vowels: int", interpreter_factory=fleet_rlm.DaytonaInterpreter)
    print(rlm(text="recursive language models " * 1000).vowels)
