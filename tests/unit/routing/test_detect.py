from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from routing.catalogue import known_providers
from routing.config import ProviderSpec
from routing.detect import LocalPorts, detect_local
from routing.transport import open_client
from tests.upstream import ScriptedUpstream

NOWHERE = LocalPorts(1, 1, 1, 1)
"""Port 1 of the loopback interface: nobody listens, and one needs to be root to change that."""


def detect(
    ports: LocalPorts, *, own_port: int | None = None, ollama_host: str | None = None
) -> list[ProviderSpec]:
    async def scenario() -> list[ProviderSpec]:
        async with open_client() as client:
            return await detect_local(client, own_port=own_port, environ_ollama_host=ollama_host, ports=ports)

    found = asyncio.run(scenario())
    assert {spec.name for spec in found} <= known_providers().keys(), "the catalogue has each by its name"
    return found


def abilities(spec: ProviderSpec) -> list[tuple[str, str | None, int | None]]:
    return [(card.id, card.tool_calling, card.context_window) for card in spec.models]


OLLAMA: dict[str, Any] = {
    "/api/version": {"version": "0.30.1"},
    "/api/tags": {
        "models": [
            {"name": "nomic-embed-text:latest", "details": {"parameter_size": "137M"}},
            {"name": "qwen3:8b", "details": {"parameter_size": "8.2B"}},
        ]
    },
    "/api/ps": {"models": [{"name": "qwen3:8b", "context_length": 32768}]},
    "/api/show": {"capabilities": ["completion", "tools"], "parameters": "temperature 0.6\nnum_ctx 16384"},
}


def test_nothing_runs_and_nothing_is_found() -> None:
    assert detect(NOWHERE) == []


def test_ollama() -> None:
    with ScriptedUpstream(pages=OLLAMA) as server:
        (found,) = detect(NOWHERE._replace(ollama=server.port))
    assert (found.name, found.base_url, found.tier) == ("ollama", server.base_url, "local")
    assert found.api_key is None
    assert abilities(found) == [("qwen3:8b", "native", 32768)]
    assert not server.requests


@pytest.mark.parametrize(
    ("show", "size", "calling", "window"),
    [
        ({"capabilities": ["completion"]}, "8B", "constrained", 4096),
        ({"capabilities": ["completion", "tools"]}, "1.5B", "constrained", 4096),
        ({"capabilities": ["completion", "tools"], "parameters": "num_ctx 9000"}, "14B", "native", 9000),
        ({}, "14B", "constrained", 4096),
    ],
)
def test_weak_and_tool_less_models_are_constrained(
    show: dict[str, Any], size: str, calling: str, window: int
) -> None:
    pages = {
        **OLLAMA,
        "/api/tags": {"models": [{"name": "some:latest", "details": {"parameter_size": size}}]},
        "/api/ps": {"models": []},
        "/api/show": show,
    }
    with ScriptedUpstream(pages=pages) as server:
        (found,) = detect(NOWHERE._replace(ollama=server.port))
    assert abilities(found) == [("some:latest", calling, window)]


def test_coder_models_that_do_not_write_call_tags_are_constrained() -> None:
    pages = {**OLLAMA, "/api/tags": {"models": [{"name": "qwen2.5-coder:14b"}]}}
    with ScriptedUpstream(pages=pages) as server:
        (found,) = detect(NOWHERE._replace(ollama=server.port))
    assert abilities(found) == [("qwen2.5-coder:14b", "constrained", 16384)]


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("127.0.0.1:{port}", True),
        ("http://localhost:{port}/", True),
        ("0.0.0.0:{port}", True),
        (":{port}", True),
        ("10.0.0.5:{port}", False),
        ("http://ollama.example:{port}", False),
        ("localhost:99999", False),
    ],
)
def test_the_environment_may_move_ollama_but_not_off_this_machine(host: str, seen: bool) -> None:
    with ScriptedUpstream(pages=OLLAMA) as server:
        found = detect(NOWHERE, ollama_host=host.format(port=server.port))
    assert [spec.base_url for spec in found] == ([server.base_url] if seen else [])


