"""Model servers that already run on this machine, known by their fingerprints.

Only loopback addresses are asked, only questions that change nothing, and never with a prompt or a key: the
ports belong to many programs. A server counts only if it answers as the one it is taken for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import orjson

from routing.config import ModelCard, ProviderSpec, ToolCalling
from routing.errors import ProviderError
from routing.transport import Patience, faults_of, pieces

PROBE_SECONDS = 0.6
"""For one question; a server needs two or three, and all servers are asked at once."""
_MAX_MODELS = 32
"""Models of one server that are looked at."""
_OLLAMA_WINDOW = 4096
"""Tokens that Ollama serves when nothing else is configured; longer prompts it shortens silently."""
_BILLION = 1_000_000_000
_WEAK_BELOW = 4 * _BILLION
"""Parameters below which native tool calls were seen to fail, whatever the model's template promises."""
_NO_CALL_TAGS = re.compile(r"(?i)qwen-?2\.5-?coder")
"""Models that write their calls in another form than their own template announces (vLLM issue 32926)."""
_SIZE = re.compile(r"(?i)(?:^|[^\w.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z])")
_EMBEDS = re.compile(r"(?i)embed|rerank|(?:^|[/_-])bge-")


class LocalPorts(NamedTuple):
    """Where each server listens unless it is told otherwise."""

    ollama: int = 11434
    lm_studio: int = 1234
    llama_cpp: int = 8080
    vllm: int = 8000


USUAL_PORTS = LocalPorts()


async def detect_local(
    client: httpx.AsyncClient,
    *,
    own_port: int | None,
    environ_ollama_host: str | None,
    ports: LocalPorts = USUAL_PORTS,
) -> list[ProviderSpec]:
    """The servers found, each with its chat models: loaded ones first, then native tool callers, then large.

    `own_port` is where this service listens itself, which is not asked; `environ_ollama_host` the value of
    `OLLAMA_HOST`, honoured when it means this machine. Takes two seconds at most, and raises nothing: what
    does not answer in time or in form is not there.
    """
    found = await asyncio.gather(
        _ollama(_Server(client, _ollama_port(environ_ollama_host, ports.ollama), own_port)),
        _lm_studio(_Server(client, ports.lm_studio, own_port)),
        _llama_cpp(_Server(client, ports.llama_cpp, own_port)),
        _vllm(_Server(client, ports.vllm, own_port)),
    )
    return [spec for spec in found if spec is not None]


