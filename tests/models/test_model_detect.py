"""Detection of local servers: real sockets, also ones that never answer."""

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fleet_rlm.runtime.models import check
from fleet_rlm.runtime.models.detect import found_keys, found_servers, request_json
from fleet_rlm.runtime.models.providers import Provider
from fleet_rlm.runtime.models.registry import ModelRegistry


def test_servers_are_found_in_the_order_asked_and_silent_ones_cost_one_timeout(server, settings_for):
    server.models = [{"id": "qwen"}, {"id": "phi"}, {"no": "id"}, "odd"]
    silent = socket.create_server(("127.0.0.1", 0))
    wanted = [
        Provider("lm_studio", "LM Studio", address=f"http://127.0.0.1:{silent.getsockname()[1]}/v1"),
        Provider("ollama_chat", "Ollama", address=server.address),
        Provider("llama_cpp", "llama.cpp", address="http://127.0.0.1:9/v1"),
    ]
    start = time.perf_counter()
    found = found_servers(wanted, timeout_s=2.0)
    assert time.perf_counter() - start < 4.0  # one time-out for all, not one each
    assert [(item.provider, item.models) for item in found] == [("Ollama", ("ollama_chat/qwen", "ollama_chat/phi"))]
    silent.close()


def test_a_server_that_is_something_else_is_not_a_model_server(server):
    server.get["/other/models"] = (200, b"<html>hello</html>")
    address = server.address.replace("/v1", "/other")
    assert found_servers([Provider("x", "X", address=address)], timeout_s=5.0) == []


def test_a_redirect_is_not_followed(server):
    server.get["/moved"] = (302, {})
    reply = request_json(server.address.removesuffix("/v1") + "/moved", key="hush", timeout_s=5)
    assert reply.status == 302
    assert [asked.path for asked in server.asked] == ["/moved"]


def test_keys_are_found_in_the_order_of_the_table(settings_for):
    found = found_keys(settings_for(GOOGLE_API_KEY="g", OPENAI_API_KEY="o", TOGETHERAI_API_KEY="t"))
    assert [(key.variable, key.example) for key in found] == [
        ("OPENAI_API_KEY", "openai/gpt-5-mini"),
        ("GOOGLE_API_KEY", "gemini/gemini-2.5-flash"),
        ("TOGETHERAI_API_KEY", None),
    ]
    assert found[0].source == "environment"


@contextlib.contextmanager
def dripping(first: bytes) -> Iterator[str]:
    """The address of a server that sends `first` and then a byte now and then, for as long as somebody reads."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(65_536)
            client.sendall(first)
            while not over.wait(0.05):
                client.sendall(b"x")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        over.set()
        listening.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("first", [HEAD + b"X: ", HEAD + b"Content-Length: 1000000\r\n\r\n"], ids=["head", "body"])
def test_a_server_that_drips_is_given_up_as_one_that_is_silent(first):
    with dripping(first) as address, pytest.raises(TimeoutError):
        request_json(f"{address}/models", timeout_s=1.0)


def test_a_model_that_drips_its_answer_is_given_up(server, settings_for):
    registry = ModelRegistry(settings_for(FLEET_MODEL="openai/tiny", FLEET_API_BASE=server.address), environ={})
    with dripping(HEAD + b"Content-Length: 1000000\r\n\r\n") as address:
        lm = registry.lm(dataclasses.replace(registry.resolve(), api_base=address), num_retries=0)
        steps, facts = check.run(registry.resolve(), lm, answer_s=1.0)
    assert [(step.name, step.ok) for step in steps] == [("address", True), ("answer", False)] and facts is None
    assert "no answer in time" in steps[-1].detail


@pytest.mark.parametrize("place", ["例子", "host\u200b", "127.0.0.1:1/\u4e2d", "a..b", f"{'x' * 64}.org"])
def test_an_address_that_cannot_be_asked_is_no_answer(place):
    with pytest.raises(OSError):
        request_json(f"http://{place}/v1")