@pytest.mark.parametrize(
    "pages",
    [
        {
            "/api/v0/models": {
                "data": [
                    {"id": "bge-m3", "type": "embeddings", "state": "loaded"},
                    {"id": "small-1b", "type": "llm", "state": "not-loaded", "capabilities": ["tool_use"]},
                    {
                        "id": "big-32b",
                        "type": "llm",
                        "state": "loaded",
                        "capabilities": ["tool_use"],
                        "max_context_length": 131072,
                        "loaded_context_length": 8192,
                    },
                ]
            }
        },
        {
            "/api/v1/models": {
                "models": [
                    {"key": "bge-m3", "type": "embedding", "loaded_instances": []},
                    {"key": "small", "type": "llm", "params_string": "1B", "loaded_instances": []},
                    {
                        "key": "big-32b",
                        "type": "llm",
                        "params_string": "32B",
                        "capabilities": {"trained_for_tool_use": True},
                        "loaded_instances": [{"id": "big-32b", "config": {"context_length": 8192}}],
                        "max_context_length": 131072,
                    },
                ]
            }
        },
    ],
)
def test_lm_studio_old_and_new(pages: dict[str, Any]) -> None:
    with ScriptedUpstream(pages=pages) as server:
        (found,) = detect(NOWHERE._replace(lm_studio=server.port))
    assert found.name == "lm_studio"
    assert abilities(found)[0] == ("big-32b", "native", 8192)
    assert [card.tool_calling for card in found.models] == ["native", "constrained"]


@pytest.mark.parametrize("by", ["owner", "header"])
def test_llama_cpp(by: str) -> None:
    owner = "llamacpp" if by == "owner" else "me"
    headers = {"Server": "llama.cpp"} if by == "header" else {}
    models = ({"id": "coder.gguf", "owned_by": owner, "meta": {"n_params": 7_600_000_000, "n_ctx": 4096}},)
    pages = {
        "/props": {
            "chat_template_caps": {"supports_tools": True},
            "default_generation_settings": {"n_ctx": 8192},
        }
    }
    with ScriptedUpstream(models=models, pages=pages, headers=headers) as server:
        (found,) = detect(NOWHERE._replace(llama_cpp=server.port))
    assert found.name == "llama_cpp"
    assert abilities(found) == [("coder.gguf", "native", 8192)]


def test_vllm_is_constrained_since_its_parser_cannot_be_asked_for() -> None:
    models = ({"id": "org/big-32b", "owned_by": "vllm", "max_model_len": 40960},)
    with ScriptedUpstream(models=models) as server:
        (found,) = detect(NOWHERE._replace(vllm=server.port))
    assert abilities(found) == [("org/big-32b", "constrained", 40960)]


def test_a_stranger_on_a_known_port_is_not_used() -> None:
    with ScriptedUpstream(models=("some-model",), pages={"/api/version": ["0.1"]}) as server:
        assert detect(LocalPorts(*[server.port] * 4)) == []
    assert not server.requests


def test_our_own_port_is_not_asked() -> None:
    with ScriptedUpstream(models=({"id": "m", "owned_by": "vllm"},)) as server:
        assert detect(NOWHERE._replace(vllm=server.port), own_port=server.port) == []
    assert not server.lookups


def test_several_servers_keep_their_order() -> None:
    models = ({"id": "m", "owned_by": "vllm"},)
    with ScriptedUpstream(models=models) as vllm, ScriptedUpstream(pages=OLLAMA) as ollama:
        found = detect(NOWHERE._replace(vllm=vllm.port, ollama=ollama.port))
    assert [spec.name for spec in found] == ["ollama", "vllm"]


@pytest.mark.parametrize(
    "junk", [5, "x", [5], {"models": 5}, {"models": [5, {}]}, {"data": [{"id": 5, "state": 1}]}]
)
def test_nonsense_is_not_a_server(junk: Any) -> None:
    pages = dict.fromkeys(("/api/tags", "/api/ps", "/api/show", "/api/v0/models", "/api/v1/models"), junk)
    with ScriptedUpstream(pages={**pages, "/api/version": {"version": "1"}, "/props": junk}) as server:
        assert detect(LocalPorts(*[server.port] * 4)) == []


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1024):
        pass
    writer.close()


def test_a_port_that_takes_connections_and_says_nothing_costs_little_time() -> None:
    async def scenario() -> float:
        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        began = time.monotonic()
        async with open_client() as client:
            found = await detect_local(
                client, own_port=None, environ_ollama_host=None, ports=LocalPorts(*[port] * 4)
            )
        assert found == []
        silent.close()
        return time.monotonic() - began

    assert asyncio.run(scenario()) < 2.5
