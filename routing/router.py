"""One request in, one good answer out: rank the candidates, ask the best, go on to the next."""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from routing.affinity import thread_of
from routing.candidate import Candidate
from routing.config import RoutingConfig, account_id
from routing.errors import AccountGone, ProviderError, ProviderNotFound, RoutingError
from routing.experience import Experience
from routing.explanation import Explanation, unpaid
from routing.exploration import explore
from routing.fallback import Course, nobody_ready
from routing.fields import forwarded
from routing.health import FORESEEN, PASSING, Claim, Health, Key
from routing.learning import Learning, LearningStore, Outcome
from routing.meter import Meter, MeteredCall
from routing.needs import Needs
from routing.policy import Goal, Ranking, rank
from routing.pool import ProviderPool
from routing.providers.base import Provider
from routing.providers.constrained import ignored_fields
from routing.reasons import explain
from routing.retry_budget import RetryBudget
from routing.stream import RoutedStream
from routing.turn import Turn
from routing.types import ChatCompletion, ChatRequest, RouteDecision, TaskClass
from routing.usage import BudgetExceeded, Prices

__all__ = ["ModelRouter", "RoutedStream"]

T = TypeVar("T")
Ask = Callable[[Turn], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who is to be asked for one request."""

    request: ChatRequest
    ranking: Ranking
    thread: object
    """What shares its prompt cache."""
    is_open: bool
    """Whether the choice was left to the router."""


class ModelRouter:
    """Answers chat requests from whichever model fits best and works now. Safe to use from many tasks."""

    def __init__(
        self,
        pool: ProviderPool,
        *,
        config: RoutingConfig,
        health: Health | None = None,
        learning: Learning | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._pool, self._config = pool, config
        self._experience = Experience(health or Health(known=pool.known), learning, clock, pool.has)
        self._health = self._experience.health
        self._meter = meter or Meter()
        self._clock, self._sleep, self._random = clock, sleep, random
        self._budget = RetryBudget()

    @property
    def pool(self) -> ProviderPool:
        """The providers in service."""
        return self._pool

    async def complete(self, request: ChatRequest) -> ChatCompletion:
        """A whole answer.

        Raises NoProviderConfigured, NoProviderAvailable, ModelNotFound, ProviderNotFound, Unsupported,
        or the ProviderError that tells most.
        """
        return await self._route(request, Turn.whole)

    async def stream(self, request: ChatRequest) -> RoutedStream:
        """An answer that has begun: its first text or tool call is there. Close it.

        Until then other candidates are tried as for `complete`, with the same errors; afterwards a fault
        raises StreamCut from the stream.
        """
        return await self._route(request, Turn.stream)

    async def explain(self, request: ChatRequest) -> Explanation:
        """All candidates for the request in their order, with the reasons. Asks no model.

        Who cannot be paid for by the request's payer is left alone, too. Raises what the budgets raise.
        """
        await self._pool.candidates()  # all there are, though it take a moment
        ranking = (await self._plan(request)).ranking
        silent = [each for each in self._pool.silent() if request.provider in (None, each[0].name)]
        blocks = await unpaid(ranking, request.payer, self._meter.budgets)
        return Explanation(ranking.goal, ranking.task, explain(ranking, blocks), silent)

    async def address(self, request: ChatRequest, decision: RouteDecision) -> str | None:
        """The address of who gave an answer, if the request could be answered there as things are now.

        None = not any more: the name means others, the account is gone, or it is not to be asked.
        """
        try:
            ranking = (await self._plan_now(request)).ranking
        except RoutingError:
            return None
        number = ranking.slate.numbers.get((account_id(decision.provider, decision.account), decision.model))
        if number is None or number in ranking.refused:
            return None
        return ranking.slate.candidates[number].spec.base_url

    def report(self, model: RouteDecision | Key, task: TaskClass, outcome: Outcome) -> None:
        """Learn from something that was found out about an answer; `model` is who gave it."""
        key = (model.provider, model.model) if isinstance(model, RouteDecision) else model
        self._experience.learning.report(key, task, outcome)

    async def recall(self, store: LearningStore) -> None:
        """Go on from what was learned before a restart. Raises what the store raises."""
        await self._experience.recall(store)

    async def remember(self, store: LearningStore) -> None:
        """Save what was learned so far. Raises what the store raises."""
        await self._experience.remember(store)

    def status(self) -> dict[str, bool]:
        """For each provider, whether it may be asked now, as far as we know."""
        snapshot = self._health.snapshot(self._clock())
        accounts, known = self._pool.accounts.items(), self._pool.known
        silent = {spec.account_id for spec, _ in self._pool.silent()}
        return {
            name: any(each not in silent and snapshot.is_up(each, known(each)) for each in ids)
            for name, ids in accounts
        }

    async def reconfigure(self, config: RoutingConfig, providers: Iterable[Provider]) -> None:
        """Take over another configuration; requests in flight end as they began.

        Providers to be kept are given as the same objects (`ProviderPool.live`). The others start with a
        clean record, and are closed when their last request is done.
        """
        before = {each for ids in self._pool.accounts.values() for each in ids}
        # No request may see the one without the other: nothing is waited for before all is in force.
        swap = self._pool.swap(providers)
        self._config = config
        self._health.forget(swap.changed & before)  # of new ones we may know from before a restart
        await swap.finish()

    async def _plan(self, request: ChatRequest) -> _Plan:
        """Who is to be asked; only if nobody is ready, providers are waited for that are telling theirs."""
        plan = await self._plan_now(request)
        while not plan.ranking.ready and await self._pool.another_listing():
            plan = await self._plan_now(request)
        return plan

    async def _plan_now(self, request: ChatRequest) -> _Plan:
        config, now = self._config, self._clock()
        choice = await self._pool.resolve(request.model, request.provider, config.aliases, config.groups)
        strategy = choice.strategy or config.router.strategy
        by_quality = strategy == "by-quality"
        goal: Goal = (choice.quality or request.quality) if strategy == "by-quality" else strategy
        thread = thread_of(request.body, request.affinity)
        ranking = rank(
            choice.slate,
            goal,
            self._health.snapshot(now),
            Needs.of(request.body, prefers_tools=choice.prefers_tools),
            beliefs=self._experience.learning.beliefs,
            free_only=config.router.free_only,
            warm=self._experience.affinity.warm(thread, now) if by_quality else None,
            random=self._random,
        )
        return _Plan(request, ranking, thread, choice.is_open and by_quality)

    async def _route(self, request: ChatRequest, ask: Ask[T]) -> T:
        """The one retry loop. Raises the error that tells most when nobody answered."""
        start = self._clock()
        deadline = start + self._config.router.timeout
        self._budget.request(start)
        plan = await self._plan(request)
        course = Course(
            self._worth_asking(plan),
            plan.ranking.needs,
            self._config,
            in_order=plan.ranking.goal == "in-order",
            deadline=deadline,
            budget=self._budget,
            random=self._random,
        )
        while self._clock() < deadline and (candidate := course.next()):
            claim, began = self._claim(candidate, plan, course), self._clock()
            if claim == "closed":
                continue
            try:
                return await self._attempt(plan, candidate, course, deadline, ask, probe=claim == "probe")
            except BudgetExceeded as broke:
                course.run_out_of_money(candidate, broke)
                if broke.spent:
                    wait = broke.retry_after or 0.0
                    self._health.capped(candidate.spec.account_id, self._clock(), wait, str(broke))
                continue
            except AccountGone:  # the configuration is another one by now
                plan = await self._plan(request)
                course.go_on_with(self._worth_asking(plan), in_order=plan.ranking.goal == "in-order")
                continue
            except ProviderError as error:
                failure = error
            now, cooling = self._clock(), self._config.router.retry_after_seconds
            pause = course.fail(candidate, failure, now, once=claim == "probe")
            self._experience.failed(
                candidate, failure, gave_up=pause is None, cooling=cooling, seconds=now - began
            )
            if pause is None:
                course.check_fallback(failure)
            else:
                await self._sleep(pause)
        if course.failed or plan.ranking.ready:
            raise course.outcome()
        raise nobody_ready(explain(plan.ranking))

    def _worth_asking(self, plan: _Plan) -> list[Candidate]:
        """Who is ready; when nobody is, who is left alone only because no good is expected of it."""
        ranking = plan.ranking
        if not ranking.ready:
            waiting = [ranking.slate.candidates[number] for number in ranking.blocked]
            blocks = [(each, ranking.snapshot.block(each.key, is_free=each.is_free)) for each in waiting]
            return [each for each, block in blocks if block and block.cause in FORESEEN]
        candidates = ranking.candidates
        if plan.is_open:
            other = explore(ranking, self._config.router.exploration, self._random)
            if other is not None:
                candidates.sort(key=lambda each: each is not ranking.slate.candidates[other])
        return candidates

    def _claim(self, candidate: Candidate, plan: _Plan, course: Course) -> Claim:
        """Whether the candidate may be asked now: others may have found out more since the plan was made."""
        despite = PASSING if course.is_repeating else () if plan.ranking.ready else FORESEEN
        return self._health.claim(candidate.key, self._clock(), is_free=candidate.is_free, despite=despite)

    async def _attempt(
        self, plan: _Plan, candidate: Candidate, course: Course, deadline: float, ask: Ask[T], *, probe: bool
    ) -> T:
        """One try at one candidate. Raises ProviderError."""
        async with AsyncExitStack() as resources:
            if probe:
                resources.callback(self._health.release, candidate.key)
            try:
                provider = await resources.enter_async_context(self._pool.lease(candidate.spec.account_id))
            except ProviderNotFound as gone:
                raise AccountGone(candidate.spec.name, f"{gone} It was removed just now.") from gone
            spec, body = provider.spec, plan.request.body
            ignored = ignored_fields(spec, candidate.card, body)
            passing, dropped = forwarded(body, spec.unsupported | ignored if ignored else spec.unsupported)
            task = plan.ranking.task
            failed, prices = tuple(course.failed), Prices.of(candidate).as_tuple()
            account = candidate.spec.account
            decision = RouteDecision(*candidate.kind, failed, dropped, *prices, task=task, account=account)
            now, left = asyncio.get_running_loop().time(), deadline - self._clock()
            begin_by = now + (left / 2 if course.has_other_after_silence else left)
            prompt = plan.ranking.needs.prompt_tokens
            call = self._call(provider, candidate, plan)
            self._health.used(candidate.key, self._clock(), prompt)
            resources.callback(self._settle, candidate.key, call, prompt, self._clock())
            turn = Turn(
                call,
                candidate,
                passing,
                decision,
                now + left,
                begin_by,
                plan.ranking.unread(candidate.key),
                resources,
                self._experience,
                self._clock,
            )
            answer = await ask(turn)
        self._experience.affinity.visited(plan.thread, candidate.key, prompt, self._clock())
        return answer

    def _settle(self, key: Key, call: MeteredCall, prompt: int, began: float) -> None:
        """Tell what a call took, now that it is over."""
        if call.asked:
            self._health.ended(key, self._clock(), call.tokens.completion)
        else:
            self._health.withdrawn(key, began, prompt)

    def _call(self, provider: Provider, candidate: Candidate, plan: _Plan) -> MeteredCall:
        """One call of the provider, with a meter over it."""
        ranking = plan.ranking
        return self._meter.over(provider, candidate, plan.request.payer, ranking.task, ranking.needs)
