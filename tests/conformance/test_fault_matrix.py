"""Every fault of a model server beside a healthy one: the client gets a whole answer, or is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.faults import BACKUP, FAULTS, verdict_on
from tests.service import MODEL, RunningService, provider_row
from tests.upstream import ScriptedUpstream, says

TIMEOUT = 2.0
"""Seconds for one request: a server that hangs is passed over after half of them."""


class Stage(NamedTuple):
    """A service with a chain for each fault, named as it: a server that fails so, and one that does not."""

    service: RunningService
    failing: Mapping[str, ScriptedUpstream]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    chains: dict[str, Any] = {}
    with ExitStack() as stack:
        backup = stack.enter_context(ScriptedUpstream(otherwise=says(BACKUP)))
        providers = {"backup": provider_row(backup)}
        failing = {
            name: stack.enter_context(ScriptedUpstream(otherwise=fault.step))
            for name, fault in FAULTS.items()
        }
        for number, (name, upstream) in enumerate(failing.items()):
            small = {**MODEL, "context_window": 8192}  # a prompt too long for it may fit the backup
            providers[f"failing{number}"] = provider_row(upstream, models=[small])
            chains[name] = [{"provider": each, "model": "m1"} for each in (f"failing{number}", "backup")]
        home = tmp_path_factory.mktemp("service")
        router = {"timeout": TIMEOUT, "num_retries": 1}
        service = RunningService(home, router=router, providers=providers, models=chains)
        yield Stage(stack.enter_context(service), failing)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_passed_over_or_told(stage: Stage, name: str) -> None:
    fault = FAULTS[name]
    body = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
    url = f"{stage.service.url}/v1/chat/completions"
    assert verdict_on(url, body, {}, stream=fault.stream) == fault.right
    assert stage.failing[name].requests, "the server that fails was not asked"
