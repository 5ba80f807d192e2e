"""The embedded model as a provider like any other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agent_service.local_model.engine import Endpoint, EngineError, LocalEngine, engine_available
from agent_service.local_model.weights import CODER_1_5B, Weights, installed
from routing.config import ModelCard, ProviderSpec
from routing.errors import ProviderUnavailable, RateLimited
from routing.providers.base import Provider
from routing.types import ChatChunk

NAME = "local"
MAX_WAITING = 4
"""Requests that may wait for the one that runs; those beyond are told to come back."""
MODELS_FOLDER = "models"

CARD = ModelCard(
    id=CODER_1_5B.name,
    quality=0.05,  # measured: 9 of 10 small tasks, few of the larger; below every hosted model
    context_window=8192,
    tools=True,
    json_schema=True,
    tool_calling="constrained",
    input_price=0,
    output_price=0,
    tokens_per_second=12,
    ttft_seconds=8,
)


def embedded_provider(
    data_dir: Path, environ: Mapping[str, str], make: Callable[[ProviderSpec], Provider]
) -> Provider | None:
    """The embedded model, if weights and engine are installed.

    `LOCAL_MODEL_PATH` in `environ` names a GGUF file of the user's own to be used instead.
    """
    if not engine_available():
        return None
    folder = data_dir / MODELS_FOLDER
    own = environ.get("LOCAL_MODEL_PATH")
    file = Path(own) if own else installed(CODER_1_5B, folder)
    if file is None or not file.is_file():
        return None
    return LocalProvider(make_engine(CODER_1_5B, file, data_dir, environ), CARD, make)


def make_engine(
    weights: Weights, file: Path, data_dir: Path, environ: Mapping[str, str], *, port: int = 0
) -> LocalEngine:
    """An engine that keeps its log in the data folder."""
    return LocalEngine(weights, file, data_dir / "local-model.log", environ=environ, port=port)


class LocalProvider:
    """Implements `Provider` over an engine that is started by the first request."""

    def __init__(
        self, engine: LocalEngine, card: ModelCard, make: Callable[[ProviderSpec], Provider]
    ) -> None:
        self._engine, self._make = engine, make
        self._spec = ProviderSpec(
            name=NAME,
            display_name="Embedded model",
            base_url="http://127.0.0.1:0/v1",
            tier="local",
            models=(card,),
            tool_calling="constrained",
        )
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0
        self._remote: tuple[Endpoint, Provider] | None = None

    @property
    def spec(self) -> ProviderSpec:
        return self._spec

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """A checked OpenAI chat completion object; the time for loading is not counted."""
        async with self._ready(deadline) as (remote, extended):
            return await remote.complete(card, body, extended)

    async def stream(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float
    ) -> AsyncIterator[ChatChunk]:
        """The chunks of a streamed answer; the time for loading is not counted."""
        async with self._ready(deadline) as (remote, extended):
            chunks = remote.stream(card, body, extended)
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    async def list_models(self) -> list[ModelCard]:
        """The one model; the engine is not started for that."""
        return list(self._spec.models)

    async def aclose(self) -> None:
        """Stop the engine."""
        await self._forget()
        await self._engine.aclose()

    @contextlib.asynccontextmanager
    async def _ready(self, deadline: float) -> AsyncIterator[tuple[Provider, float]]:
        """The engine's own provider, for one request at a time, the deadline later by the time to load."""
        if self._waiting > MAX_WAITING:
            raise RateLimited(
                NAME, "the embedded model is busy; it answers one request at a time", retry_after=10
            )
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            await self._my_turn(deadline)
            try:
                left = deadline - loop.time()
                async with self._running() as remote:
                    yield remote, loop.time() + left
            finally:
                self._one_at_a_time.release()
        finally:
            self._waiting -= 1

    async def _my_turn(self, deadline: float) -> None:
        """Waiting in line counts: who would only get his turn too late is told to come back."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise RateLimited(
                NAME, "the embedded model was busy with other requests all the time", retry_after=10
            ) from None

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[Provider]:
        try:
            async with self._engine.use() as endpoint:
                yield await self._provider_at(endpoint)
        except EngineError as error:
            raise ProviderUnavailable(NAME, str(error)) from None

    async def _provider_at(self, endpoint: Endpoint) -> Provider:
        if self._remote is None or self._remote[0] != endpoint:
            await self._forget()
            row = {"base_url": endpoint.base_url, "api_key": SecretStr(endpoint.api_key)}
            self._remote = endpoint, self._make(self._spec.model_copy(update=row))
        return self._remote[1]

    async def _forget(self) -> None:
        if self._remote is not None:
            _, provider = self._remote
            self._remote = None
            await provider.aclose()
