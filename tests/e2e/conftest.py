"""A desk for the tests of the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.upstream import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """A provider that says what it is told to."""
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Desk]:
    """A desk whose configuration knows the upstream."""
    desk = Desk(tmp_path, upstream)
    yield desk
    desk.leave()
