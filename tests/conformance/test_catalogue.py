"""Every shipped provider works when its key is set: from the variable to the bytes on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from agent_service.config_file import ConfigError
from agent_service.provider_settings import ProviderSettings, configured_specs, specs_from_environment
from routing.catalogue import known_providers, retired, retired_providers, spec_for
from routing.config import ProviderSpec, RoutingConfig
from routing.errors import ProviderRetired
from routing.pool import ProviderPool
from routing.providers.formats import http_provider
from routing.providers.vertex_ai import VertexAI
from routing.router import ModelRouter
from routing.transport import open_client
from routing.types import ChatRequest
from tests.dialects import DIALECTS, KEY, Call
from tests.wire_upstream import WireUpstream

PROMISED = frozenset(
    {
        *("openrouter", "gemini", "nvidia_nim", "mistral", "codestral", "huggingface", "cerebras", "groq"),
        *(
            "together",
            "cohere",
            "chutes",
            "cloudflare",
            "vertex_ai",
            "fireworks",
            "unify",
            "baseten",
            "nebius",
        ),
        *("novita", "ai21", "upstage", "deepseek", "xai", "openai", "anthropic", "azure", "replicate"),
        *("gwdg_saia", "ollama", "lm_studio", "vllm", "llama_cpp", "litellm_proxy"),
    }
)
PARTS = {"account_id": "0a1b2c", "resource": "mine", "project": "my-project", "location": "europe-west4"}
KEY_HEADERS = {"anthropic-messages": "x-api-key", "azure-openai": "api-key"}
KEY_HEADERS |= {"gemini": "x-goog-api-key", "vertex-ai": "x-goog-api-key"}
GREET: Call = ("call_1", "greet", {"whom": "you"})
TOOL = {"type": "function", "function": {"name": "greet", "parameters": {"type": "object", "properties": {}}}}
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "say hello"}], "max_tokens": 50}
each_row = pytest.mark.parametrize("name", [n for n in known_providers() if n != "replicate"])
"""Replicate has no calls, and no types of its own: tests/unit/routing/test_replicate.py."""


def environment(name: str) -> dict[str, str]:
    """What a person sets to use that provider."""
    known = known_providers()[name]
    variables = {known.env_keys[0]: KEY} if known.env_keys else {}
    variables |= {names[0]: PARTS[part] for part, names in known.env_parts.items()}
    if known.tier == "local" and known.env_base_url:
        variables[known.env_base_url[0]] = known.base_url
    return variables


def row(name: str, upstream: WireUpstream) -> ProviderSpec:
    """The row that those variables make, at the scripted upstream instead of its own host."""
    found = {each.name: each for each in specs_from_environment(environment(name))}
    spec = found.get(name) or spec_for(name, None)
    assert "{" not in spec.base_url
    return spec.model_copy(update={"base_url": upstream.origin + urlsplit(spec.base_url).path})


def asked(spec: ProviderSpec, model: str) -> Iterator[Any]:
    """A plain answer, a stream, a call and the answer to its result."""

    async def scenario() -> list[Any]:
        pool = ProviderPool([http_provider(spec, open_client())])
        router = ModelRouter(pool, config=RoutingConfig(providers=(spec,)))

        def want(body: dict[str, Any]) -> ChatRequest:
            return ChatRequest(body, model=model, provider=spec.name)

        whole = await router.complete(want(BODY))
        stream = await router.stream(want(BODY))
        chunks = [chunk async for chunk in stream]
        call = await router.complete(want({**BODY, "tools": [TOOL]}))
        result = {"role": "tool", "tool_call_id": GREET[0], "content": "greeted"}
        history = [*BODY["messages"], call.message, result]
        last = await router.complete(want({**BODY, "tools": [TOOL], "messages": history}))
        await pool.aclose()
        text = "".join(chunk.delta.get("content") or "" for chunk in chunks)
        return [whole.message["content"], text, call.message["tool_calls"], last.message["content"]]

    yield from asyncio.run(scenario())


def test_every_provider_that_was_promised_has_a_row() -> None:
    assert set(known_providers()) >= PROMISED
    assert "github" in retired_providers() and "github" not in known_providers()


@each_row
def test_a_row_works_when_its_key_is_set(name: str) -> None:
    dialect = DIALECTS[known_providers()[name].protocol]
    script = [dialect.says("hello")] * 2 + [dialect.calls(GREET), dialect.says("done")]
    with WireUpstream(script, judge=dialect.judge) as upstream:
        spec = row(name, upstream)
        model = next((card.id for card in spec.models if card.tools is not False), "m")
        whole, streamed, (call,), last = asked(spec, model)
    assert not upstream.refusals
    assert (whole, streamed, last) == ("hello", "hello", "done")
    assert call["function"]["name"] == "greet" and json.loads(call["function"]["arguments"]) == GREET[2]
    if spec.api_key is not None:
        header = KEY_HEADERS.get(spec.protocol, "authorization")
        expected = f"Bearer {KEY}" if header == "authorization" else KEY
        assert {request.headers.get(header) for request in upstream.requests} == {expected}
    else:
        assert known_providers()[name].tier == "local"
    assert all(KEY not in path and "//" not in path for path in upstream.paths)


@pytest.mark.parametrize("name", [n for n, row in known_providers().items() if row.protocol == "openai-chat"])
def test_the_address_is_that_of_openais_own_client(name: str) -> None:
    dialect = DIALECTS["openai-chat"]
    with WireUpstream([dialect.says("hello")] * 2, judge=dialect.judge) as upstream:
        spec = row(name, upstream)
        with openai.OpenAI(api_key=KEY, base_url=spec.base_url, max_retries=0) as theirs:
            theirs.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

        async def ours() -> None:
            provider = http_provider(spec, open_client())
            pool = ProviderPool([provider])
            router = ModelRouter(pool, config=RoutingConfig(providers=(spec,)))
            await router.complete(ChatRequest(BODY, model="m", provider=name))
            await pool.aclose()

        asyncio.run(ours())
        assert upstream.paths[0] == upstream.paths[1]


@pytest.mark.parametrize(
    ("name", "environ", "address"),
    [
        (
            "cloudflare",
            {"CLOUDFLARE_ACCOUNT_ID": "0a1b"},
            "https://api.cloudflare.com/client/v4/accounts/0a1b/ai/v1",
        ),
        ("azure", {"AZURE_RESOURCE_NAME": "mine"}, "https://mine.openai.azure.com"),
        ("vertex_ai", {}, "https://aiplatform.googleapis.com/v1"),
        (
            "vertex_ai",
            {"GOOGLE_CLOUD_PROJECT": "p", "VERTEXAI_LOCATION": "us-east5"},
            "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5",
        ),
    ],
)
def test_parts_of_an_address_come_from_the_environment(
    name: str, environ: dict[str, str], address: str
) -> None:
    key = {known_providers()[name].env_keys[0]: "k"}
    (spec,) = specs_from_environment({**environ, **key})
    assert spec.name == name and spec.base_url == address
    (same,) = configured_specs({name: ProviderSettings()}, {**environ, **key})
    assert same.base_url == address and same.models == spec.models


def test_googles_usual_variable_names_the_file_of_the_credentials(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    file.write_text(json.dumps({"type": "service_account", "project_id": "theirs"}))
    usual = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    (spec,) = specs_from_environment({**usual, "GOOGLE_GENAI_USE_VERTEXAI": "true"})
    address = VertexAI().url(spec, spec.models[0], stream=False)
    assert "/projects/theirs/locations/global/publishers/google/models/" in address


@pytest.mark.parametrize(
    "further", [{}, {"GOOGLE_GENAI_USE_VERTEXAI": "false"}, {"GOOGLE_CLOUD_PROJECT": "for-other-things"}]
)
@pytest.mark.parametrize("variable", ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_OAUTH_ACCESS_TOKEN"])
def test_credentials_for_other_services_turn_nothing_on_that_costs(
    variable: str, further: dict[str, str]
) -> None:
    usual = {variable: "/home/me/account.json", **further}
    assert specs_from_environment(usual) == ()
    for own in ({"VERTEXAI_PROJECT": "p"}, {"GOOGLE_GENAI_USE_VERTEXAI": "True"}):
        assert [spec.name for spec in specs_from_environment({**usual, **own})] == ["vertex_ai"]
    (configured,) = configured_specs({"vertex_ai": ProviderSettings()}, usual)
    assert configured.api_key and configured.api_key.get_secret_value() == usual[variable]


def test_a_part_that_is_missing_is_named() -> None:
    assert specs_from_environment({"CLOUDFLARE_API_KEY": "k"}) == ()
    with pytest.raises(ConfigError, match="CLOUDFLARE_ACCOUNT_ID"):
        configured_specs({"cloudflare": ProviderSettings()}, {"CLOUDFLARE_API_KEY": "k"})


def test_azures_version_and_deployments_come_from_the_environment() -> None:
    environ = {
        "AZURE_API_KEY": "k",
        "AZURE_API_BASE": "https://mine.openai.azure.com",
        "AZURE_API_VERSION": "2025-04-01-preview",
        "AZURE_OPENAI_DEPLOYMENTS": "my-gpt, other",
    }
    (spec,) = specs_from_environment(environ)
    assert spec.api_version == "2025-04-01-preview"
    assert [card.id for card in spec.models] == ["my-gpt", "other"]
    entry = ProviderSettings.model_validate({"api_version": "v1", "models": [{"id": "mine"}]})
    (own,) = configured_specs({"azure": entry}, environ)
    assert own.api_version == "v1" and [card.id for card in own.models] == ["mine"]


@pytest.mark.parametrize("name", ["github", "github-models", "qwen_oauth", "perplexity"])
def test_a_provider_that_is_no_more_says_since_when(name: str) -> None:
    gone = retired(name)
    assert gone is not None and gone.since in gone.words and gone.instead in gone.words
    with pytest.raises(ProviderRetired, match=gone.since):
        spec_for(name, "k")
    with pytest.raises(ConfigError, match=gone.since):
        configured_specs({name: ProviderSettings()}, {})
    own = ProviderSettings.model_validate({"base_url": "http://127.0.0.1:9/v1", "api_key": "none"})
    assert configured_specs({name: own}, {})[0].name == name
    with pytest.raises(ProviderRetired, match=gone.since):
        asyncio.run(ProviderPool([http_provider(spec_for("groq", "k"), open_client())]).resolve("m", name))
