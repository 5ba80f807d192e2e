"""`GET /route`: whom the router would ask now, and why not the others."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query

from agent_service.api.documentation import MODEL, errors
from agent_service.api.error_codes import ErrorCode
from agent_service.api.services import PrincipalOf, ServicesOf
from agent_service.api.validation import only_known_parameters
from agent_service.documented import Documented
from routing.explanation import Explanation
from routing.policy import Goal, Ranked
from routing.types import AUTO, ChatRequest, Payer, Quality, TaskClass

router = APIRouter(dependencies=[Depends(only_known_parameters)])

MOST_TASK = 20_000
"""Characters of a task: servers take no longer addresses."""
_ANY_TOOL = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}
"""What matters is that there are tools; one stands for all."""


class RouteCandidate(Documented):
    """A model at a provider, in its place."""

    place: int
    """1 = asked first."""
    provider: str
    """Its name in the configuration."""
    model: str
    """The provider's own name for it."""
    account: str
    """Which of our accounts at the provider."""
    ready: bool
    """Whether it would be asked at all now."""
    reason: str
    """Why it won, or why it lost against the winner."""
    quality: float
    """Expected at such tasks, 0..1: the rating, moved by verified outcomes."""
    rating: float | None
    """The rating that was known beforehand, 0..1; null = nobody rated it."""
    success_rate: float
    """Share of attempts that may be expected to be answered, 0..1."""
    expected_seconds: float
    """Time to a finished answer, failed attempts counted in."""
    expected_cost_usd: float
    """For the answer, at list prices; a usual price is taken where none is known."""
    allowance_usd: float
    """What using up a free allowance is worth; counts in `balanced` only."""
    input_price: float | None
    """US dollars per million prompt tokens; null = not known."""
    output_price: float | None
    """US dollars per million answer tokens; null = not known."""
    context_window: int | None
    """Tokens, prompt and answer together; null = not known."""
    cached: bool
    """Whether the beginning of the prompt is in its cache."""

    @classmethod
    def of(cls, entry: Ranked, place: int) -> Self:
        candidate, scores = entry.candidate, entry.scores
        input_price, output_price = candidate.prices
        return cls(
            place=place,
            provider=candidate.spec.name,
            model=candidate.card.id,
            account=candidate.spec.account,
            ready=entry.is_ready,
            reason=entry.reason,
            quality=round(scores.quality, 3),
            rating=candidate.card.quality,
            success_rate=round(scores.success_rate, 3),
            expected_seconds=round(scores.seconds, 2),
            expected_cost_usd=round(scores.cost, 6),
            allowance_usd=round(scores.rent, 6),
            input_price=input_price,
            output_price=output_price,
            context_window=candidate.card.context_window,
            cached=entry.warm,
        )


class SilentAccount(Documented):
    """An account of which no model is known, so that none can be chosen."""

    provider: str
    """Its name in the configuration."""
    account: str
    """Which of our accounts at the provider."""
    reason: str
    """Why: it gave no list of its models, or an empty one."""


class RouteAnswer(Documented):
    """How a request would be routed now. No model is asked."""

    ranked_by: Goal
    """What the order is made by: the quality asked for, or a strategy of the configuration."""
    task_class: TaskClass
    """The kind of request, for which qualities are learned apart."""
    candidates: list[RouteCandidate]
    """In the order in which they would be asked; last those that can never serve the request."""
    silent: list[SilentAccount]
    """Accounts that have no candidates, though they may be meant."""

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        return cls(
            ranked_by=explanation.goal,
            task_class=explanation.task,
            candidates=[
                RouteCandidate.of(entry, place) for place, entry in enumerate(explanation.candidates, 1)
            ],
            silent=[
                SilentAccount(provider=spec.name, account=spec.account, reason=reason)
                for spec, reason in explanation.silent
            ],
        )


def example_request(
    task: str,
    quality: Quality,
    *,
    tools: bool,
    model: str = AUTO,
    provider: str | None = None,
    payer: Payer | None = None,
) -> ChatRequest:
    """A request as it would be made for such a task."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": task}]}
    if tools:
        body["tools"] = [_ANY_TOOL]
    return ChatRequest(body=body, model=model, provider=provider or None, quality=quality, payer=payer)


@router.get(
    "/route",
    summary="Explain the choice of a model",
    responses=errors(ErrorCode.INVALID, *MODEL, ErrorCode.DATABASE_UNAVAILABLE),
)
async def explain_route(
    services: ServicesOf,
    principal: PrincipalOf,
    task: Annotated[str, Query(max_length=MOST_TASK, description="The prompt; its size matters.")] = "",
    quality: Annotated[Quality, Query(description="How to choose.")] = "balanced",
    model: Annotated[
        str, Query(min_length=1, max_length=256, description="As in a chat completion request.")
    ] = AUTO,
    provider: Annotated[str | None, Query(max_length=64, description="Only this provider.")] = None,
    tools: Annotated[
        bool, Query(description="Whether the request brings tools, as an agent's does.")
    ] = False,
) -> RouteAnswer:
    """Every candidate with its scores, and the reason why it won or lost. Asks no model."""
    await services.models.require_any()
    payer = Payer(principal.name)
    wanted = example_request(task, quality, tools=tools, model=model, provider=provider, payer=payer)
    return RouteAnswer.of(await services.models.router.explain(wanted))
