"""Random runs of a real graph, with every checkpoint kept by our saver and by LangGraph's InMemorySaver.

The graph reads from ours; whatever is read, and the whole history at the end, must be what the other one has.
Covered on the way: edits, removals, overwrites, changes in place, parallel tasks, pauses, forks, delta
channels, state set from outside, savers that remember nothing yet, and the database closed and opened again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command, Overwrite, Send, interrupt

from checkpoints.events import EventLog
from checkpoints.opening import open_database
from checkpoints.saver import open_saver
from tests.databases import Place

SOAK = bool(os.environ.get("SOAK"))
RUNS = {"sqlite": 2000 if SOAK else 300, "postgresql": 400 if SOAK else 60}
ACTIONS = 3
"""What is done to a thread in one run: instructions, answers, forks, edits from outside."""
BATCHES = {"sqlite": 5, "postgresql": 1}
"""The runs of a batch are threads of one database."""


def joined(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return [*state, *(each for write in writes for each in write)]


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[Any], add]
    deltas: Annotated[list[Any], DeltaChannel(joined, snapshot_frequency=3)]
    files: dict[str, str]
    note: str | None


class Mirror(BaseCheckpointSaver[str]):
    """Our saver and the other one, which must agree about everything that is read."""

    def __init__(self, place: Place) -> None:
        super().__init__(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self._place = place
        self._resources = AsyncExitStack()
        self.other = InMemorySaver(serde=self.serde)
        self.compared = 0

    async def open(self) -> None:
        """Open the database; if it is open, close it first."""
        await self._resources.aclose()
        opened = open_database(self._place, synchronous="NORMAL")  # no power cut will come
        self._database = await self._resources.enter_async_context(opened)
        await self.forget()

    async def forget(self) -> None:
        """Go on with a saver that remembers nothing of what is stored."""
        saver = open_saver(self._database, EventLog(self._database))
        self.ours = await self._resources.enter_async_context(saver)

    async def close(self) -> None:
        await self._resources.aclose()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        ours, other = await self.ours.aget_tuple(config), await self.other.aget_tuple(config)
        self._compare(ours, other)
        return ours

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        options: dict[str, Any] = {"filter": filter, "before": before, "limit": limit}
        other = [each async for each in self.other.alist(config, **options)]
        ours = [each async for each in self.ours.alist(config, **options)]
        assert len(ours) == len(other)
        for one, two in zip(ours, other, strict=True):
            self._compare(one, two)
            yield one

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        await self.other.aput(config, checkpoint, metadata, new_versions)
        return await self.ours.aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self.other.aput_writes(config, writes, task_id, task_path)
        await self.ours.aput_writes(config, writes, task_id, task_path)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        ours = await self.ours.aget_delta_channel_history(config=config, channels=channels)
        assert ours == await self.other.aget_delta_channel_history(config=config, channels=channels)
        return ours

    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.ours.get_next_version(current, channel)

    def _compare(self, ours: CheckpointTuple | None, other: CheckpointTuple | None) -> None:
        self.compared += 1
        if ours is None or other is None:
            assert ours is other
            return
        assert ours.checkpoint == other.checkpoint
        assert ours.metadata == other.metadata
        assert ours.pending_writes == other.pending_writes
        assert ours.parent_config == other.parent_config
        assert thread_and_id(ours.config) == thread_and_id(other.config)


def thread_and_id(config: RunnableConfig) -> tuple[str, ...]:
    configurable = config["configurable"]
    return tuple(configurable[name] for name in ("thread_id", "checkpoint_ns", "checkpoint_id"))


class Dice:
    """Random updates and the nodes that make them; texts now and then repeat, and some are long."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names = 0
        self.pick = self._random.choice
        self.chance = self._random.random

    def text(self) -> str:
        return self.pick("abc") * self.pick((1, 3, 300, 2000))

    def message(self, name: str | None = None) -> AnyMessage:
        self._names += 1
        kind = self.pick((AIMessage, HumanMessage))
        return kind(self.text(), id=name or f"m{self._names}", additional_kwargs={"size": {"of": 1}})

    def messages(self, present: Sequence[AnyMessage]) -> list[Any]:
        """New ones, new versions of present ones, removals."""
        updates: list[Any] = [self.message() for _ in range(self.pick((0, 1, 1, 2, 25)))]
        names = [each.id for each in present if each.id]
        if names and self.chance() < 0.5:
            updates.append(self.message(self.pick(names)))
        if names and self.chance() < 0.3:
            updates += [RemoveMessage(id=name) for name in {self.pick(names), self.pick(names)}]
        if self.chance() < 0.07:
            updates.insert(0, RemoveMessage(id=REMOVE_ALL_MESSAGES))
        return updates

    def things(self) -> list[Any]:
        return [self.pick((self.text(), 7, None, {"a": [1, self.text()]}, [1, "b"], b"bytes")) for _ in "ab"]

    def update(self, state: State) -> State:
        present = state.get("messages", [])
        if present and self.chance() < 0.4:  # in place, deep inside: must be seen
            present[-1].additional_kwargs.setdefault("size", {})["of"] = self.chance()
        if len(present) > 20 and self.chance() < 0.3:
            present[0].content = self.text()  # in place, long ago: must be seen, too
        update: State = {"messages": self.messages(present), "log": self.things()}
        if self.chance() < 0.6:
            update["deltas"] = self.things()
        if self.chance() < 0.4:
            update["files"] = {self.text()[:5]: self.text() for _ in range(3)}
        if self.chance() < 0.4:
            update["note"] = self.pick((None, self.text()))
        for channel in ("messages", "log", "deltas"):
            if self.chance() < 0.05:
                update |= {channel: Overwrite([self.message()])}  # type: ignore[misc]
        return update

    async def work(self, state: State) -> State:
        return self.update(state)

    async def ask(self, state: State) -> State:
        answer = interrupt({"question": self.text()})
        return {"log": [answer], "deltas": [answer]}

    def onwards(self, state: State) -> Any:
        choice = self.chance()
        if choice < 0.3:
            return END
        return "ask" if choice < 0.45 else [Send("side", {"log": self.things()}) for _ in "abc"]

    async def side(self, state: State) -> State:
        return {"log": state.get("log", []), "deltas": [self.text()], "messages": [self.message()]}


