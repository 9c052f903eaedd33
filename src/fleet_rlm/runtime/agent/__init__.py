"""The chat agent: the entry point of every task."""
