"""The providers in service: from the configuration, else found on this machine, else the embedded model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from routing.allowance import Heard
from routing.config import NO_LIMITS, ProviderSpec, RoutingConfig
from routing.detect import detect_local
from routing.errors import NoProviderConfigured
from routing.health import WHOLE_ACCOUNT, Health, HealthSnapshot
from routing.meter import Meter
from routing.naming import BUILT_IN_ALIASES
from routing.pool import ProviderPool
from routing.providers.base import Provider
from routing.providers.constrained import ConstrainedProvider
from routing.providers.formats import http_provider
from routing.reasons import rest
from routing.redaction import redact
from routing.router import ModelRouter
from routing.transport import open_client

LOOK_AGAIN_SECONDS = 60.0
"""How long it is remembered that no server was found on this machine."""

OTHER_MODELS = (
    "(1) set a provider's key, for instance GROQ_API_KEY, OPENROUTER_API_KEY or OPENAI_API_KEY, and start "
    "again; "
    "(2) start a model server on this machine (Ollama, LM Studio, llama.cpp or vLLM): it is found by itself"
)
"""Ways to a model, apart from the embedded one."""
HOW_TO_BEGIN = (
    f"No model is configured. The three quickest ways out: {OTHER_MODELS}; "
    "(3) install the embedded model, 1.1 GB, no key needed: agent-service local install"
)


class ModelPool:
    """Keeps the router's providers in step with the configuration. Use it with `async with`."""

    def __init__(
        self,
        config: RoutingConfig,
        *,
        restricted: Collection[str] = (),
        own_port: int | None = None,
        ollama_host: str | None = None,
        embedded: Callable[[], Provider | None] = lambda: None,
        meter: Meter | None = None,
    ) -> None:
        """`restricted` are the accounts, by their ids, that are connected to at public addresses only."""
        self._config, self._restricted = config, frozenset(restricted)
        self._own_port, self._ollama_host = own_port, ollama_host
        self._embedded = embedded
        self._problems: dict[str, str] = {}
        self._resources = AsyncExitStack()
        self._looking = asyncio.Lock()
        self._looked_at: float | None = None
        pool = ProviderPool()
        self.health = Health(time.time() - time.monotonic(), pool.known)
        self.router = ModelRouter(pool, config=config, health=self.health, meter=meter)

    async def __aenter__(self) -> Self:
        self._resources.push_async_callback(self.router.pool.aclose)
        await self.reconfigure(self._config, restricted=self._restricted)
        looking = asyncio.create_task(self.look())
        self._resources.callback(looking.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def reconfigure(self, config: RoutingConfig, *, restricted: Collection[str] = ()) -> None:
        """Take another configuration over; requests in flight end as they began."""
        turned = self._restricted.symmetric_difference(restricted)
        self._config, self._restricted = config, frozenset(restricted)
        self._looked_at = None
        await self._use(config.providers, anew=turned)

    async def require_any(self) -> None:
        """Look for a model if none is configured. Raises NoProviderConfigured with the ways out."""
        if self._config.providers:
            return
        async with self._looking:
            if not self.router.pool.names:
                await self._look_around()
        if not self.router.pool.names:
            raise NoProviderConfigured(HOW_TO_BEGIN)

    async def look(self) -> None:
        """So that what is told of the models is true now: one may have come since the last look."""
        with suppress(NoProviderConfigured):
            await self.require_any()

    async def check(self, model: str, provider: str | None) -> None:
        """That these names mean something. Raises NoProviderConfigured, ModelNotFound, ProviderNotFound."""
        await self.require_any()
        await self.router.pool.resolve(model, provider, self._config.aliases, self._config.groups)

    def reachable(self) -> dict[str, bool]:
        """Provider -> usable, as far as is known."""
        return self.router.status()

    def rests(self) -> dict[str, str]:
        """Account -> why nothing of it is asked now, or nothing that costs; only those of which it is so."""
        snapshot, found = self.health.snapshot(time.monotonic()), {}
        silent = {spec.account_id: reason for spec, reason in self.router.pool.silent()}
        for provider, ids in self.router.pool.accounts.items():
            for each in ids:
                if block := snapshot.block((each, WHOLE_ACCOUNT)):
                    found[each] = rest(block, provider)
                elif words := silent.get(each) or self._all_rest(each, provider, snapshot):
                    found[each] = words
        return found

    def _all_rest(self, account_id: str, provider: str, snapshot: HealthSnapshot) -> str | None:
        """Why none of the models of the account may be asked now; None = some may be, or none is known."""
        models = self.router.pool.known(account_id)
        blocks = [block for each in models if (block := snapshot.block((account_id, each), is_free=True))]
        if not blocks or len(blocks) < len(models):
            return None
        words = rest(min(blocks, key=lambda block: block.seconds), provider)
        return words if len(blocks) == 1 else f"all its models rest; the first one: {words}"

    def _disabled(self) -> list[str]:
        """The accounts that wait for somebody to do something."""
        snapshot = self.health.snapshot(time.monotonic())
        blocks = [(spec, snapshot.block((spec.account_id, WHOLE_ACCOUNT))) for spec in self.router.pool.specs]
        return [
            f"The account {spec.name}/{spec.account} is not used: {rest(block, spec.name)}."
            for spec, block in blocks
            if block and block.cause == "disabled"
        ]

    def _silent(self) -> list[str]:
        """The accounts that nobody can be sent to, because no model of theirs is known."""
        return [
            f"No model of the account {spec.name}/{spec.account} is known: it {reason}. See that it runs at "
            f"{redact(spec.base_url)}, or name its models under providers.{spec.name}.models."
            for spec, reason in self.router.pool.silent()
        ]

    def proven(self, account_id: str) -> None:
        """The key of the account is good: ask it again."""
        self.health.proven(account_id)

    def report(self, topic: str, problem: str | None) -> None:
        """Note a problem for `/health`, or that it is gone."""
        if problem is None:
            self._problems.pop(topic, None)
        else:
            self._problems[topic] = problem

    def problems(self) -> list[str]:
        """What is wrong and what to do about it."""
        looked = self._looked_at is not None
        none = [HOW_TO_BEGIN] if looked and not self.router.pool.names else []
        return [*self._problems.values(), *self._disabled(), *self._silent(), *none]

    async def names(self) -> list[tuple[str, str]]:
        """(name, owner) of every model, as `provider/model`, then of the aliases."""
        candidates = {each.name: each for each in await self.router.pool.offered()}.values()
        aliases = dict.fromkeys([*self._config.aliases, *self._config.groups, *BUILT_IN_ALIASES])
        return [
            *((candidate.name, candidate.spec.name) for candidate in candidates),
            *((alias, "alias") for alias in aliases),
        ]

    async def _look_around(self) -> None:
        """For servers on this machine once in a while; for the embedded model, which is cheap, each time."""
        found: list[ProviderSpec] = []
        now = time.monotonic()
        due = self._looked_at is None or now - self._looked_at >= LOOK_AGAIN_SECONDS
        if due and self._config.router.detect_local:
            async with open_client() as client:
                found = await detect_local(
                    client, own_port=self._own_port, environ_ollama_host=self._ollama_host
                )
        if due:
            self._looked_at = now
        embedded = None if found else await asyncio.to_thread(self._embedded)
        if not self._config.providers:
            await self._use(found, embedded)
        elif embedded is not None:  # providers were configured while we looked
            await embedded.aclose()

    async def _use(
        self,
        specs: Sequence[ProviderSpec],
        embedded: Provider | None = None,
        anew: Collection[str] = (),
    ) -> None:
        """Put these into service, those named in `anew` with new connections in any case."""
        pool = self.router.pool
        self.health.limit({spec.account_id: spec.limits for spec in specs if spec.limits != NO_LIMITS})
        self.health.uncapped(spec.account_id for spec in specs)  # a cap may be another one
        live = {spec.account_id: pool.live(spec) for spec in specs if spec.account_id not in anew}
        providers = [live.get(spec.account_id) or self._made(spec) for spec in specs]
        if embedded is not None:
            providers.append(embedded)
        await self.router.reconfigure(self._config, providers)

    def _made(self, spec: ProviderSpec) -> Provider:
        """The account, whose answers tell health what is left of its allowance."""

        def heard(model: str, left: float, seconds: float) -> None:
            if self.router.pool.has(spec):
                self.health.allowed((spec.account_id, model), time.monotonic(), left, seconds)

        return make_provider(spec, public_only=spec.account_id in self._restricted, heard=heard)


def make_provider(spec: ProviderSpec, *, public_only: bool = False, heard: Heard | None = None) -> Provider:
    """The provider of one row, with a client of its own; weak models are held to a schema.

    `heard` is told what the headers of its answers say about the rest of our allowance.
    """
    provider = http_provider(spec, open_client(public_only=public_only))
    provider.heard = heard
    return ConstrainedProvider(provider)