class _Server:
    """One port of this machine."""

    def __init__(self, client: httpx.AsyncClient, port: int | None, own_port: int | None) -> None:
        self._client = client
        self.root = None if port is None or port == own_port else f"http://127.0.0.1:{port}"

    async def ask(self, path: str, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object at `path`, with the `Server` header as `_server`; empty if there is none."""
        if self.root is None:
            return {}
        deadline = asyncio.get_running_loop().time() + PROBE_SECONDS
        method = "GET" if question is None else "POST"
        request = self._client.build_request(method, self.root + path, json=question)
        try:
            with faults_of("local server"), closing(Patience(deadline, PROBE_SECONDS)) as patience:
                response = await patience.wait(self._client.send(request, stream=True))
                try:
                    text = b"".join([piece async for piece in pieces(response, patience)])
                finally:
                    await response.aclose()
                answer = orjson.loads(text) if response.is_success else None
        except ProviderError:
            return {}
        return {**answer, "_server": response.headers.get("server", "")} if isinstance(answer, dict) else {}

    def spec(self, name: str, display_name: str, models: Iterable[_Model]) -> ProviderSpec | None:
        """The server as a provider; None when it has no model that can chat."""
        usable = [m for m in models if m.id and not _EMBEDS.search(m.id)]
        usable.sort(key=lambda m: (not m.loaded, m.tool_calling != "native", -m.parameters))
        if not usable:
            return None
        cards = tuple(m.card() for m in usable)
        base_url = f"{self.root}/v1"
        return ProviderSpec(
            name=name, display_name=display_name, base_url=base_url, tier="local", models=cards
        )


class _Model(NamedTuple):
    """What a server says of one model."""

    id: str
    loaded: bool = True
    trained_for_tools: bool = False
    parameters: float = 0
    """How many; 0 = unknown."""
    context_window: int | None = None
    vision: bool | None = None

    @property
    def tool_calling(self) -> ToolCalling:
        """Native only where it can be trusted; all four servers can hold a reply to a JSON schema."""
        weak = 0 < self.parameters < _WEAK_BELOW or _NO_CALL_TAGS.search(self.id)
        return "native" if self.trained_for_tools and not weak else "constrained"

    def card(self) -> ModelCard:
        return ModelCard(
            id=self.id,
            context_window=self.context_window,
            tools=True,
            vision=self.vision,
            json_schema=True,
            tool_calling=self.tool_calling,
        )


async def _ollama(server: _Server) -> ProviderSpec | None:
    version = await server.ask("/api/version")
    if not isinstance(version.get("version"), str):
        return None
    tags, running = await asyncio.gather(server.ask("/api/tags"), server.ask("/api/ps"))
    loaded = {each.get("name"): each for each in _objects(running.get("models"))}
    listed = [each for each in _objects(tags.get("models")) if isinstance(each.get("name"), str)][
        :_MAX_MODELS
    ]
    shown = await asyncio.gather(*(server.ask("/api/show", {"model": each["name"]}) for each in listed))
    models = []
    for each, details in zip(listed, shown, strict=True):
        abilities = _list(details.get("capabilities"))
        if abilities and "completion" not in abilities:
            continue
        size = _object(each.get("details")).get("parameter_size")
        models.append(
            _Model(
                id=each["name"],
                loaded=each["name"] in loaded,
                trained_for_tools="tools" in abilities,
                parameters=_size(size) or _size(each["name"]),
                context_window=_ollama_window(details, loaded.get(each["name"], {})),
                vision="vision" in abilities,
            )
        )
    return server.spec("ollama", "Ollama", models)


def _ollama_window(details: dict[str, Any], running: dict[str, Any]) -> int:
    """What is served, which is mostly far less than what the model was trained for."""
    parameters = details.get("parameters")
    configured = re.search(r"(?m)^num_ctx\s+(\d{1,9})\b", parameters if isinstance(parameters, str) else "")
    return _positive(running.get("context_length")) or (configured and int(configured[1])) or _OLLAMA_WINDOW


async def _lm_studio(server: _Server) -> ProviderSpec | None:
    newer = [
        e for e in _objects((await server.ask("/api/v1/models")).get("models")) if "loaded_instances" in e
    ]
    if newer:
        return server.spec(
            "lm_studio", "LM Studio", [_lm_studio_v1(e) for e in newer if e.get("type") == "llm"]
        )
    older = [e for e in _objects((await server.ask("/api/v0/models")).get("data")) if "state" in e]
    models = [_lm_studio_v0(e) for e in older if e.get("type") in ("llm", "vlm")]
    return server.spec("lm_studio", "LM Studio", models)


def _lm_studio_v1(entry: dict[str, Any]) -> _Model:
    abilities = _object(entry.get("capabilities"))
    instances = _objects(entry.get("loaded_instances"))
    served = [_positive(_object(each.get("config")).get("context_length")) for each in instances]
    return _Model(
        id=_text(entry.get("key")),
        loaded=bool(instances),
        trained_for_tools=abilities.get("trained_for_tool_use") is True,
        parameters=_size(entry.get("params_string")) or _size(entry.get("key")),
        context_window=next(filter(None, served), None) or _positive(entry.get("max_context_length")),
        vision=abilities.get("vision") is True,
    )


def _lm_studio_v0(entry: dict[str, Any]) -> _Model:
    window = _positive(entry.get("loaded_context_length")) or _positive(entry.get("max_context_length"))
    return _Model(
        id=_text(entry.get("id")),
        loaded=entry.get("state") == "loaded",
        trained_for_tools="tool_use" in _list(entry.get("capabilities")),
        parameters=_size(entry.get("id")),
        context_window=window,
        vision=entry.get("type") == "vlm",
    )


async def _llama_cpp(server: _Server) -> ProviderSpec | None:
    answer = await server.ask("/v1/models")
    listed = _objects(answer.get("data"))
    owned = any(each.get("owned_by") == "llamacpp" for each in listed)
    if not owned and "llama.cpp" not in answer.get("_server", ""):
        return None
    properties = await server.ask("/props")
    window = _positive(_object(properties.get("default_generation_settings")).get("n_ctx"))
    tools = _object(properties.get("chat_template_caps")).get("supports_tools") is True
    vision = _object(properties.get("modalities")).get("vision") is True
    models = []
    for each in listed:
        meta = _object(each.get("meta"))
        size = _positive(meta.get("n_params")) or _size(each.get("id"))
        served = window or _positive(meta.get("n_ctx"))
        models.append(_Model(_text(each.get("id")), True, tools, size, served, vision))
    return server.spec("llama_cpp", "llama.cpp", models)


async def _vllm(server: _Server) -> ProviderSpec | None:
    listed = _objects((await server.ask("/v1/models")).get("data"))
    # Whether it was started with a parser for tool calls cannot be asked; without one it answers 400.
    models = [
        _Model(
            id=_text(each.get("id")),
            parameters=_size(each.get("id")),
            context_window=_positive(each.get("max_model_len")),
        )
        for each in listed
        if each.get("owned_by") == "vllm"
    ]
    return server.spec("vllm", "vLLM", models)


def _ollama_port(host: str | None, usual: int) -> int | None:
    """The port that `OLLAMA_HOST` names; None when it means another machine."""
    if not host or not host.strip():
        return usual
    text = host.strip()
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return usual
    if name not in ("", "localhost", "0.0.0.0", "::", "::1") and not name.startswith("127."):
        return None
    return port or usual


def _size(text: Any) -> float:
    """The number of parameters in words like `7.6B` or `qwen3-8b`; 0 if there is none."""
    match = _SIZE.search(text) if isinstance(text, str) else None
    return float(match[1]) * (_BILLION if match[2] in "bB" else 1_000_000) if match else 0


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]
