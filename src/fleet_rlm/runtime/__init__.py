"""The engine: agent, recursion, budget, journal. Knows no HTTP."""
