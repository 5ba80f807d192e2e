"""The way of one request through its candidates: who is asked after which fault. No network."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

from routing.config import RoutingConfig
from routing.errors import (
    ContextTooLong,
    KeyRefused,
    NoProviderAvailable,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RoutingError,
    Unsupported,
)
from routing.needs import Needs
from routing.policy import Candidate, Ranked
from routing.reasons import again, in_words
from routing.retry_budget import RetryBudget
from routing.types import Attempt
from routing.usage import BudgetExceeded
from routing.windows import BUSY_WAIT

FIRST_BACKOFF = 0.5
"""Seconds before the first repeat, at most; each further one doubles it."""
LONGEST_BACKOFF = 8.0
PATIENCE = 5.0
"""Seconds that a rate-limited provider is waited for while another candidate stands ready."""
KEY_STATUSES = frozenset({401, 402})
"""Statuses that are about the account; the other refusals are about one model."""
_KEY_CAUSES = frozenset({"refused", "money", "disabled"})
_MOST_REASONS = 5
_PASSED_ON = (RateLimited, ProviderUnavailable, KeyRefused, ContextTooLong)
"""Faults after which another candidate may do better; any other ends the request."""


class Course:
    """Where one request stands: who was asked, who is left, and what went wrong.

    Repeats wait a random part of a growing time ("full jitter": https://aws.amazon.com/blogs/architecture/
    exponential-backoff-and-jitter/) and come out of a budget shared by all requests. An account is asked
    at most 1 + `num_retries` times, and as often all accounts of a provider that is down; except that each
    link of the user's own chain gets its turn, and that a request too long for one model costs nothing.
    """

    def __init__(
        self,
        ready: Iterable[Candidate],
        needs: Needs,
        config: RoutingConfig,
        *,
        in_order: bool,
        deadline: float,
        budget: RetryBudget,
        random: Callable[[], float],
    ) -> None:
        self._left = deque(ready)
        self._needs, self._config, self._in_order = needs, config, in_order
        self._deadline, self._budget, self._random = deadline, budget, random
        self._asked: Counter[str] = Counter()
        """By account."""
        self._down: Counter[str] = Counter()
        """By provider, how often it was: another account of it is no other place to ask."""
        self._again: Candidate | None = None
        self._repeats = 0
        self._errors: list[ProviderError] = []
        self._broke: BudgetExceeded | None = None
        self.failed: list[Attempt] = []

    def go_on_with(self, ready: Iterable[Candidate], *, in_order: bool) -> None:
        """Ask these from here on. What was asked before counts as it did."""
        self._left, self._in_order = deque(ready), in_order

    @property
    def has_other_after_silence(self) -> bool:
        """Whether somebody else is asked when the one asked now keeps silent."""
        return self._config.fallbacks.on_error and self._others_left

    @property
    def is_repeating(self) -> bool:
        """Whether the one asked now was asked just before."""
        return self._repeats > 0

    def next(self) -> Candidate | None:
        """Whom to ask now: the same again after a pause, else the next one; None = nobody is left."""
        if self._again is None:
            self._repeats = 0
            self._again = next(self._askable(), None)
        candidate, self._again = self._again, None
        if candidate:
            self._asked[candidate.spec.account_id] += 1
        return candidate

    def fail(
        self, candidate: Candidate, error: ProviderError, now: float, *, once: bool = False
    ) -> float | None:
        """Take note of a failure. Seconds after which the same candidate is asked again; None = not again.

        `once` = it is not repeated in any case.
        """
        self._errors.append(error)
        self.failed.append(Attempt(candidate.spec.name, candidate.card.id, str(error)))
        if isinstance(error, ContextTooLong):
            self._asked[candidate.spec.account_id] -= 1
            self._keep_larger_than(candidate)
        if isinstance(error, KeyRefused) and error.status in KEY_STATUSES:
            self._keep(lambda each: each.spec.account_id != candidate.spec.account_id)
        self._down[candidate.spec.name] += isinstance(error, ProviderUnavailable)
        seconds = self._pause(error)
        if once or seconds is None or self._is_asked_enough(candidate):
            return None
        if now + seconds >= self._deadline or not self._budget.spend(now):
            return None
        self._repeats += 1
        self._again = candidate
        return seconds

    def check_fallback(self, error: ProviderError) -> None:
        """Raises the outcome when after this fault no other candidate is to be asked."""
        if not self._falls_back_on(error):
            raise self.outcome()

    def run_out_of_money(self, candidate: Candidate, error: BudgetExceeded) -> None:
        """No budget allows a call of the candidate, or its end: only free ones are asked from here on.

        It does not count as a failure.
        """
        self._broke = error
        self._asked[candidate.spec.account_id] -= 1
        place = error.account_id
        self._keep(lambda each: each.is_free or place not in (None, each.spec.account_id))

    def outcome(self) -> RoutingError:
        """The most useful of the errors met: what may pass by itself before what will not."""
        if self._errors and not isinstance(self._errors[-1], _PASSED_ON):
            return self._errors[-1]
        if self._broke and (self._broke.account_id is None or not self._errors):
            return self._broke
        limited = [error for error in self._errors if isinstance(error, RateLimited)]
        down = [error for error in self._errors if isinstance(error, ProviderUnavailable)]
        too_long = [error for error in self._errors if isinstance(error, ContextTooLong)]
        if down:
            return down[-1]
        if limited:
            waits = [error.retry_after for error in limited if error.retry_after is not None]
            seconds = min(waits, default=self._config.router.retry_after_seconds)
            last = limited[-1]
            return RateLimited(last.provider, str(last), last.status, retry_after=seconds)
        if too_long or self._errors:
            return (too_long or self._errors)[-1]
        return NoProviderAvailable(
            "No model could be asked: the time was up, or each is busy with as many calls as it may have.",
            retry_after=BUSY_WAIT,
        )

    def _pause(self, error: ProviderError) -> float | None:
        """Seconds to wait before the same again, as far as the kind of fault decides."""
        another = self._falls_back_on(error) and self._others_left
        if isinstance(error, RateLimited):
            seconds = error.retry_after
            return None if seconds is None or (seconds > PATIENCE and another) else seconds
        if not isinstance(error, ProviderUnavailable):
            return None
        if isinstance(error, ProviderTimeout) and error.status is None and another:
            return None  # having waited in vain once, rather wait for somebody else
        return self._random() * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**self._repeats)

    @property
    def _others_left(self) -> bool:
        """Whether somebody else could still be asked."""
        return any(self._may_ask(candidate) for candidate in self._left)

    def _askable(self) -> Iterator[Candidate]:
        while self._left:
            if self._may_ask(candidate := self._left.popleft()):
                yield candidate

    def _may_ask(self, candidate: Candidate) -> bool:
        return self._in_order or not self._is_asked_enough(candidate)

    def _is_asked_enough(self, candidate: Candidate) -> bool:
        spec = candidate.spec
        return max(self._asked[spec.account_id], self._down[spec.name]) > self._config.router.num_retries

    def _falls_back_on(self, error: ProviderError) -> bool:
        allowed = self._config.fallbacks
        if isinstance(error, RateLimited):
            return allowed.on_rate_limit
        if isinstance(error, ContextTooLong):
            return allowed.on_context_window
        if isinstance(error, ProviderUnavailable):
            return allowed.on_error
        return isinstance(error, KeyRefused)

    def _keep_larger_than(self, candidate: Candidate) -> None:
        """Leave the models of larger windows, and others of unknown ones: they are worth a try."""
        window = candidate.card.context_window or self._needs.prompt_tokens

        def may_be_larger(each: Candidate) -> bool:
            known = each.card.context_window
            return known > window if known else each.kind != candidate.kind

        self._keep(may_be_larger)

    def _keep(self, good: Callable[[Candidate], bool]) -> None:
        self._left = deque(each for each in self._left if good(each))


def nobody_ready(ranked: list[Ranked]) -> RoutingError:
    """The error for a request that no candidate can be asked for."""
    if not ranked:
        return NoProviderAvailable(
            "No configured provider told which models it has. Name one: provider and model, or add `models` "
            "to the provider's configuration."
        )
    waiting = [entry for entry in ranked if entry.refusal is None]
    if not waiting:
        return Unsupported(f"No configured model can serve this request: {_listed(ranked)}.")
    blocks = [(entry.block, entry) for entry in waiting if entry.block]
    if all(block.cause in _KEY_CAUSES for block, _ in blocks):
        block, entry = blocks[0]
        provider = entry.candidate.spec.name
        return KeyRefused(provider, f"{block.words} ({provider} is asked again {again(block, provider)})")
    block, entry = min(
        ((block, entry) for block, entry in blocks if block.cause not in _KEY_CAUSES),
        key=lambda each: each[0].seconds,
    )
    if block.cause == "cap":
        return BudgetExceeded(block.words, block.seconds, account_id=entry.candidate.spec.account_id)
    when = f"try again in {in_words(block.seconds)}. {_listed(waiting)}."
    if block.cause in ("rate limit", "allowance", "limit"):
        message = f"All suitable models are cooling down; {when}"
        return RateLimited(entry.candidate.spec.name, message, retry_after=block.seconds)
    message = f"All suitable models are down or cooling down; {when}"
    return NoProviderAvailable(message, retry_after=block.seconds)


def _listed(entries: list[Ranked]) -> str:
    shown = "; ".join(f"{entry.candidate.label}: {entry.reason}" for entry in entries[:_MOST_REASONS])
    more = len(entries) - _MOST_REASONS
    return f"{shown}; and {more} more" if more > 0 else shown
