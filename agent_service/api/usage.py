"""`GET /usage`: what calls of models cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query, Response

from agent_service.api.documentation import errors
from agent_service.api.error_codes import ErrorCode
from agent_service.api.errors import error_answer
from agent_service.api.services import PrincipalOf, ServicesOf
from agent_service.api.validation import only_known_parameters
from agent_service.documented import Documented
from agent_service.errors import InvalidRequest
from checkpoints.usage import Grouping, UsageGroup, UsageSum

router = APIRouter(dependencies=[Depends(only_known_parameters)])

USUAL_DAYS = 30
"""Days that are reported on where the request names none."""
_EPOCH = date(1970, 1, 1)


class UsageNumbers(Documented):
    """Some calls of models, together. Failed attempts are calls, too."""

    calls: int
    """How many."""
    failed: int
    """Those that brought no whole answer."""
    prompt_tokens: int
    """As the providers count them."""
    completion_tokens: int
    """Likewise, thoughts included."""
    cached_tokens: int
    """Of the prompt tokens, those that the provider had in its cache."""
    reasoning_tokens: int
    """Of the completion tokens, those of thoughts that were not shown."""
    cost_usd: float | None
    """At list prices, of the calls whose price is known; null = there are calls, and none has a price."""
    unpriced_calls: int
    """Calls whose price is not known."""
    estimated_calls: int
    """Calls whose tokens are estimated, because the provider told none."""
    latency: float | None
    """Seconds to the end of an answer, on average; null = there was none."""
    ttft: float | None
    """Seconds to the first words of a streamed answer, on average; null = there was none."""

    @classmethod
    def summed(cls, found: UsageSum, **fields: Any) -> Self:
        """Of what is stored; `fields` are those that it does not have."""
        known = found.unpriced_calls < found.calls or not found.calls
        return cls(**{**asdict(found), "cost_usd": found.cost_usd if known else None}, **fields)


class UsageEntry(UsageNumbers):
    """The calls of one day, provider, model or thread."""

    name: str | None
    """The day (UTC), the provider, `provider/account`, `provider/model`, or the thread; null = calls without
    a thread."""

    @classmethod
    def of(cls, group: UsageGroup) -> Self:
        name = group.name
        shown = (_EPOCH + timedelta(days=name)).isoformat() if isinstance(name, int) else name
        return cls.summed(group.sum, name=shown)


class UsageReport(Documented):
    """What was used in some days."""

    first_day: date
    """UTC."""
    last_day: date
    """UTC; the day itself is in it."""
    by: Grouping
    """What the entries are."""
    principal: str | None
    """Whose calls they are; null = everybody's."""
    total: UsageNumbers
    """All of them together."""
    entries: list[UsageEntry]
    """Days: the latest first; all else: the dearest first. At most 1,000."""

    @classmethod
    def of(
        cls,
        days: tuple[date, date],
        by: Grouping,
        principal: str | None,
        found: tuple[UsageSum, list[UsageGroup]],
    ) -> Self:
        total, groups = found
        return cls(
            first_day=days[0],
            last_day=days[1],
            by=by,
            principal=principal,
            total=UsageNumbers.summed(total),
            entries=[UsageEntry.of(group) for group in groups],
        )


@router.get(
    "/usage",
    summary="What models cost",
    response_model=UsageReport,
    responses=errors(ErrorCode.ADMIN_REQUIRED, ErrorCode.INVALID, ErrorCode.DATABASE_UNAVAILABLE),
)
async def usage(
    services: ServicesOf,
    principal: PrincipalOf,
    first: Annotated[
        date | None,
        Query(alias="from", description="The first day (UTC); 29 days before the last one if omitted."),
    ] = None,
    last: Annotated[
        date | None, Query(alias="to", description="The last day (UTC); today if omitted.")
    ] = None,
    by: Annotated[Grouping, Query(description="What to add up.")] = "day",
    everybody: Annotated[
        bool, Query(alias="all", description="Everybody's calls; needs an admin key.")
    ] = False,
) -> UsageReport | Response:
    """The caller's calls between two days (UTC), both included; an admin may ask for everybody's (`all`)."""
    if everybody and not principal.admin:
        return error_answer(
            ErrorCode.ADMIN_REQUIRED, "Only an admin key may see what others use.", param="all"
        )
    last = last or datetime.now(UTC).date()
    first = first or max(last, _EPOCH + timedelta(days=USUAL_DAYS)) - timedelta(days=USUAL_DAYS - 1)
    if first > last:
        raise InvalidRequest("from", "from: it is after `to`.")
    whose = None if everybody else principal.name
    found = await services.ledger.book.report(by, (first - _EPOCH).days, (last - _EPOCH).days, whose)
    return UsageReport.of((first, last), by, whose, found)
