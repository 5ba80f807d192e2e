"""The configuration file changes under a running service."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agent_service.cli.logs import RedactingFormatter
from tests.service import RunningService, provider_row, wait_until
from tests.upstream import ScriptedUpstream

CHAT = "/v1/chat/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}


def rewrite(service: RunningService, **sections: Any) -> None:
    """Give the file other sections, as editors do: in one move."""
    config = {**yaml.safe_load(service.config_file.read_text()), **sections}
    draft = service.config_file.with_suffix(".new")
    draft.write_text(yaml.safe_dump(config))
    draft.replace(service.config_file)


def chat(service: RunningService, **fields: Any) -> httpx.Response:
    return service.client.post(CHAT, json={**HI, **fields})


def problems(service: RunningService) -> str:
    return " ".join(service.client.get("/health").json()["problems"])


class Load:
    """Clients that ask for the model `mine` without a pause, whole and streamed."""

    def __init__(self, url: str) -> None:
        self._url, self._ended = url, threading.Event()
        self.answers = 0
        self.dropped: list[str] = []

    @contextmanager
    def going_on(self, clients: int = 4) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=(bool(n % 2),)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(20)

    def _ask(self, stream: bool) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=20) as client:
            while not self._ended.is_set():
                answer = client.post(CHAT, json={**HI, "model": "mine", "stream": stream})
                self.answers += 1
                is_whole = "[DONE]" in answer.text if stream else answer.is_success
                if not is_whole:
                    self.dropped.append(f"{answer.status_code} {answer.text[:200]}")


def is_asked(upstream: ScriptedUpstream) -> bool:
    return len(upstream.requests) > 20


def test_no_request_is_dropped_while_the_providers_change(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise="one two three") as first,
        ScriptedUpstream(otherwise="four five six") as second,
        RunningService(tmp_path, first, models={"mine": [{"provider": "up1", "model": "m1"}]}) as service,
    ):
        load = Load(service.url)
        with load.going_on():
            for number in range(6):
                name, upstream = (("up2", second), ("up1", first))[number % 2]
                names = [
                    name,
                    *(f"{name}-{spare}" for spare in range(20)),
                ]  # it takes a while to close so many
                upstream.requests.clear()
                rewrite(
                    service,
                    providers={each: provider_row(upstream) for each in names},
                    models={"mine": [{"provider": name, "model": "m1"}]},
                )
                wait_until(partial(is_asked, upstream))
        assert load.dropped == [] and load.answers > 120
        assert first.refusals == second.refusals == []


@contextmanager
def without_accounts(service: RunningService) -> Iterator[None]:
    """The accounts cannot be read from the database."""
    [path] = service.data.rglob("state.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE provider_accounts RENAME TO away")
        yield
        connection.execute("ALTER TABLE away RENAME TO provider_accounts")


def test_a_change_waits_for_a_database_that_fails_for_a_moment(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise="one") as first,
        ScriptedUpstream(otherwise="two") as second,
        RunningService(tmp_path, first) as service,
    ):
        with without_accounts(service):
            rewrite(service, providers={"up2": provider_row(second)})
            wait_until(lambda: "not used yet" in problems(service))
            assert "SELECT" not in problems(service)
            assert chat(service).headers["x-router-provider"] == "up1"
        wait_until(lambda: not problems(service))
        assert chat(service).headers["x-router-provider"] == "up2"
        rewrite(service, providers={"up3": provider_row(first)})
        wait_until(lambda: chat(service).headers["x-router-provider"] == "up3")


def test_the_cache_is_turned_on_and_off(tmp_path: Path) -> None:
    def hit() -> bool:
        return "x-router-cache" in chat(service, temperature=0).headers

    with ScriptedUpstream(otherwise="one") as upstream, RunningService(tmp_path, upstream) as service:
        assert not hit() and not hit()
        rewrite(service, cache={"enabled": True})
        wait_until(hit)
        rewrite(service, cache={"enabled": False})
        wait_until(lambda: not hit())


def test_a_kept_answer_is_given_only_while_its_name_means_who_gave_it(tmp_path: Path) -> None:
    def asked() -> tuple[int, str, bool]:
        answer = chat(service, model="mine", temperature=0)
        headers = answer.headers
        return answer.status_code, headers.get("x-router-model", ""), "x-router-cache" in headers

    paid = {"id": "m1", "input_price": 1.0, "output_price": 1.0}
    with (
        ScriptedUpstream(otherwise="one") as first,
        ScriptedUpstream(otherwise="two") as second,
        RunningService(
            tmp_path,
            providers={
                "up1": provider_row(first, models=[paid]),
                "up2": provider_row(second, models=[{"id": "m2"}]),
            },
            models={"mine": [{"provider": "up1", "model": "m1"}]},
            cache={"enabled": True},
        ) as service,
    ):
        assert [asked(), asked()] == [(200, "m1", False), (200, "m1", True)]
        rewrite(service, router={"free_only": True, "detect_local": False})
        wait_until(lambda: asked()[0] != 200)
        rewrite(service, router={"detect_local": False})
        wait_until(lambda: asked() == (200, "m1", True))
        rewrite(service, models={"mine": [{"provider": "up2", "model": "m2"}]})
        wait_until(lambda: asked()[1] == "m2")
        rewrite(service, models={})
        wait_until(lambda: asked()[0] == 404)
        moved = provider_row(second, models=[paid])
        rewrite(service, models={"mine": [{"provider": "up1", "model": "m1"}]}, providers={"up1": moved})
        wait_until(lambda: asked()[0] == 200)
        content = chat(service, model="mine", temperature=0).json()["choices"][0]["message"]["content"]
        assert content == "two"  # the same name at another address is somebody else


def test_sections_that_wait_for_the_next_start_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedUpstream(otherwise="one") as upstream, RunningService(tmp_path, upstream) as service:
        rewrite(
            service,
            state={"keep_usage_days": 7},
            notify={"url": "http://127.0.0.1:9/"},
            budgets={"per_day_usd": 5},
        )
        wait_until(lambda: "from the next start on" in caplog.text)
        assert "changes under state, notify are used" in caplog.text


def test_a_new_key_is_kept_out_of_the_log(tmp_path: Path) -> None:
    key = "plain words of 20 characters".replace(" ", "")
    with (
        ScriptedUpstream(otherwise="ok", api_key=key) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        formatter = RedactingFormatter(service.service.launch.secrets)
        rewrite(service, providers={"up1": provider_row(upstream, api_key=key)})
        wait_until(lambda: chat(service).is_success)
        record = logging.LogRecord("x", logging.ERROR, "x", 1, "refused: %s", (key,), None)
        assert key not in formatter.format(record)
