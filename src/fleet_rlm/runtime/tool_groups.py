"""The names of the agent's groups of tools, as a setting lists them. Light to import."""

from __future__ import annotations

from typing import Final

TOOL_GROUPS: Final = ("delegation", "contexts", "sandbox", "files", "memory", "web", "mcp")
