"""Plain prompts: OpenAI's chat completions over the provider pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from agent_service.api.chat_stream import ChatStream
from agent_service.api.documentation import BODY, MODEL, errors
from agent_service.api.error_codes import ErrorCode
from agent_service.api.json_route import BadJson, StrictJsonRoute
from agent_service.api.presence import while_present
from agent_service.api.services import Services
from agent_service.documented import Documented
from agent_service.errors import InvalidRequest
from agent_service.principals import Principal
from routing.config import DEFAULT_ACCOUNT
from routing.types import AUTO, ChatRequest, Payer, Quality, RouteDecision

router = APIRouter(route_class=StrictJsonRoute)

MAX_MODEL = 256
"""Characters of a model's name."""
MAX_PROVIDER = 64
"""Characters of a provider's."""
ACTIVE_FILE_CHARACTERS = 10_000
"""How much of the active file a contextual prompt carries."""
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_QUALITIES: tuple[str, ...] = get_args(Quality)
_OURS = frozenset({"model", "stream", "provider", "model_quality"})


class ChatCompletionRequest(Documented):
    """OpenAI's chat completion request; every field of OpenAI's is taken, these are the ones looked at."""

    model_config = ConfigDict(extra="allow", strict=True)

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    """The conversation, as in OpenAI's protocol: each with a `role`, and `content` as text or parts."""
    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL)] = AUTO
    """`auto`, an alias, `provider/model`, or a model's own id."""
    stream: bool | None = False
    """Answer with Server-Sent Events."""
    provider: Annotated[str | None, Field(max_length=MAX_PROVIDER)] = None
    """Only this provider."""
    model_quality: Quality | None = None
    """How to choose the model; `balanced` if omitted."""
    tools: list[dict[str, Any]] | None = None
    """Functions that the model may call; only models that can call tools are asked then."""
    stream_options: dict[str, Any] | None = None
    """`include_usage`: the last chunk of a stream says what it took."""


class ContextualChatRequest(Documented):
    """A prompt with what is on the screen; all other fields as in a chat completion request."""

    model_config = ConfigDict(strict=True, extra="allow")

    prompt: Annotated[str, Field(min_length=1)]
    """What is wanted."""
    selected_text: str | None = None
    """The selection in the editor."""
    active_file_content: str | None = None
    """The first 10,000 characters are used."""
    model: Annotated[str | None, Field(max_length=MAX_MODEL)] = AUTO
    """`auto`, an alias, `provider/model`, or a model's own id."""
    provider: Annotated[str | None, Field(max_length=MAX_PROVIDER)] = None
    """Only this provider."""
    model_quality: Quality | None = None
    """How to choose the model; `balanced` if omitted."""
    stream: bool | None = False
    """Answer with Server-Sent Events."""
    temperature: float | None = None
    """As in OpenAI's protocol."""
    max_tokens: Annotated[int | None, Field(gt=0)] = None
    """Most tokens of the answer."""


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "OpenAI's chat completion, with `provider`; with `stream` its chunks."},
    **errors(
        *BODY,
        *MODEL,
        ErrorCode.UNSUPPORTED,
        ErrorCode.BUDGET_EXCEEDED,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.CONTENT_REFUSED,
        ErrorCode.REJECTED,
        ErrorCode.KEY_REFUSED,
        ErrorCode.PROVIDER_ERROR,
        ErrorCode.PROVIDER_TIMEOUT,
        ErrorCode.NO_PROVIDER_AVAILABLE,
        ErrorCode.DATABASE_UNAVAILABLE,
    ),
}


@router.post(
    "/chat/completions",
    summary="Chat completion (OpenAI's protocol)",
    responses=_ANSWERS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ChatCompletionRequest.model_json_schema()}},
        }
    },
)
async def chat_completions(request: Request) -> Response:
    """Answered by the best suitable model of the pool; see the `x-router-*` headers for which and why."""
    body = await request.json()
    if not isinstance(body, dict):
        raise BadJson("The body must be a JSON object.")
    return await _complete(request, body)


@router.post("/contextual_chat/completions", summary="Prompt with editor context", responses=_ANSWERS)
async def contextual_chat(body: ContextualChatRequest, request: Request) -> Response:
    """A prompt together with the selected text and the active file; answered as a chat completion."""
    parts = [body.prompt]
    if body.selected_text:
        parts.append(f"Selected text:\n{body.selected_text}")
    if body.active_file_content:
        parts.append(f"Active file:\n{body.active_file_content[:ACTIVE_FILE_CHARACTERS]}")
    rest = body.model_dump(exclude_unset=True, exclude={"prompt", "selected_text", "active_file_content"})
    messages = [{"role": "user", "content": "\n\n".join(parts)}]
    return await _complete(request, {**rest, "messages": messages})


