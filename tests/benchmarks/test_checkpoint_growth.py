"""What checkpoints cost in a long thread, in bytes and in time, beside LangGraph's stock SQLite saver.

An agent-like graph (a model node and a tool node in turn) adds one message of 2 KB at every superstep. Times
are per superstep, net of the same steps with a saver that keeps nothing, all in one run.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import string
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import aiosqlite
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from checkpoints.database import Database
from checkpoints.saver import open_saver

MESSAGE_BYTES = 2048
SHORT, LONG = 10, 2000
RUN_MESSAGES = 50
ROUNDS = 8
TIMED_STEPS = 20
MOST_BYTES = 6500
MOST_GROWTH = 1.5
MOST_OF_STOCK = 0.25

_random = random.Random(7)
_TEXT = "".join(_random.choices(string.ascii_letters + " ", k=1 << 16))


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Step(NamedTuple):
    """Milliseconds of one superstep."""

    wall: float
    cpu: float


class NullSaver(InMemorySaver):
    """Takes everything and keeps the latest values only, as they are."""

    latest: CheckpointTuple | None = None

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: Mapping[str, Any],
    ) -> RunnableConfig:
        key = {**config["configurable"], "checkpoint_id": checkpoint["id"]}
        self.latest = CheckpointTuple({"configurable": key}, checkpoint, metadata, None, [])
        return {"configurable": key}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        pass

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if self.latest is None or self.latest.config["configurable"]["thread_id"] != thread_of(config):
            return None
        return self.latest


def thread_of(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def text() -> str:
    """2 KB that compress no better than random letters do."""
    start = _random.randrange(len(_TEXT) - MESSAGE_BYTES)
    return f"{_random.random():.12f}"[:14] + _TEXT[start : start + MESSAGE_BYTES - 14]


class Thread:
    """A thread of that graph."""

    def __init__(self, saver: BaseCheckpointSaver[str], thread_id: str) -> None:
        graph = StateGraph(State)
        graph.add_node("model", self._model)
        graph.add_node("tool", self._tool)
        graph.add_edge(START, "model")
        graph.add_edge("model", "tool")
        graph.add_conditional_edges("tool", self._more)
        self._graph = graph.compile(checkpointer=saver)
        self._config: RunnableConfig = {"configurable": {"thread_id": thread_id}, "recursion_limit": 10_000}
        self._stop_at = 0
        self._ticks: list[tuple[float, float]] = []

    async def grow(self, messages: int, given: Sequence[AnyMessage] = ()) -> list[Step]:
        """Run until there are so many messages."""
        self._stop_at = messages
        self._ticks.clear()
        await self._graph.ainvoke({"messages": list(given)}, self._config, durability="sync")
        pairs = zip(self._ticks, self._ticks[1:], strict=False)
        return [Step(*(1000 * (b - a) for a, b in zip(*pair, strict=True))) for pair in pairs]

    async def _model(self, state: State) -> dict[str, Any]:
        self._ticks.append((time.perf_counter(), time.process_time()))
        at = len(state["messages"])
        call = {"name": "t", "args": {}, "id": f"c{at}"}
        return {"messages": [AIMessage(text(), id=f"m{at}", tool_calls=[call])]}

    async def _tool(self, state: State) -> dict[str, Any]:
        self._ticks.append((time.perf_counter(), time.process_time()))
        at = len(state["messages"])
        return {"messages": [ToolMessage(text(), id=f"m{at}", tool_call_id=f"c{at - 1}")]}

    def _more(self, state: State) -> str:
        return END if len(state["messages"]) >= self._stop_at else "model"


@asynccontextmanager
async def ours(file: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    async with Database.open(file) as database, open_saver(database) as saver:
        yield saver


@asynccontextmanager
async def stock(file: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    async with aiosqlite.connect(file) as connection:
        await connection.execute("PRAGMA synchronous = FULL")
        yield AsyncSqliteSaver(connection)


@asynccontextmanager
async def nothing(_: Path) -> AsyncIterator[BaseCheckpointSaver[str]]:
    yield NullSaver()


async def grow_long(file: Path) -> None:
    async with ours(file) as saver:
        thread = Thread(saver, "grown")
        for messages in range(RUN_MESSAGES, LONG + 1, RUN_MESSAGES):
            await thread.grow(messages)


async def step_times(folder: Path) -> dict[tuple[str, int], Step]:
    """By saver and length of the thread: the best round's median, each round with threads of its own."""
    medians: dict[tuple[str, int], list[Step]] = {}
    for number in range(ROUNDS):
        for name, kind in {"nothing": nothing, "ours": ours, "stock": stock}.items():
            for length in (SHORT, LONG):
                async with kind(folder / f"{name}-{length}-{number}.db") as saver:
                    thread = Thread(saver, "timed")
                    given = [HumanMessage(text(), id=f"g{each}") for each in range(length - 2)]
                    await thread.grow(length, given)
                    steps = await thread.grow(length + TIMED_STEPS)
                medians.setdefault((name, length), []).append(
                    Step(*(statistics.median(column) for column in zip(*steps, strict=True)))
                )
    return {key: Step(*map(min, zip(*found, strict=True))) for key, found in medians.items()}


def test_bytes_grow_with_the_messages_and_not_with_their_square(tmp_path: Path) -> None:
    asyncio.run(grow_long(tmp_path / "state.db"))
    found = sum(file.stat().st_size for file in tmp_path.iterdir()) / LONG
    sys.stderr.write(f"\n{found:,.0f} bytes per message of {MESSAGE_BYTES} bytes at {LONG} messages\n")
    assert found <= MOST_BYTES


def test_a_step_in_a_long_thread_costs_little_more_than_in_a_short_one(tmp_path: Path) -> None:
    times = asyncio.run(step_times(tmp_path))
    added = {
        (name, length): Step(*(a - b for a, b in zip(step, times["nothing", length], strict=True)))
        for (name, length), step in times.items()
        if name != "nothing"
    }
    sys.stderr.write("\nadded per step, ms      wall    CPU\n")
    for (name, length), step in added.items():
        sys.stderr.write(f"{name:6} at {length:5} messages {step.wall:6.2f} {step.cpu:6.2f}\n")
    ratios = {
        clock: (
            getattr(added["ours", LONG], clock) / getattr(added["ours", SHORT], clock),
            getattr(added["ours", LONG], clock) / getattr(added["stock", LONG], clock),
        )
        for clock in Step._fields
    }
    for clock, (growth, of_stock) in ratios.items():
        sys.stderr.write(f"{clock}: {growth:.2f} times a short thread, {of_stock:.2f} of stock\n")
    growth, of_stock = ratios["cpu"]  # what the disk takes differs too much from round to round
    assert growth <= MOST_GROWTH
    assert of_stock <= MOST_OF_STOCK
