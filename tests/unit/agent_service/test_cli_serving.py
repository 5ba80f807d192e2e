"""What surrounds the served application: the log, the listening socket, and patience with clients."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent_service.app import Launch, Service
from agent_service.cli import http_server
from agent_service.cli.connection import url_of
from agent_service.cli.fault import WRONG_USAGE, Fault, fault_of
from agent_service.cli.http_server import HttpServer, bind
from agent_service.cli.logs import RedactingFormatter
from agent_service.config_file import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_the_log_masks_keys_in_messages_arguments_and_tracebacks() -> None:
    formatter = RedactingFormatter(["a key without any shape"])
    try:
        raise ValueError("refused: a key without any shape")
    except ValueError:
        record = logging.LogRecord(
            "x", logging.ERROR, __file__, 1, "key %s \x1b[2J", ("sk-abcdefgh123456",), sys.exc_info()
        )
    line = formatter.format(record)
    assert "sk-abcdefgh" not in line
    assert "without any shape" not in line
    assert "\x1b" not in line
    assert "ValueError: refused: [redacted]" in line


def test_a_port_that_listens_already_cannot_be_had() -> None:
    with bind("127.0.0.1", 0) as first, pytest.raises(Fault, match="Address already in use"):
        bind("127.0.0.1", first.getsockname()[1])
    with pytest.raises(Fault, match="no address of this machine"):
        bind("no-such-host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("0:0::0", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("10.0.0.9", "http://10.0.0.9:8000"),
        ("agent.example", "http://agent.example:8000"),
    ],
)
def test_an_address_that_is_shown_can_be_asked(host: str, url: str) -> None:
    assert url_of(host, 8000) == url


def test_only_what_a_person_can_mend_is_told_without_a_traceback() -> None:
    told = fault_of(ConfigError("line 3: no"))
    assert told is not None
    assert (str(told), told.exit_code) == ("line 3: no", WRONG_USAGE)
    assert fault_of(ZeroDivisionError()) is None


def test_a_client_that_never_ends_its_request_head_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    ready = threading.Event()
    launch = Launch({"HOME": str(tmp_path)}, overrides={"state.data_dir": str(tmp_path / "data")})
    with bind("127.0.0.1", 0) as listener:
        server = HttpServer(Service(launch), ready.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert ready.wait(20)
            with socket.create_connection(listener.getsockname(), timeout=5) as slow:
                slow.sendall(b"GET / HTTP/1.1\r\nHost: local")
                assert slow.recv(1) == b""
            with socket.create_connection(listener.getsockname(), timeout=5) as swift:
                swift.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert swift.recv(15) == b"HTTP/1.1 200 OK"
        finally:
            server.stop()
            thread.join(20)


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_first_look_imports_nothing_heavy(word: str) -> None:
    program = (
        "import sys\n"
        "from agent_service.cli import app\n"
        f"sys.argv = ['agent-service', {word!r}]\n"
        "try:\n    app()\n"
        "finally:\n"
        "    print(sorted({'fastapi', 'httpx', 'langgraph', 'pydantic', 'uvicorn'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True, timeout=30
    )
    assert "agent-service" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
