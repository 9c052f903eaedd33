"""Requests that schemathesis makes up from the API's own document: whatever comes, the answer is never a 5xx.

501 is the one that is meant: what a server on one machine does not have, said with a sentence.
"""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from daytona import CreateSandboxFromSnapshotParams
from sandboxd_server import Server

PER_OPERATION = 6
AT_LEAST = 500
# These would end the sandbox that the others are sent to.
OF_ANOTHER = {"DELETE /api/sandbox/{key}", "POST /api/sandbox/{key}/stop", "DELETE /api/volumes/{id}"}
SETTINGS = hypothesis.settings(
    max_examples=PER_OPERATION,
    database=None,
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


class Sender:
    """Sends made-up requests of one operation after the other, and keeps what came back."""

    def __init__(self, key: str, sandbox: str, volume: str) -> None:
        self.headers = {"Authorization": f"Bearer {key}"}
        self.ids = {"sandbox": sandbox, "volume": volume}
        self.answers: list[tuple[str, int]] = []
        self.failures: list[str] = []

    def send_all(self, operation) -> None:
        @SETTINGS
        @hypothesis.given(case=operation.as_strategy())
        def send(case) -> None:
            self.send(operation, case)

        send()

    def send(self, operation, case) -> None:
        if operation.label not in OF_ANOTHER:
            for name in ("key", "id"):
                if f"{{{name}}}" in operation.path:
                    case.path_parameters[name] = self.ids["volume" if "volumes" in operation.path else "sandbox"]
        response = case.call(headers=self.headers, timeout=60)
        self.answers.append((operation.label, response.status_code))
        if response.status_code >= 500 and response.status_code != 501:
            self.failures.append(f"{operation.label}: {response.status_code} {response.text[:300]}")
        elif response.status_code >= 400:
            assert {"statusCode", "message", "code", "source"} <= set(response.json()), operation.label


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A server of its own: what is made up here must not get in the way of other tests."""
    started = Server(tmp_path_factory.mktemp("made-up") / "data")
    yield started
    started.stop()


@pytest.mark.timeout(400)
def test_no_made_up_request_ends_in_a_5xx(own_server):
    client = own_server.sdk()
    target = client.create(CreateSandboxFromSnapshotParams(auto_stop_interval=0))
    sender = Sender(own_server.key, target.id, client.volume.create("target").id)
    schema = schemathesis.openapi.from_url(f"{own_server.api}/openapi.json", headers=sender.headers)
    for found in schema.get_all_operations():
        sender.send_all(found.ok())
    assert sender.failures == []
    assert len(sender.answers) >= AT_LEAST
    reached = {label for label, status in sender.answers if status < 400}
    assert len(reached) >= 20, "most operations were only refused, so little was shown"
    assert "Traceback" not in own_server.log.read_text()
    assert client.get(target.id).process.exec("echo alive").result == "alive\n"
