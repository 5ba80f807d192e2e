"""The real engine with the smallest real weights: start, stream, constrained call, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_service.local_model.engine import EngineError, LocalEngine, engine_available
from agent_service.local_model.provider import LocalProvider
from agent_service.local_model.weights import SMOLLM2_135M
from agent_service.model_pool import make_provider
from routing.config import ModelCard
from tests.service import RunningService
from tests.weights import weights_or_skip

CARD = ModelCard(id=SMOLLM2_135M.name, context_window=8192, tools=True, tool_calling="constrained")
HI = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {
            "type": "object",
            "properties": {"filepath": {"type": "string"}},
            "required": ["filepath"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def weights() -> Path:
    return weights_or_skip(SMOLLM2_135M)


@asynccontextmanager
async def running(
    weights: Path, folder: Path, **options: Any
) -> AsyncIterator[tuple[LocalEngine, LocalProvider]]:
    engine = LocalEngine(SMOLLM2_135M, weights, folder / "engine.log", environ=dict(os.environ), **options)
    provider = LocalProvider(engine, CARD, make_provider)
    try:
        yield engine, provider
    finally:
        await provider.aclose()


def deadline(seconds: float = 60) -> float:
    return asyncio.get_running_loop().time() + seconds


async def stopped(engine: LocalEngine) -> None:
    while engine.pid is not None:  # noqa: ASYNC110 - the child's end raises no event of ours
        await asyncio.sleep(0.05)


def in_loop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_engine_serves_whole_streamed_and_constrained_answers(weights: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(weights, tmp_path) as (engine, provider):
            assert engine.pid is None
            answer = await provider.complete(CARD, {"messages": HI, "max_tokens": 8}, deadline())
            assert answer["choices"][0]["message"]["content"]
            pid = engine.pid
            chunks = [c async for c in provider.stream(CARD, {"messages": HI, "max_tokens": 8}, deadline())]
            assert any(c.delta.get("content") for c in chunks)
            assert chunks[-1].data["usage"]["completion_tokens"] > 0
            body = {"messages": HI, "tools": [TOOL], "tool_choice": "required", "max_tokens": 300}
            called = await provider.complete(CARD, body, deadline())
            [call] = called["choices"][0]["message"]["tool_calls"]
            assert call["function"]["name"] == "read_file"
            assert isinstance(json.loads(call["function"]["arguments"])["filepath"], str)
            assert engine.pid == pid
        assert pid is not None
        assert not alive(pid)

    in_loop(scenario)


def test_a_stream_that_is_left_frees_the_engine(weights: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(weights, tmp_path) as (_, provider):
            body = {"messages": [{"role": "user", "content": "Count to a thousand."}], "max_tokens": 4000}
            stream = provider.stream(CARD, body, deadline())
            async for chunk in stream:
                if chunk.delta.get("content"):
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            began = time.monotonic()
            await provider.complete(CARD, {"messages": HI, "max_tokens": 2}, deadline())
            assert time.monotonic() - began < 20

    in_loop(scenario)


def test_it_stops_when_idle_and_comes_back_after_a_crash(weights: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(weights, tmp_path, idle_seconds=0.2) as (engine, provider):
            await provider.complete(CARD, {"messages": HI, "max_tokens": 2}, deadline())
            async with asyncio.timeout(10):
                await stopped(engine)
        async with running(weights, tmp_path) as (engine, provider):
            await provider.complete(CARD, {"messages": HI, "max_tokens": 2}, deadline())
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                await stopped(engine)
            await provider.complete(CARD, {"messages": HI, "max_tokens": 2}, deadline())
            assert (tmp_path / "engine.previous.log").exists()

    in_loop(scenario)


def test_a_damaged_file_is_an_error_with_the_log(tmp_path: Path) -> None:
    if not engine_available():
        pytest.skip("the engine is not installed here")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(1000))

    async def scenario() -> None:
        engine = LocalEngine(SMOLLM2_135M, damaged, tmp_path / "engine.log", environ=dict(os.environ))
        with pytest.raises(EngineError, match="failed to load model"):
            async with engine.use():
                pass
        await engine.aclose()

    in_loop(scenario)


def test_it_can_be_stopped_while_loading(weights: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = LocalEngine(SMOLLM2_135M, weights, tmp_path / "engine.log", environ=dict(os.environ))
        starting = asyncio.create_task(engine.use().__aenter__())
        while engine.pid is None:  # noqa: ASYNC110 - a child's start raises no event of ours
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.4)
        pid, began = engine.pid, time.monotonic()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert time.monotonic() - began < 1
        assert pid is not None
        assert not alive(pid)

    in_loop(scenario)


PARENT = """
import asyncio, os, sys
from pathlib import Path
from agent_service.local_model.engine import LocalEngine
from agent_service.local_model.weights import SMOLLM2_135M

async def main():
    engine = LocalEngine(SMOLLM2_135M, Path(sys.argv[1]), Path(sys.argv[2]), environ=dict(os.environ))
    async with engine.use():
        print(engine.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_it_dies_with_its_parent(weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(weights), str(tmp_path / "engine.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid), 5)


def test_a_model_that_comes_later_is_seen_at_the_next_look(tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    with RunningService(tmp_path, environ={"LOCAL_MODEL_PATH": str(file)}) as service:

        def models() -> list[str]:
            return [each["id"] for each in service.client.get("/v1/models").json()["data"]]

        assert not any(each.startswith("local/") for each in models())
        assert not service.client.get("/health").json()["providers"]
        file.write_bytes(b"GGUF")
        assert service.client.get("/health").json()["providers"] == {"local": True}
        assert any(each.startswith("local/") for each in models())
