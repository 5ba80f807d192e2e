"""Rows that are missing, foreign or changed: their thread says so and what to do; the others go on."""

from __future__ import annotations

import zlib
from copy import copy
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from sqlalchemy import Table, func, select, update

from checkpoints.errors import CheckpointNotFound, StateDamaged
from checkpoints.graph_tables import channel_values, checkpoints, items, writes
from checkpoints.history import History
from checkpoints.values import PLAIN, inflate
from tests.databases import Place
from tests.unit.checkpoints.savers import LONG, Saver, at, id_of, with_saver

MESSAGES = [AIMessage(f"{number} " + "y" * 600, id=f"m{number}") for number in range(40)]
LENGTHY = "text" * 2000
VALUES = {"c": LONG, "messages": MESSAGES, "short": "text", "long": LENGTHY, "d": _DeltaSnapshot(LONG)}


@dataclass
class Unlisted:
    """Of a class that no serialiser was told of."""

    name: str


async def fill(saver: Saver) -> None:
    """Two threads that hold the same."""
    for thread_id in ("t", "sound"):
        here = await saver.save(at(thread_id), VALUES, tag="x")
        await saver.aput_writes(here, [("c", LONG[:20]), ("short", "text"), ("long", LENGTHY)], "task")


async def assert_damaged(saver: Saver, sentence: str = "") -> None:
    """That thread cannot be read in any way but deleted, and the other one goes on."""
    pattern = f"state of thread 't' cannot be used: .*{sentence}.*.* restore .* or delete the thread"
    with pytest.raises(StateDamaged, match=pattern):
        await saver.aget_tuple(at())
    with pytest.raises(StateDamaged, match=pattern):
        _ = [each async for each in saver.alist(at())]
    found = await saver.aget_tuple(at("sound"))
    assert found is not None and found.checkpoint["channel_values"] == VALUES
    onwards = await saver.save(found.config, {"c": [*LONG, "on"]})
    assert await saver.value(onwards) == [*LONG, "on"]
    await saver.adelete_thread("sound")
    await saver.adelete_thread("t")
    assert set((await saver.rows()).values()) == {0}


def spoil(table: Table, of_kind: str | None = None, **values: Any) -> Any:
    """A change of all rows of the thread `t` in that table (of that kind)."""
    change = update(table).where(table.c.thread_id == "t").values(**values)
    return change if of_kind is None else change.where(table.c.kind == of_kind)


