"""The published suite for LangGraph checkpointers, in all its capabilities, on the saver of the product."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from checkpoints.events import EventLog
from checkpoints.opening import open_database
from checkpoints.saver import open_saver
from tests.databases import Place

TESTS = 81
"""How many there are in version 0.0.2; a capability that is not found would be skipped, not failed."""


def test_every_capability(place: Place) -> None:
    @checkpointer_test(name="SqlCheckpointSaver")
    async def saver() -> AsyncIterator[BaseCheckpointSaver[str]]:
        async with (
            open_database(place) as database,
            open_saver(database, EventLog(database)) as opened,
        ):
            yield opened

    report = asyncio.run(validate(saver))
    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert all(report.results[capability.value].detected for capability in Capability)
    assert sum(result.tests_passed for result in report.results.values()) >= TESTS
