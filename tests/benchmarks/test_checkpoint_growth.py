"""What checkpoints cost in a long thread, in bytes and in time, on both databases, beside LangGraph's savers.

An agent-like graph (a model node and a tool node in turn) adds one message of 2 KB at every superstep. Times
are per superstep, net of the same steps with a saver that keeps nothing, all in one run. A thread is opened
by a saver that has its connection, and nothing of the thread.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import string
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import aiosqlite
import pytest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from sqlalchemy import text

from checkpoints.database import Upsert
from checkpoints.events import EventLog
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.leases import FENCE
from checkpoints.opening import open_database
from checkpoints.saver import open_saver
from checkpoints.tables import threads
from tests.databases import Place, PostgresqlServer

MESSAGE_BYTES = 2048
SHORT, LONG = 10, 2000
RUN_MESSAGES = 50
TURNS = 12
TIMED_STEPS = 20
"""In each turn; the long thread has grown by as many every time."""
OPENINGS = 24
MOST_BYTES = 6500
MOST_DOUBLING = 2.0
"""Of bytes, with twice as many messages."""
MOST_GROWTH = 1.5
MOST_OF_STOCK = 0.25
MOST_OF_STOCK_TO_OPEN = 1.0
THREAD, FENCE_NUMBER = "thread", 1

_random = random.Random(7)
_TEXT = "".join(_random.choices(string.ascii_letters + " ", k=1 << 16))


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Step(NamedTuple):
    """Milliseconds of one superstep."""

    wall: float
    cpu: float


Times = dict[tuple[str, int], Step]


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


def content() -> str:
    """2 KB that compress no better than random letters do."""
    start = _random.randrange(len(_TEXT) - MESSAGE_BYTES)
    return f"{_random.random():.12f}"[:14] + _TEXT[start : start + MESSAGE_BYTES - 14]


def message(at: int) -> AnyMessage:
    """What the model says, and what a tool answers, in turn."""
    if at % 2 == 0:
        call = {"name": "t", "args": {}, "id": f"c{at}"}
        return AIMessage(content(), id=f"m{at}", tool_calls=[call])
    return ToolMessage(content(), id=f"m{at}", tool_call_id=f"c{at - 1}")


class Thread:
    """A thread of that graph."""

    def __init__(self, saver: BaseCheckpointSaver[str]) -> None:
        graph = StateGraph(State)
        graph.add_node("model", self._model)
        graph.add_node("tool", self._tool)
        graph.add_edge(START, "model")
        graph.add_edge("model", "tool")
        graph.add_conditional_edges("tool", self._more)
        self._graph = graph.compile(checkpointer=saver)
        held = {"thread_id": THREAD, FENCE: FENCE_NUMBER}
        self._config: RunnableConfig = {"configurable": held, "recursion_limit": 10_000}
        self._stop_at = 0
        self._ticks: list[tuple[float, float]] = []

    async def grow(self, messages: int, given: Sequence[AnyMessage] = ()) -> list[Step]:
        """Run until there are so many messages."""
        self._stop_at = messages
        self._ticks.clear()
        await self._graph.ainvoke({"messages": list(given)}, self._config, durability="sync")
        pairs = zip(self._ticks, self._ticks[1:], strict=False)
        return [Step(*(1000 * (b - a) for a, b in zip(*pair, strict=True))) for pair in pairs]

    async def open(self) -> Step:
        """Read the state of the thread as it is stored."""
        start, cpu = time.perf_counter(), time.process_time()
        found = await self._graph.aget_state(self._config)
        assert len(found.values["messages"]) >= LONG
        return Step(1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu))

    async def _model(self, state: State) -> dict[str, Any]:
        self._ticks.append((time.perf_counter(), time.process_time()))
        return {"messages": [message(len(state["messages"]))]}

    async def _tool(self, state: State) -> dict[str, Any]:
        self._ticks.append((time.perf_counter(), time.process_time()))
        return {"messages": [message(len(state["messages"]))]}

    def _more(self, state: State) -> str:
        return END if len(state["messages"]) >= self._stop_at else "model"


@asynccontextmanager
async def ours(place: Place) -> AsyncIterator[BaseCheckpointSaver[str]]:
    async with open_database(place) as database, open_saver(database, EventLog(database)) as saver:
        held = {
            "thread_id": THREAD,
            "fence": FENCE_NUMBER,
            "principal": "p",
            "title": "",
            "status": "running",
        }
        claim = Upsert(threads, replace=True)
        row = {**held, "created_at": 0, "updated_at": 0}
        await database.write(lambda connection: connection.execute(claim.on(connection), row))
        yield saver


@asynccontextmanager
async def stock(place: Place) -> AsyncIterator[BaseCheckpointSaver[str]]:
    if isinstance(place, Path):
        async with aiosqlite.connect(place) as connection:
            await connection.execute("PRAGMA synchronous = FULL")
            yield AsyncSqliteSaver(connection)
    else:
        peer = import_module("langgraph.checkpoint.postgres.aio").AsyncPostgresSaver
        async with peer.from_conn_string(place.replace("+psycopg", "")) as saver:
            await saver.setup()
            yield saver


@asynccontextmanager
async def nothing(_: Place) -> AsyncIterator[BaseCheckpointSaver[str]]:
    yield NullSaver()


SAVERS = {"nothing": nothing, "ours": ours, "stock": stock}


def measured(place: Place) -> list[str]:
    """The savers to compare; LangGraph's own one for PostgreSQL is only measured where it is installed."""
    if isinstance(place, str) and find_spec("langgraph.checkpoint.postgres") is None:
        return ["nothing", "ours"]
    return [*SAVERS]


