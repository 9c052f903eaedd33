"""What a model object was given to prove who asks: secrets of a person who brings their own `dspy.LM`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import dspy

from fleet_rlm.integrations.mcp.servers import in_address, in_header

KEYS: Final = (
    "api_key",
    "azure_ad_token",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "vertex_credentials",
)
HEADERS: Final = ("headers", "extra_headers", "default_headers")
ADDRESSES: Final = ("api_base", "base_url")
OPEN_HEADERS: Final = frozenset(
    (
        "accept",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "referer",
        "user-agent",
        "x-title",
    )
)
"""What stands in these is no secret, and may stand in an answer."""


def secrets_of(lm: dspy.BaseLM) -> set[str]:
    """The keys of a model, what stands in its headers, and the passwords in its address."""
    own = vars(lm)  # where a class of the caller's may keep them
    return set(_in(own)).union(_in(_mapping(own.get("kwargs"))))


def _in(given: Mapping[str, Any]) -> Iterator[str]:
    for name in KEYS:
        if isinstance(value := given.get(name), str):
            yield value
    for name in HEADERS:
        for header, value in _mapping(given.get(name)).items():
            if isinstance(value, str) and header.lower() not in OPEN_HEADERS:
                yield from in_header(value)
    for name in ADDRESSES:
        if isinstance(value := given.get(name), str):
            yield from in_address(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
