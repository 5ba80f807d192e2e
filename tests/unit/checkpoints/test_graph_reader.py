"""Long lists come at once, however their elements are stored: each in its place and an object of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints import graph_reader
from checkpoints.driver import Rows, fetch, fetch_each
from tests.databases import Place
from tests.unit.checkpoints.savers import Saver, at, with_saver

RUN = 100
NOISE = random.Random(7).randbytes(20_000).hex()
ORDINARY: list[Any] = [{"n": number} for number in range(2 * RUN + 50)]
MIXED: list[Any] = [
    *ORDINARY,
    "compressed " * 1000,
    NOISE,
    None,
    b"bytes",
    [1, [2]],
    AIMessage("text", id="m"),
    *ORDINARY[:20],
]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_reader, "RUN", dict.fromkeys(graph_reader.RUN, RUN))


@pytest.mark.parametrize(
    "value", [ORDINARY, MIXED, MIXED[::-1], [{"the": "same"}] * 120, [*MIXED, *MIXED]], ids=len
)
def test_a_list_comes_back(place: Place, value: list[Any]) -> None:
    async def scenario(saver: Saver) -> None:
        found = await saver.value(await saver.save(at(), {"c": value}))
        assert found == value
        changeable = [id(each) for each in found if isinstance(each, dict | list | AIMessage)]
        assert len({*changeable}) == len(changeable)

    with_saver(place, scenario)


def test_several_versions_share_what_they_have_in_common(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        saved = [(await saver.save(at(), {"c": MIXED[:length]}), length) for length in range(0, 270, 27)]
        for config, length in saved:
            assert await saver.value(config) == MIXED[:length]

    with_saver(place, scenario)


def test_a_database_that_joins_no_further_than_a_zero_byte_is_read_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def cut_short(
        connection: AsyncConnection, statement: str, asked: Any, take: Callable[[Rows], Any]
    ) -> list[Any]:
        def cut(rows: Rows) -> Any:
            ((count, length, found, run),) = rows
            seen.append(len(run))
            return take([(count, length, found.split(b"\0")[0], run.split(b"\0")[0])])

        return await fetch_each(connection, statement, asked, cut)

    async def scenario(saver: Saver) -> None:
        config = await saver.save(at(), {"c": ORDINARY})
        monkeypatch.setattr(graph_reader, "fetch_each", cut_short)
        assert await saver.value(config) == ORDINARY
        assert len(seen) == 3

    with_saver(place, scenario)


def test_in_which_order_the_database_joins_does_not_matter(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    backwards = {}
    for name, statement in graph_reader._RUN.items():
        before, _, after = statement.rpartition("FROM place")
        backwards[name] = f"{before}FROM (SELECT at FROM place ORDER BY at DESC LIMIT 9999) AS place{after}"

    async def scenario(saver: Saver) -> None:
        config = await saver.save(at(), {"c": ORDINARY})
        monkeypatch.setattr(graph_reader, "_RUN", backwards)
        assert await saver.value(config) == ORDINARY

    with_saver(place, scenario)


def test_what_the_driver_refuses_is_told_in_the_usual_way(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        async with saver.database.read() as connection:
            with pytest.raises(DBAPIError):
                await fetch(connection, "SELECT nothing FROM nowhere", {})

    with_saver(place, scenario)