def build(dice: Dice, saver: BaseCheckpointSaver[str]) -> Any:
    graph = StateGraph(State)
    graph.add_node("work", dice.work)
    graph.add_node("ask", dice.ask)
    graph.add_node("side", dice.side)
    graph.add_edge(START, "work")
    graph.add_conditional_edges("work", dice.onwards, ["ask", "side", END])
    graph.add_edge("ask", "side")
    return graph.compile(checkpointer=saver)


async def one_run(seed: int, mirror: Mirror) -> None:
    """A thread's life."""
    dice = Dice(seed)
    graph = build(dice, mirror)
    config: RunnableConfig = {"configurable": {"thread_id": f"thread-{seed}"}}
    for _ in range(ACTIONS):
        await act(dice, graph, mirror, config)
    entries = [each async for each in mirror.alist(config)]
    for each in dice.pick(([], entries[:1], entries[-4:])):
        await mirror.aget_delta_channel_history(config=each.config, channels=["deltas", "log", "unknown"])


async def act(dice: Dice, graph: Any, mirror: Mirror, config: RunnableConfig) -> None:
    if dice.chance() < 0.25:
        await (mirror.open if dice.chance() < 0.2 else mirror.forget)()
    head = await graph.aget_state(config)
    at = config
    if head.config["configurable"].get("checkpoint_id") and dice.chance() < 0.3:  # go back in time
        at = dice.pick([each async for each in mirror.alist(config, limit=5)]).config
        head = await graph.aget_state(at)
    durability = dice.pick(("sync", "sync", "async", "exit"))
    if dice.chance() < 0.25:
        await graph.aupdate_state(at, dice.update(head.values), as_node="work")
    elif head.interrupts and dice.chance() < 0.7:
        answers = {each.id: dice.text() for each in head.interrupts}
        await graph.ainvoke(Command(resume=answers), at, durability=durability)
    else:
        await graph.ainvoke(dice.update(head.values), at, durability=durability)


async def some_runs(seeds: range, place: Place) -> int:
    """The runs with these seeds; how many reads were compared."""
    mirror = Mirror(place)
    await mirror.open()
    try:
        for seed in seeds:
            await one_run(seed, mirror)
        return mirror.compared
    finally:
        await mirror.close()


@pytest.mark.parametrize("batch", range(BATCHES["sqlite"]))
def test_ours_keeps_what_the_other_keeps(batch: int, tmp_path: Path) -> None:
    seeds = range(batch, RUNS["sqlite"], BATCHES["sqlite"])
    assert asyncio.run(some_runs(seeds, tmp_path / "state.db")) > len(seeds) * ACTIONS


@pytest.mark.parametrize("batch", range(BATCHES["postgresql"]))
def test_so_does_ours_on_postgresql(batch: int, postgresql_url: str) -> None:
    seeds = range(batch, RUNS["postgresql"], BATCHES["postgresql"])
    assert asyncio.run(some_runs(seeds, postgresql_url)) > len(seeds) * ACTIONS
