"""`python -m bench`: what the product promises about speed, measured, beside `dspy.RLM` on `dspy.LocalInterpreter`."""
