"""A cap on what an account may cost holds for all services on a database together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.e2e.deployment import Deployment
from tests.service import provider_row, wait_until
from tests.upstream import ScriptedUpstream, says

CALLS = 60
CAP, PRICE = 0.05, 0.008
"""US dollars a day, and for each call, whose answer is as long as the request lets it be."""
ANSWER = 1000
"""Tokens."""


def test_two_services_share_a_cap_to_the_cent(tmp_path: Path, postgresql_url: str) -> None:
    with (
        ScriptedUpstream(otherwise=says("paid", usage=(1, ANSWER))) as dear,
        ScriptedUpstream(otherwise="free") as free,
    ):
        best = [{"id": "m1", "quality": 0.9, "input_price": 0, "output_price": PRICE / ANSWER * 1e6}]
        rows = {
            "dear": {**provider_row(dear), "tier": "paid", "cap_usd_per_day": CAP, "models": best},
            "free": {**provider_row(free), "tier": "free", "models": [{"id": "m1", "quality": 0.5}]},
        }
        router = {"detect_local": False, "num_retries": 0, "exploration": 0}
        with Deployment(
            tmp_path, dear, replicas=2, database_url=postgresql_url, providers=rows, router=router
        ) as both:

            def ask(number: int) -> httpx.Response:
                message = {"role": "user", "content": f"hello {number}"}
                body = {"model": "auto", "model_quality": "best_quality", "max_tokens": ANSWER}
                client = both.client(number % 2)
                return client.post("/v1/chat/completions", json={**body, "messages": [message]})

            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(ask, range(CALLS)))
            assert {each.status_code for each in answers} == {200}
            paid = [each for each in answers if each.json()["provider"] == "dear"]
            assert len(paid) == len(dear.bodies) == int(CAP / PRICE)
            assert len(free.bodies) == CALLS - len(paid)

            def counted() -> bool:
                total = both.client(0).get("/v1/usage").json()["total"]
                return bool(total["calls"] == CALLS and total["cost_usd"] <= CAP)

            wait_until(counted)
