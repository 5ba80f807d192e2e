"""Measures calls of models, and keeps them within budgets.

`Meter.over` lays a meter over a provider for one call. It reserves what the call may cost before it is made,
stops a stream that outgrows what can be reserved, and tells the sink once how the call ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from random import getrandbits
from typing import Any

from routing.candidate import Candidate
from routing.config import ModelCard
from routing.errors import (
    ContextTooLong,
    KeyRefused,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    RequestRejected,
)
from routing.needs import BYTES_PER_TOKEN, Needs
from routing.providers.base import Provider
from routing.types import ChatChunk, Payer
from routing.usage import BudgetExceeded, Budgets, CallOutcome, ModelCall, Prices, Tokens, UsageSink

UNNAMED_ANSWER = 4096
"""Tokens reserved for an answer where neither the request nor the model's card names a limit."""
TEMPLATE_TOKENS = 16
"""Tokens that a model's chat template may add to the words of a prompt."""
STRETCH = 1024
"""Tokens by which a stream's reservation grows, where the request names no limit."""
SPARE_SECONDS = 30.0
"""How much longer than its call a reservation lasts, so that it ends even when its process died."""

_OUTCOMES: tuple[tuple[type[BaseException], CallOutcome], ...] = (
    (RateLimited, "rate_limited"),
    (KeyRefused, "key_refused"),
    (ContextTooLong, "too_long"),
    (RequestRejected, "rejected"),
    (ProviderTimeout, "timeout"),
    (ProviderError, "unavailable"),
    (BudgetExceeded, "over_budget"),
    (BaseException, "abandoned"),
)
"""Looked through from the top."""


