"""Measures calls of models, and keeps them within budgets.

`Meter.over` lays a meter over a provider for one call. It reserves what the call may cost before it is made,
ends the wait for an answer that does not begin, stops a stream that outgrows what can be reserved, and tells
the sink once how the call ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from random import getrandbits
from typing import Any, cast

from routing.answers import wanted_choices
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
from routing.needs import BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN, Needs
from routing.providers.base import Provider
from routing.types import ChatChunk, Payer, Usage
from routing.usage import UNASKED, BudgetExceeded, Budgets, CallOutcome, ModelCall, Prices, Tokens, UsageSink

UNNAMED_ANSWER = 4096
"""Tokens reserved for an answer where neither the request nor the model's card names a limit."""
TEMPLATE_TOKENS = 16
"""Tokens that a model's chat template may add to the words of a prompt."""
STRETCH = 1024
"""Tokens by which a stream's reservation grows when it is written full."""
_TEXTS = frozenset({"content", "reasoning_content", "reasoning", "refusal"})
"""Where messages and deltas have their words."""
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
        self,
        sink: UsageSink | None = None,
        budgets: Budgets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a sink nobody is told of the calls, without budgets they may cost what they will."""
        self.sink, self.budgets, self.clock = sink, budgets, clock

    def over(
        self, provider: Provider, candidate: Candidate, payer: Payer | None, task: str, needs: Needs
    ) -> MeteredCall:
        """The provider with a meter over it, for one call."""
        return MeteredCall(self, provider, candidate, payer, task, needs)


class MeteredCall:
    """One call of one provider, measured. Raises BudgetExceeded besides what the provider raises."""

    def __init__(
        self,
        meter: Meter,
        provider: Provider,
        candidate: Candidate,
        payer: Payer | None,
        task: str,
        needs: Needs,
    ) -> None:
        """Without a payer it is neither told to the sink nor held to a budget."""
        self._meter, self._provider, self._candidate = meter, provider, candidate
        self._payer, self._task, self._needs = payer, task, needs
        self._prices = Prices.of(candidate)
        # Rows that come in the order of their keys are stored cheapest.
        self._id = f"{time.time_ns() // 1_000_000:012x}{getrandbits(80):020x}"
        self._tally = _Tally(needs.prompt_tokens, meter.clock)

    @property
    def asked(self) -> bool:
        """Whether the provider was asked: it is not when no budget allows that."""
        return self._tally.asked

    @property
    def tokens(self) -> Tokens:
        """What was counted so far: by the provider as far as it told, else estimated."""
        return self._tally.tokens()

    @property
    def usage(self) -> Usage:
        """The same, with all that the provider told."""
        return cast(Usage, {**(self._tally.usage or {}), **self.tokens.as_usage()})

    @property
    def told_tokens(self) -> int | None:
        """The tokens of its answer; None unless the provider told them."""
        return self._tally.told.completion or None if self._tally.is_up_to_date else None

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """The provider's whole answer; see `Provider.complete`. Raises ProviderTimeout at the deadline."""
        with self._recorded() as tally:
            most = self._named(card) or card.max_output or UNNAMED_ANSWER
            async with self._answered_by(deadline):
                await self._reserve(most * wanted_choices(body), deadline)
                tally.ask()
                data = await self._provider.complete(card, body, deadline)
            tally.add(data, "message")
            return data

    async def stream(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float, begin_by: float
    ) -> AsyncGenerator[ChatChunk, None]:
        """The chunks of the provider's answer; see `Provider.stream`.

        Raises ProviderTimeout when the first is not there by `begin_by`, on the event loop's clock, and
        BudgetExceeded in the middle when the budget is used up.
        """
        with self._recorded() as tally:
            named = self._named(card)
            reserved = (named or min(STRETCH, card.max_output or STRETCH)) * wanted_choices(body)
            most = reserved * BYTES_PER_TOKEN
            async with self._answered_by(begin_by):
                await self._reserve(reserved, deadline)
                tally.ask()
                chunks = self._provider.stream(card, body, deadline)
                chunk = await anext(chunks, None)
            try:
                while chunk is not None:
                    tally.add(chunk.data, "delta")
                    # Within the limit that the request names it is never stopped, however it is estimated.
                    if tally.bytes > most and (named is None or tally.least > reserved):
                        reserved = await self._stretch(tally, deadline)
                        most = reserved * BYTES_PER_TOKEN
                    yield chunk
                    try:
                        chunk = await anext(chunks)  # with a default it would pass through one more object
                    except StopAsyncIteration:
                        break
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    @asynccontextmanager
    async def _answered_by(self, when: float) -> AsyncIterator[None]:
        """Turns the end of our own patience into ProviderTimeout."""
        try:
            async with asyncio.timeout_at(when):
                yield
        except TimeoutError as late:
            provider, name = self._candidate.spec.name, self._candidate.name
            raise ProviderTimeout(provider, f"{name} did not answer in time") from late

    async def _stretch(self, tally: _Tally, deadline: float) -> int:
        """Reserve more for a stream that goes on; so much it is now. Raises BudgetExceeded, with usage."""
        wanted = tally.written + STRETCH
        try:
            await self._reserve(wanted, deadline)
        except BudgetExceeded as broke:
            broke.usage = self.usage
            raise
        return wanted

    def _named(self, card: ModelCard) -> int | None:
        """The tokens that the answer may have by the request's own word; None = it names no limit."""
        wanted = self._needs.output_tokens
        return wanted and min(wanted, card.max_output or wanted)

    async def _reserve(self, answer: int, deadline: float) -> None:
        """Set aside what the prompt and so long an answer cost. Raises BudgetExceeded."""
        usd = self._prices.assumed.cost(Tokens(self._needs.prompt_tokens + TEMPLATE_TOKENS, answer))
        if self._payer is not None and self._meter.budgets is not None and usd:
            seconds = max(0.0, deadline - asyncio.get_running_loop().time()) + SPARE_SECONDS
            await self._meter.budgets.reserve(self._id, self._payer, usd, seconds, self._candidate.spec)

    @contextmanager
    def _recorded(self) -> Iterator[_Tally]:
        """The tally of the call; at its end, however that comes, the sink is told. A refused one is none."""
        tally, payer, sink = self._tally, self._payer, self._meter.sink
        outcome: CallOutcome = "ok"
        try:
            yield tally
        except BaseException as error:
            outcome = next(each for kind, each in _OUTCOMES if isinstance(error, kind))
            raise
        finally:
            if payer and sink and (tally.asked or outcome == "abandoned"):
                sink.record(self._call(payer, outcome))

    def _call(self, payer: Payer, outcome: CallOutcome) -> ModelCall:
        tally = self._tally
        # Who was refused, or heard nothing but an error, is not charged; who left in the middle is.
        free = not tally.asked or (outcome not in ("ok", "abandoned", "over_budget") and not tally.began)
        tokens = Tokens() if free else tally.tokens()
        return ModelCall(
            id=self._id,
            payer=payer,
            task=self._task,
            provider=self._candidate.spec.name,
            account=self._provider.spec.account,
            model=self._candidate.card.id,
            tokens=tokens,
            estimated=not free and not tally.is_told,
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
        self.bytes = self._bytes_told = 0
        self.start = clock()
        self.asked = False
        self.ttft: float | None = None
        self.usage: Mapping[str, Any] | None = None
        """As the provider told it last."""
        self._told: Tokens | None = None

    def ask(self) -> None:
        """The provider is asked now; the time until here was ours."""
        self.asked, self.start = True, self._clock()

    @property
    def began(self) -> bool:
        """Whether anything of an answer came."""
        return self.bytes > 0 or self.usage is not None

    @property
    def written(self) -> int:
        """Tokens of the answer so far, estimated cautiously from its text."""
        return round(self.bytes / BYTES_PER_TOKEN)

    @property
    def least(self) -> int:
        """It has not fewer tokens than this."""
        return int(self.bytes / MOST_BYTES_PER_TOKEN)

    def add(self, data: Mapping[str, Any], part: str) -> None:
        """Take note of an answer, or of a piece of it; `part` is where its choices have their words."""
        for choice in data.get("choices") or ():
            if said := choice.get(part):
                self.bytes += _size(said)
        if self.ttft is None and self.bytes and part == "delta":
            self.ttft = self._clock() - self.start
        if (usage := data.get("usage")) and isinstance(usage, Mapping):
            self.usage, self._told, self._bytes_told = usage, None, self.bytes

    @property
    def told(self) -> Tokens:
        """The counts that the provider told; 0 stands for those that it did not."""
        if self._told is None:
            self._told = Tokens.of(self.usage) if self.usage else Tokens()
        return self._told

    @property
    def is_up_to_date(self) -> bool:
        """Whether nothing was said after the provider told its counts: some do so at the beginning."""
        return self.usage is not None and self._bytes_told == self.bytes

    @property
    def is_told(self) -> bool:
        """Whether the counts are the provider's: any prompt has tokens, and so has an answer with words."""
        told = self.told
        counts = bool(told.prompt and (told.completion or not self.bytes))
        return self.usage is UNASKED or (self.is_up_to_date and counts)

    def tokens(self) -> Tokens:
        """The counts: the provider's, with estimates for those that it did not tell or that are outdated."""
        told = self.told
        if self.is_told:
            return told
        written = 0 if told.completion and self.is_up_to_date else self.written
        return replace(told, prompt=told.prompt or self._prompt, completion=max(told.completion, written))


def _size(said: Mapping[str, Any]) -> int:
    """Bytes of what a message or delta says: its text, its thoughts, its calls' arguments."""
    size = 0
    for name, part in said.items():
        if name in _TEXTS and isinstance(part, str):
            size += len(part) if part.isascii() else len(part.encode("utf-8", "replace"))
        elif name == "tool_calls":
            functions = [call.get("function") for call in part or () if isinstance(call, Mapping)]
            for function in functions:
                if isinstance(function, Mapping):
                    size += sum(len(str(function.get(each) or "")) for each in ("name", "arguments"))
    return size
