"""Detection of local servers: real sockets, also ones that never answer."""

import socket
import time

from fleet_rlm.runtime.models.detect import found_keys, found_servers, request_json
from fleet_rlm.runtime.models.providers import Provider


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
