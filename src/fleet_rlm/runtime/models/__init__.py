"""Language models: which there are, how they are called, and what their failures mean."""

import os

# DSPy would fetch its price list from the network at first use, and stall for 5 s where there is none; its bundled
# list is used instead unless the person says otherwise. Must be set before DSPy looks.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
