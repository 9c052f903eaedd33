"""The API's own document: it describes every route, and differs from Daytona's two documents as listed, no more.

`daytona_operations.json` holds facts of Daytona's documents (v0.205.1): per operation the names in the query, of the
fields taken and of the fields answered; `*` marks what is required there.
"""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fleet_rlm.sandboxd
from fleet_rlm.sandboxd.operations import OPERATIONS

LIST = Path(fleet_rlm.sandboxd.__file__).parent / "openapi_differences.toml"
PREFIXES = {"api": "/api", "toolbox": "/toolbox/{}"}


class Difference(NamedTuple):
    document: str
    kind: str  # operation, extra, or query, body, answer of an operation that both have
    operation: str
    name: str = ""


@pytest.fixture(scope="module")
def document(server):
    with server.http() as http:
        answer = http.get("/api/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_every_route_is_described_and_nothing_else(document):
    described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert sorted(described - set(OPERATIONS)) == [], "routes without an entry in operations.py"
    assert sorted(set(OPERATIONS) - described) == [], "entries in operations.py without a route"
    assert all(o["summary"] for methods in document["paths"].values() for o in methods.values())


def test_references_lead_somewhere(document):
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in document["components"]["schemas"]


def test_every_difference_is_listed_with_its_reason(document):
    entries = tomllib.loads(LIST.read_text())["difference"]
    found = set(differences(document))
    used: set[Difference] = set()
    for entry in entries:
        assert entry["why"].strip(), entry
        for operation in entry["operations"]:
            for name in entry.get("names", [""]):
                matching = {
                    d
                    for d in found
                    if (d.document, d.kind, d.name) == (entry["document"], entry["kind"], name)
                    and fnmatch.fnmatchcase(d.operation, operation)
                }
                assert matching, (
                    f"the list says more than is so: {entry['document']} {entry['kind']} {operation} {name}"
                )
                used |= matching
    assert sorted(found - used) == [], "differences that the list does not have"


def differences(document) -> Iterator[Difference]:
    theirs = json.loads((Path(__file__).parent / "daytona_operations.json").read_text())
    for name, prefix in PREFIXES.items():
        ours = dict(our_operations(document, prefix))
        known = {normal(operation): (operation, facts) for operation, facts in theirs[name].items()}
        for key, (operation, facts) in known.items():
            if key not in ours:
                yield Difference(name, "operation", operation)
                continue
            for kind in ("query", "body", "answer"):
                wanted = {field.rstrip("*") for field in facts.get(kind, [])}
                for field in wanted - ours[key][kind]:
                    yield Difference(name, kind, operation, field)
        for key in ours:
            if key not in known:
                yield Difference(name, "extra", key)


def our_operations(document, prefix: str) -> Iterator[tuple[str, dict[str, set[str]]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            bare = normal(f"{method.upper()} {path}")
            verb, _, rest = bare.partition(" ")
            if not rest.startswith(prefix + "/"):
                continue
            body = operation.get("requestBody", {}).get("content", {})
            success = next(r for code, r in operation["responses"].items() if code != "default")
            yield (
                f"{verb} {rest.removeprefix(prefix)}",
                {
                    "query": {p["name"] for p in operation["parameters"] if p["in"] == "query"},
                    "body": fields(document, body),
                    "answer": fields(document, success.get("content", {})),
                },
            )


def fields(document, content) -> set[str]:
    for media in content.values():
        schema = media["schema"]
        schema = schema.get("items", schema)
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return set(schema.get("properties", ()))
    return set()


def normal(operation: str) -> str:
    return re.sub(r"\{\w+\}", "{}", operation)
