"""The interpreter's contract against a real Daytona: `make test-daytona`, with DAYTONA_API_KEY set.

The key comes under another name, because no other test may see one. At most ten sandboxes are made (eight for the contract, two for the diagnosis) and all are deleted.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from daytona_cloud.few_sandboxes import FewSandboxes
from fleet_rlm.integrations.daytona.diagnostics import diagnose
from fleet_rlm.integrations.daytona.interpreter import DaytonaInterpreter
from fleet_rlm.integrations.daytona.runtime import SandboxRuntime
from fleet_rlm.integrations.daytona.settings import DaytonaSettings, PoolSizes
from integrations.daytona.factories import Factory
from integrations.daytona.test_interpreter_contract import *  # noqa: F403 - the suite itself

pytestmark = [
    pytest.mark.daytona,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("CLOUD_DAYTONA_KEY"), reason="run it by `make test-daytona`"),
]
FOR_THE_CONTRACT = 8


def cloud_settings() -> DaytonaSettings:
    found = DaytonaSettings.cloud(
        api_key=os.environ["CLOUD_DAYTONA_KEY"],
        api_url=os.environ.get("CLOUD_DAYTONA_URL"),
        target=os.environ.get("CLOUD_DAYTONA_TARGET") or None,
    )
    return DaytonaSettings(found.api_key, found.api_url, found.target, found.provider, found.isolation, PoolSizes())


@pytest.fixture(scope="session")
def cloud() -> Iterator[FewSandboxes]:
    """The contract's sandboxes; in the end nothing with their label is left."""
    labels = {"fleet.purpose": "test-daytona", "fleet.turn": uuid.uuid4().hex}
    runtime = SandboxRuntime(cloud_settings())
    source = FewSandboxes(runtime, labels, FOR_THE_CONTRACT)
    yield source
    deadline = time.monotonic() + 120
    while runtime.delete_labelled(labels):
        assert time.monotonic() < deadline, "sandboxes are left: delete those with the label fleet.purpose=test-daytona"
        time.sleep(2)
    runtime.close()
    assert source.made <= FOR_THE_CONTRACT


@pytest.fixture
def factory(cloud: FewSandboxes) -> Factory:
    def make(**options: Any) -> DaytonaInterpreter:
        return DaytonaInterpreter(runtime=cloud, **options)

    make.execution_instructions = DaytonaInterpreter.execution_instructions  # type: ignore[attr-defined]
    return make


def test_diagnosis() -> None:
    assert [step for step in diagnose(cloud_settings()) if not step.ok] == []
