"""Host functions that agents and model-written code may call."""