def test_a_missing_item_is_told(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await fill(saver)
        any_one = select(func.min(items.c.id)).where(items.c.thread_id == "t").scalar_subquery()
        await saver.perform(items.delete().where(items.c.thread_id == "t", items.c.id == any_one))
        await assert_damaged(saver, "a part of it is missing")

    with_saver(place, scenario)


def test_a_missing_value_of_a_channel_is_told(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        for channel in VALUES:
            await fill(saver)
            await saver.perform(
                channel_values.delete().where(
                    channel_values.c.thread_id == "t", channel_values.c.channel == channel
                )
            )
            await assert_damaged(saver, f"the value of its channel '{channel}' is missing")

    with_saver(place, scenario)


FOREIGN = (
    spoil(checkpoints, body=b"\xc1 garbage"),
    spoil(checkpoints, body=b"\x05"),
    spoil(checkpoints, body=b""),
    spoil(checkpoints, kind="pickle"),
    spoil(checkpoints, kind="of the future"),
    spoil(checkpoints, metadata="{"),
    spoil(channel_values, "msgpack", data=b"\xc1"),
    spoil(channel_values, "msgpack", kind="pickle", data=b"cos\nsystem\n(S'true'\ntR."),
    spoil(channel_values, "msgpack", kind="msgpack+zlib"),
    spoil(channel_values, "item", data=b"short"),
    spoil(channel_values, "list", data=b""),
    spoil(channel_values, "list", data=b"\xff" * 7),
    spoil(channel_values, "snapshot", data=b"\x01" + b"\0" * 16),
    spoil(writes, "msgpack", data=b"\xc1"),
    spoil(writes, "msgpack", kind="json", data=b"{"),
    spoil(writes, "list", data=b"\xff" * 7),
    spoil(items, "node", data=b"\0" * 160),
    spoil(items, "node", kind="msgpack"),
    spoil(items, "msgpack+sum", data=b"\xc1"),
    spoil(items, "msgpack+sum", data=b""),
    spoil(items, "msgpack+sum", kind="msgpack"),
    spoil(items, "msgpack+sum", kind="msgpack+zlib"),
    spoil(items, "msgpack+zlib", data=b"not compressed"),
    spoil(items, "msgpack+sum", kind="msgpack+crc"),
    spoil(items, "msgpack+zlib", kind="msgpack+sum"),
)


def test_a_row_that_is_not_what_was_stored_is_told(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        for change in FOREIGN:
            await fill(saver)
            await saver.perform(change)
            await assert_damaged(saver)

    with_saver(place, scenario)


def test_one_changed_letter_of_a_message_is_told(place: Place) -> None:
    """It would still be read; but a checksum comes with it."""

    async def scenario(saver: Saver) -> None:
        plain = [AIMessage("pay 10" + "".join(map(chr, range(33, 120))), id="m")]
        await saver.save(at(), {"c": plain})
        async with saver.database.read() as connection:
            data = (await connection.execute(select(items.c.data))).scalar_one()
        assert b"pay 10" in data
        await fill(saver)
        here = await saver.save(at(), {"c": plain})
        changed = spoil(items, data=data.replace(b"pay 10", b"pay 90")).where(items.c.data == data)
        await saver.perform(changed)
        with pytest.raises(StateDamaged, match="a part of it was changed"):
            await saver.aget_tuple(here)

    with_saver(place, scenario)


def test_rows_of_earlier_versions_are_read_and_checked(place: Place) -> None:
    """They had another checksum or, without being compressed, none; then their address tells of a change."""

    async def scenario(saver: Saver) -> None:
        for earlier in (plain, compressed, with_plain_crc):
            await fill(saver)
            async with saver.database.read() as connection:
                rows = (await connection.execute(select(items).where(items.c.kind == PLAIN))).all()
            for row in rows:
                kind, data = earlier(*inflate((row.kind, row.data)))
                await saver.perform(
                    update(items)
                    .where(items.c.thread_id == row.thread_id, items.c.id == row.id)
                    .values(kind=kind, data=data)
                )
            found = await saver.aget_tuple(at())
            assert found is not None and found.checkpoint["channel_values"] == VALUES
            lengthened = await saver.save(at(), VALUES | {"c": [*LONG, {"text": "new"}]})
            assert await saver.value(lengthened) == [*LONG, {"text": "new"}], "old rows and a new one"
            await saver.perform(spoil(items, kind, data=data[:-1] + b"?"))
            await assert_damaged(saver, "a part of it was changed")

    with_saver(place, scenario)


def plain(kind: str, data: bytes) -> tuple[str, bytes]:
    return kind, data


def compressed(kind: str, data: bytes) -> tuple[str, bytes]:
    return kind + "+zlib", zlib.compress(data)


def with_plain_crc(kind: str, data: bytes) -> tuple[str, bytes]:
    data += b"\xce"
    return kind + "+crc", data + zlib.crc32(data).to_bytes(4, "little")


def test_an_object_of_an_unknown_class_is_told_and_not_turned_into_plain_data(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        sentence = r"a class that is not known here, tests\.unit\.checkpoints\.test_damage\.Unlisted"
        for value in (Unlisted("a"), [*LONG, {"deep": [Unlisted("b")]}], Unlisted("c" * 500)):
            await fill(saver)
            await saver.save(at(), {"c": value})
            await assert_damaged(saver, sentence)
            await fill(saver)
            here = at(checkpoint_id=(await saver.history(at()))[0])
            await saver.aput_writes(here, [("c", value)], "other")
            await assert_damaged(saver, sentence)
        known = copy(saver)
        known.serde = saver.serde.with_msgpack_allowlist([Unlisted])  # type: ignore[attr-defined]
        await known.save(at(), {"c": Unlisted("d")})
        assert await known.value(at()) == Unlisted("d")

    with_saver(place, scenario)


def test_a_damaged_thread_is_not_pruned_but_deleted(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await fill(saver)
        await saver.save(at(), VALUES)
        oldest = (await saver.history(at()))[-1]
        await saver.perform(spoil(checkpoints, body=b"\xc1").where(checkpoints.c.checkpoint_id != oldest))
        before = await saver.rows()
        with pytest.raises(StateDamaged):
            await saver.keep_last("t", 1)
        assert await saver.rows() == before
        await saver.keep_last("sound", 1)
        await saver.adelete_thread("t")
        assert set((await saver.rows("t")).values()) == {0}

    with_saver(place, scenario)


def any_item(kind: str) -> Any:
    return (
        select(func.min(items.c.id)).where(items.c.thread_id == "t", items.c.kind == kind).scalar_subquery()
    )


IN_A_KEPT_ONE = (
    spoil(channel_values, "list", data=b"\xff\x00\xff"),
    spoil(channel_values, data=b"\xc1").where(channel_values.c.data == b"\xa4text"),
    channel_values.delete().where(channel_values.c.thread_id == "t", channel_values.c.kind == "item"),
    items.delete().where(items.c.thread_id == "t", items.c.id == any_item("msgpack+sum")),
    items.delete().where(items.c.thread_id == "t", items.c.id == any_item("node")),
    spoil(items, data=b"\xc1").where(items.c.id == any_item("msgpack+sum")),
    spoil(items, data=b"\0" * 16).where(items.c.id == any_item("node")),
    spoil(items, "msgpack+zlib", data=b"not compressed"),
    spoil(items, "msgpack+sum", kind="pickle+sum"),
    spoil(writes, "msgpack", data=b"\xc1"),
    spoil(writes, "list", data=b"\xff" * 7),
)
"""Damages of the latest checkpoint; the earlier ones hold nothing of these kinds."""


def test_nothing_goes_while_a_checkpoint_that_stays_is_damaged(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        for change in IN_A_KEPT_ONE:
            earlier = await saver.save(at(), {"messages": ["sound"], "short": "a", "long": "b"})
            await saver.save(earlier, {"messages": ["sound", "too"], "short": "c", "long": "d"})
            await fill(saver)
            await saver.perform(change)
            before = await saver.rows()
            with pytest.raises(StateDamaged):
                await saver.aget_tuple(at())
            with pytest.raises(StateDamaged):
                await saver.keep_last("t", 2)
            assert await saver.rows() == before
            assert await saver.value(earlier, "messages") == ["sound"]
            await saver.save(earlier, {"messages": ["sound", "again"]})
            await saver.keep_last("t", 1)
            assert (await saver.rows("t"))["checkpoints"] == 1, "what stays is sound now"
            assert await saver.value(at(), "messages") == ["sound", "again"]
            await saver.adelete_thread("t")
            await saver.adelete_thread("sound")

    with_saver(place, scenario)


def test_a_thread_of_which_nothing_would_go_is_not_looked_through(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await fill(saver)
        await saver.perform(spoil(checkpoints, body=b"\xc1"))
        await saver.keep_last("t", 1)

    with_saver(place, scenario)


PAGES = (
    (spoil(checkpoints, body=b"\xc1"), checkpoints.c.checkpoint_id),
    (spoil(checkpoints, metadata="{"), checkpoints.c.checkpoint_id),
    (spoil(channel_values, data=b"\xff\x00\xff"), channel_values.c.version),
    (spoil(channel_values, kind="msgpack", data=b"\x05"), channel_values.c.version),
    (channel_values.delete().where(channel_values.c.thread_id == "t"), channel_values.c.version),
)
"""Damages of one checkpoint, and by what it is chosen."""


def test_a_history_tells_of_the_damaged_and_shows_the_others(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        history = History(saver.database, saver.serde)
        for change, chosen in PAGES:
            here, names = at(), list[str]()
            for length in (20, 30, 40):
                here = await saver.save(here, {"messages": MESSAGES[:length]}, {"messages": str(length)})
                names.append(id_of(here))
            latest = select(func.max(chosen)).where(chosen.table.c.thread_id == "t").scalar_subquery()
            await saver.perform(change.where(chosen == latest))
            found = await history.page("t", "messages", limit=10)
            assert [each.checkpoint_id for each in found] == names[::-1]
            assert [(each.length, each.last, each.damaged) for each in found] == [
                (0, None, True),
                (30, MESSAGES[29], False),
                (20, MESSAGES[19], False),
            ]
            assert found[0].parent_id == names[1]
            assert [each.damaged for each in await history.page("t", "messages", limit=1)] == [True]
            assert await history.page("t", "messages", limit=10, before=names[-1]) == found[1:]
            with pytest.raises(CheckpointNotFound):
                await history.page("t", "messages", limit=10, before="none")
            await saver.adelete_thread("t")

    with_saver(place, scenario)


def test_a_history_that_misses_an_end_looks_for_what_rests_on_it(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        here = at()
        for length in (20, 30, 40):
            here = await saver.save(here, {"messages": MESSAGES[:length]})
        async with saver.database.read() as connection:
            found = (await connection.execute(select(items.c.id, items.c.data))).all()
        [lost] = [row.id for row in found if b"29 yyy" in row.data]
        await saver.perform(items.delete().where(items.c.id == lost))
        page = await History(saver.database, saver.serde).page("t", "messages", limit=10)
        assert [(each.length, each.damaged) for each in page] == [(0, True), (0, True), (20, False)]

    with_saver(place, scenario)


def test_a_damaged_ancestor_stops_what_rests_on_it(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        first = await saver.save(at(), {"d": _DeltaSnapshot(LONG)})
        last = await saver.save(first, {})
        await saver.perform(
            spoil(checkpoints, body=b"\xc1").where(checkpoints.c.checkpoint_id == id_of(first))
        )
        with pytest.raises(StateDamaged):
            await saver.aget_delta_channel_history(config=last, channels=["d"])

    with_saver(place, scenario)