async def grow(place: Place, messages: int) -> None:
    """Let a thread grow that long, run by run."""
    async with ours(place) as saver:
        thread = Thread(saver)
        for length in range(RUN_MESSAGES, messages + 1, RUN_MESSAGES):
            await thread.grow(length)


async def bytes_of(place: Place) -> int:
    """What the graph's tables take, their indexes too."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return place.stat().st_size
    async with open_database(place) as database, database.read() as connection:
        sizes = [text(f"SELECT pg_total_relation_size('{table.name}')") for table in GRAPH_TABLES]
        return sum([(await connection.execute(each)).scalar_one() for each in sizes])


async def steps_of(long: Mapping[str, Place], new_place: Callable[[], Place]) -> Times:
    """Steps, by saver and length of the thread; the long threads are left in their places.

    The savers take turns, and so do the lengths: what else the machine does then falls upon all of them.
    """
    steps: defaultdict[tuple[str, int], list[Step]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        threads = {
            name: Thread(await stack.enter_async_context(SAVERS[name](place))) for name, place in long.items()
        }
        for thread in threads.values():
            await thread.grow(LONG, [message(each) for each in range(LONG - 2)])
        for turn in range(1, TURNS + 1):
            for name, thread in threads.items():
                async with SAVERS[name](new_place()) as saver:
                    short = Thread(saver)
                    await short.grow(SHORT, [message(each) for each in range(SHORT - 2)])
                    steps[name, SHORT] += await short.grow(SHORT + TIMED_STEPS)
                steps[name, LONG] += await thread.grow(LONG + turn * TIMED_STEPS)
    return {key: typical(found) for key, found in steps.items()}


async def openings_of(long: Mapping[str, Place]) -> dict[str, Step]:
    """Opening these threads, by saver, in turn."""
    found: defaultdict[str, list[Step]] = defaultdict(list)
    for name in [each for each in long if each != "nothing"] * OPENINGS:
        async with SAVERS[name](long[name]) as saver:
            await saver.aget_tuple({"configurable": {"thread_id": "another", "checkpoint_ns": ""}})
            found[name].append(await Thread(saver).open())
    return {name: typical(each) for name, each in found.items()}


def typical(found: list[Step]) -> Step:
    """The slowest of the quickest quarter: others on the machine only ever add."""
    return Step(*(statistics.quantiles(column)[0] for column in zip(*found, strict=True)))


def show(line: str) -> None:
    sys.stderr.write(f"\n{line}")


def test_bytes_grow_with_the_messages_and_not_with_their_square(
    places: Callable[[], Place],
) -> None:
    found = {}
    for messages in (LONG // 2, LONG):
        place = places()
        asyncio.run(grow(place, messages))
        found[messages] = asyncio.run(bytes_of(place))
        each = found[messages] / messages
        show(f"{each:,.0f} bytes per message of {MESSAGE_BYTES} bytes at {messages} messages")
    assert found[LONG] <= MOST_BYTES * LONG
    assert found[LONG] <= MOST_DOUBLING * found[LONG // 2]


def test_a_step_in_a_long_thread_costs_little_more_than_in_a_short_one(
    places: Callable[[], Place],
) -> None:
    long = {name: places() for name in measured(places())}
    steps, openings = asyncio.run(steps_of(long, places)), asyncio.run(openings_of(long))
    added = {
        (name, length): Step(*(a - b for a, b in zip(step, steps["nothing", length], strict=True)))
        for (name, length), step in steps.items()
        if name != "nothing"
    }
    show("added per step, ms      wall    CPU")
    for (name, length), step in added.items():
        show(f"{name:6} at {length:5} messages {step.wall:6.2f} {step.cpu:6.2f}")
    for name, step in openings.items():
        show(f"{name:6} opens {LONG} messages {step.wall:6.1f} {step.cpu:6.1f}")
    # The CPU's time, as what the disk takes differs too much from round to round.
    growth = added["ours", LONG].cpu / added["ours", SHORT].cpu
    show(f"{growth:.2f} times a short thread")
    assert growth <= MOST_GROWTH
    if "stock" in openings:
        clock = "cpu" if isinstance(places(), Path) else "wall"  # a server's CPU is not this process's
        of_stock = getattr(added["ours", LONG], clock) / getattr(added["stock", LONG], clock)
        opening = openings["ours"].cpu / openings["stock"].cpu
        show(f"{of_stock:.2f} of stock; opening {opening:.2f} of stock")
        assert of_stock <= MOST_OF_STOCK
        assert opening <= MOST_OF_STOCK_TO_OPEN


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Makes a new database at each call, without tables: each saver has its own."""
    numbers = count(1)
    if request.param == "sqlite":
        return lambda: tmp_path / f"{next(numbers)}.db"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.empty_database