class Meter:
    """One for each router."""

    def __init__(
        self, sink: UsageSink, budgets: Budgets | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sink, self.budgets, self.clock = sink, budgets, clock

    def over(
        self, provider: Provider, candidate: Candidate, payer: Payer, task: str, needs: Needs
    ) -> MeteredCall:
        """The provider with a meter over it, for one call."""
        return MeteredCall(self, provider, candidate, payer, task, needs)


class MeteredCall:
    """One call of one provider, measured. Raises BudgetExceeded besides what the provider raises."""

    def __init__(
        self, meter: Meter, provider: Provider, candidate: Candidate, payer: Payer, task: str, needs: Needs
    ) -> None:
        self._meter, self._provider, self._candidate = meter, provider, candidate
        self._payer, self._task, self._needs = payer, task, needs
        self._prices = Prices.of(candidate)
        self._id = f"{getrandbits(128):032x}"

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """The provider's whole answer; see `Provider.complete`."""
        with self._recorded() as tally:
            most = self._named(card) or card.max_output or UNNAMED_ANSWER
            await self._reserve(most * _choices(body), deadline)
            tally.ask()
            data = await self._provider.complete(card, body, deadline)
            tally.add(data, "message")
            return data

    async def stream(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float
    ) -> AsyncGenerator[ChatChunk, None]:
        """The chunks of the provider's answer; see `Provider.stream`.

        Raises BudgetExceeded in the middle when the budget is used up.
        """
        with self._recorded() as tally:
            named = self._named(card)
            reserved = (named or min(STRETCH, card.max_output or STRETCH)) * _choices(body)
            await self._reserve(reserved, deadline)
            tally.ask()
            chunks = self._provider.stream(card, body, deadline)
            try:
                async for chunk in chunks:
                    tally.add(chunk.data, "delta")
                    if named is None and tally.written > reserved:
                        reserved = await self._stretch(tally, deadline)
                    yield chunk
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    async def _stretch(self, tally: _Tally, deadline: float) -> int:
        """Reserve more for a stream that goes on; so much it is now. Raises BudgetExceeded, with usage."""
        wanted = tally.written + STRETCH
        try:
            await self._reserve(wanted, deadline)
        except BudgetExceeded as broke:
            broke.usage = tally.tokens().as_usage()
            raise
        return wanted

    def _named(self, card: ModelCard) -> int | None:
        """The tokens that the answer may have by the request's own word; None = it names no limit."""
        wanted = self._needs.output_tokens
        return wanted and min(wanted, card.max_output or wanted)

    async def _reserve(self, answer: int, deadline: float) -> None:
        """Set aside what the prompt and so long an answer cost. Raises BudgetExceeded."""
        usd = self._prices.assumed.cost(Tokens(self._needs.prompt_tokens + TEMPLATE_TOKENS, answer))
        if self._meter.budgets is not None and usd:
            seconds = max(0.0, deadline - asyncio.get_running_loop().time()) + SPARE_SECONDS
            await self._meter.budgets.reserve(self._id, self._payer, usd, seconds, self._candidate.spec)

    @contextmanager
    def _recorded(self) -> Iterator[_Tally]:
        """A tally of the call; at its end, however that comes, the sink is told. A refused one is none."""
        tally = _Tally(self._needs.prompt_tokens, self._meter.clock)
        outcome: CallOutcome = "ok"
        try:
            yield tally
        except BaseException as error:
            outcome = next(each for kind, each in _OUTCOMES if isinstance(error, kind))
            raise
        finally:
            if tally.asked or outcome == "abandoned":
                self._meter.sink.record(self._call(tally, outcome))

    def _call(self, tally: _Tally, outcome: CallOutcome) -> ModelCall:
        # Who was refused, or heard nothing but an error, is not charged; who left in the middle is.
        free = not tally.asked or (outcome not in ("ok", "abandoned", "over_budget") and not tally.began)
        tokens = Tokens() if free else tally.tokens()
        return ModelCall(
            id=self._id,
            payer=self._payer,
            task=self._task,
            provider=self._candidate.spec.name,
            account=self._provider.spec.account,
            model=self._candidate.card.id,
            tokens=tokens,
            estimated=not free and tally.usage is None,
            cost_usd=self._prices.cost(tokens),
            charged_usd=self._prices.assumed.cost(tokens) or 0.0,
            seconds=self._meter.clock() - tally.start,
            ttft=tally.ttft,
            outcome=outcome,
        )


class _Tally:
    """What is counted while a call goes on."""

    def __init__(self, prompt: int, clock: Callable[[], float]) -> None:
        self._prompt, self._clock = prompt, clock
        self._bytes = 0
        self.start = clock()
        self.asked = False
        self.ttft: float | None = None
        self.usage: Mapping[str, Any] | None = None
        """As the provider told it last."""

    def ask(self) -> None:
        """The provider is asked now; the time until here was ours."""
        self.asked, self.start = True, self._clock()

    @property
    def began(self) -> bool:
        """Whether anything of an answer came."""
        return self._bytes > 0 or self.usage is not None

    @property
    def written(self) -> int:
        """Tokens of the answer so far, estimated cautiously from its text."""
        return round(self._bytes / BYTES_PER_TOKEN)

    def add(self, data: Mapping[str, Any], part: str) -> None:
        """Take note of an answer, or of a piece of it; `part` is where its choices have their words."""
        if (usage := data.get("usage")) and isinstance(usage, Mapping):
            self.usage = usage
        before = self._bytes
        for choice in data.get("choices") or ():
            if said := choice.get(part):
                self._bytes += _size(said)
        if not before and self._bytes and part == "delta":
            self.ttft = self._clock() - self.start

    def tokens(self) -> Tokens:
        """The counts: the provider's if it told any, else estimated."""
        return Tokens.of(self.usage) if self.usage else Tokens(self._prompt, self.written)


def _size(said: Mapping[str, Any]) -> int:
    """Bytes of what a message or delta says: its text, its thoughts, its calls' arguments."""
    size = 0
    for name in ("content", "reasoning_content", "reasoning"):
        if isinstance(text := said.get(name), str):
            size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    for call in said.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            size += sum(len(str(function.get(name) or "")) for name in ("name", "arguments"))
    return size


def _choices(body: Mapping[str, Any]) -> int:
    """How many answers the request asks for."""
    wanted = body.get("n")
    return wanted if type(wanted) is int and wanted > 1 else 1
