"""The account book of a service that is stopped, or killed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import ServiceProcess
from tests.service import MODEL, provider_row, wait_until
from tests.upstream import ScriptedUpstream

PRICED = {**MODEL, "input_price": 2.0, "output_price": 10.0}
COST = (11 * 2.0 + 7 * 10.0) / 1e6
"""Of one scripted answer."""
ROOT = Path(__file__).resolve().parents[2]


def service(home: Path, upstream: ScriptedUpstream, **sections: Any) -> ServiceProcess:
    row = provider_row(upstream, models=[PRICED], tier="paid")
    return ServiceProcess(home, upstream, providers={"up1": row}, **sections)


def chat(running: ServiceProcess, **fields: Any) -> int:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return running.client.post("/v1/chat/completions", json=body).status_code


def total(running: ServiceProcess) -> dict[str, Any]:
    report: dict[str, Any] = running.client.get("/v1/usage").raise_for_status().json()["total"]
    return report


def stored(home: Path) -> int:
    """Calls in the database, as another program sees them."""
    with closing(sqlite3.connect(home / "data" / "agent-service" / "state.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM usage").fetchone()[0])


def test_a_service_that_is_stopped_forgets_no_call(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="ok") as upstream, service(tmp_path, upstream) as running:
        assert [chat(running) for _ in range(5)] == [200] * 5
        running.client.close()
        assert running.terminate() in (0, -15)
        running.start()
        assert total(running)["calls"] == 5
        assert total(running)["cost_usd"] == pytest.approx(5 * COST)


def test_a_killed_service_loses_a_second_at_most_and_no_budget(tmp_path: Path) -> None:
    budgets = {"per_day_usd": 6 * COST + 0.001}
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        service(tmp_path, upstream, budgets=budgets) as running,
    ):
        assert [chat(running, max_tokens=7) for _ in range(3)] == [200] * 3
        wait_until(lambda: stored(tmp_path) == 3)
        assert chat(running, max_tokens=7) == 200
        running.kill()
        running.start()
        assert total(running)["calls"] in (3, 4)
        while chat(running, max_tokens=7) == 200:
            pass
        spent = len(upstream.requests) * COST
        assert spent <= budgets["per_day_usd"], "what was lost is set aside still"


def command(running: ServiceProcess, home: Path, *words: str) -> str:
    """What `agent-service usage` writes into a pipe."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT)}
    environ["AGENT_SERVICE_URL"] = str(running.client.base_url).rstrip("/")
    words = (sys.executable, "-P", "-m", "agent_service", "usage", *words)
    return subprocess.run(words, capture_output=True, text=True, env=environ, check=True).stdout


def test_the_command_shows_what_models_cost(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="ok") as upstream, service(tmp_path, upstream) as running:
        assert chat(running) == 200
        shown = command(running, tmp_path, "--by", "model")
        assert "up1/m1" in shown
        assert f"${COST:.4f}" in shown
        assert [line.count("\t") for line in shown.splitlines()] == [6, 6, 6]
        assert shown.splitlines()[-1].startswith("total\t1\t0\t11\t")
        report = json.loads(command(running, tmp_path, "--by", "provider", "--days", "2", "--json"))
        assert [(entry["name"], entry["calls"]) for entry in report["entries"]] == [("up1", 1)]


def test_a_cost_that_is_not_known_is_not_shown_as_nothing(tmp_path: Path) -> None:
    rows = {"models": [PRICED, {**MODEL, "id": "m2"}], "tier": "paid"}
    with ScriptedUpstream(otherwise="ok", models=("m1", "m2")) as upstream:
        providers = {"up1": provider_row(upstream, **rows)}
        with ServiceProcess(tmp_path, upstream, providers=providers) as running:
            assert [chat(running, model=f"up1/{name}") for name in ("m1", "m2")] == [200, 200]
            shown = command(running, tmp_path, "--by", "model").splitlines()
    costs = {line.split("\t")[0]: line.split("\t")[-1] for line in shown[1:]}
    assert costs == {"up1/m1": f"${COST:.4f}", "up1/m2": "?", "total": f"≥ ${COST:.4f}"}