async def _complete(request: Request, body: dict[str, Any]) -> Response:
    """Check, route and answer a chat completion body.

    Raises InvalidRequest, RoutingError, and ClientDisconnect when nobody waits for the answer any more.
    """
    _check(body)
    principal: Principal = request.state.principal
    wanted = ChatRequest(
        body={name: value for name, value in body.items() if name not in _OURS},
        model=body.get("model") or AUTO,
        provider=body.get("provider") or None,
        quality=body.get("model_quality") or "balanced",
        payer=Payer(principal.name),
    )
    if body.get("stream"):
        return await _streamed(request, wanted)
    return await _whole(request, wanted, principal.name)


async def _whole(request: Request, wanted: ChatRequest, principal: str) -> Response:
    """The whole answer, from before if it is kept."""
    services: Services = request.app.state.services
    answers, models = services.ledger.answers, services.models.router
    key = answers.key(wanted)
    if key and (kept := await answers.get(principal, key)):
        address = await models.address(wanted, kept.decision)
        if address is not None and address == kept.address:  # else the name means somebody else by now
            return _answer(kept.data, kept.decision, {"x-router-cache": "hit"})
    await services.models.require_any()
    completion = await while_present(request.receive, models.complete(wanted))
    if key and (address := await models.address(wanted, completion.decision)):
        await answers.put(principal, key, completion, address)
    return _answer(completion.data, completion.decision, {})


def _answer(data: Mapping[str, Any], decision: RouteDecision, further: Mapping[str, str]) -> Response:
    told = {**data, "provider": decision.provider, "model": decision.model}
    headers = {**_headers(decision), **further}
    return Response(orjson.dumps(told), media_type="application/json", headers=headers)


async def _streamed(request: Request, wanted: ChatRequest) -> Response:
    services: Services = request.app.state.services
    await services.models.require_any()
    routed = await while_present(request.receive, services.models.router.stream(wanted))
    wants_usage = bool((wanted.body.get("stream_options") or {}).get("include_usage"))
    return ChatStream(routed, _headers(routed.decision), wants_usage=wants_usage)


def _check(body: dict[str, Any]) -> None:
    """The fields we look at have the right types. Raises InvalidRequest, naming the field.

    By hand: this is the hottest route, and a model object of the whole body would cost more than the rest.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages", "messages: a list of at least one message is needed.")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise InvalidRequest(
                f"messages.{index}", f"messages.{index}: a message with a known role is needed."
            )
        if not isinstance(message.get("content"), str | list | None):
            raise InvalidRequest(
                f"messages.{index}.content", f"messages.{index}.content: text or a list of parts is needed."
            )
    for name, kinds in _KINDS.items():
        value = body.get(name)
        misfit = not isinstance(value, kinds) or (type(value) is bool and kinds is not bool)
        if value is not None and misfit:
            raise InvalidRequest(name, f"{name}: the type is wrong.")
    for name, most in _LONGEST.items():
        text = body.get(name) or ""
        if len(text) > most or not text.isprintable():
            raise InvalidRequest(
                name, f"{name}: at most {most} characters are allowed, all of them printable."
            )
    for index, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict):
            raise InvalidRequest(f"tools.{index}", f"tools.{index}: an object is needed.")
    if body.get("model_quality") not in (None, *_QUALITIES):
        raise InvalidRequest("model_quality", f"model_quality: one of {', '.join(_QUALITIES)}.")


_KINDS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "provider": str,
    "stream": bool,
    "stream_options": dict,
    "tools": list,
    "max_tokens": int,
    "max_completion_tokens": int,
    "temperature": (int, float),
}
_LONGEST = {"model": MAX_MODEL, "provider": MAX_PROVIDER}


def _headers(decision: RouteDecision) -> dict[str, str]:
    headers = {
        "x-router-provider": _shown(decision.provider),
        "x-router-model": _shown(decision.model),
        "x-router-attempts": str(decision.attempts),
    }
    if decision.account != DEFAULT_ACCOUNT:
        headers["x-router-account"] = _shown(decision.account)
    if decision.dropped:
        headers["x-router-dropped"] = ", ".join(decision.dropped)  # plain names all: `fields.forwarded`
    return headers


def _shown(name: str) -> str:
    """The name as a header can hold it: with other characters the server would refuse the whole answer."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(each if " " <= each <= "~" else "?" for each in name)
