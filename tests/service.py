"""The whole service in this process, on a real port, with scripted upstreams as its providers.

with ScriptedUpstream(["Done."]) as upstream, RunningService(tmp_path, upstream) as service:
    response = service.invoke("say done")
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
import yaml

from agent_service.app import Launch, Service
from tests.upstream import ScriptedUpstream

MODEL = {"id": "m1", "quality": 0.5, "tools": True, "context_window": 128_000}


def provider_row(upstream: ScriptedUpstream, **fields: Any) -> dict[str, Any]:
    """The upstream as an entry of `providers`."""
    return {"base_url": upstream.base_url, "api_key": "none", "models": [dict(MODEL)], **fields}


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The condition's value as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("it did not come true in time")


class RunningService:
    """A service with its data below `home`; projects are allowed in `home` too."""

    def __init__(
        self,
        home: Path,
        *upstreams: ScriptedUpstream,
        key: str | None = None,
        environ: Mapping[str, str] | None = None,
        needs_keys: bool = True,
        **sections: Any,
    ) -> None:
        providers = {f"up{number}": provider_row(each) for number, each in enumerate(upstreams, 1)}
        config: dict[str, Any] = {
            "router": {"detect_local": False, "num_retries": 0, "exploration": 0},
            "providers": providers,
        }
        for name, section in sections.items():
            config[name] = {**config.get(name, {}), **section}
        self.config_file = home / "config.yaml"
        self.config_file.write_text(yaml.safe_dump(config))
        self.data = home / "data"
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        variables = {"HOME": str(home / "home"), "XDG_DATA_HOME": str(self.data), **(environ or {})}
        agent = config.setdefault("agent", {})
        agent.setdefault("allowed_roots", [str(home)])
        self.config_file.write_text(yaml.safe_dump(config))
        self.service = Service(Launch(variables, self.config_file, cwd=home, needs_keys=needs_keys))

    def __enter__(self) -> Self:
        config = uvicorn.Config(self.service.asgi, port=0, log_level="warning", timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="service", daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, headers=self.headers, timeout=30, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.service.drain()
        self._server.should_exit = True
        self._thread.join(20)

    def invoke(self, instruction: str = "do it", **fields: Any) -> httpx.Response:
        headers = fields.pop("headers", {})
        return self.client.post(
            "/v1/agents/code/invoke", json={"instruction": instruction, **fields}, headers=headers
        )

    def resume(self, thread_id: str, call_id: str, answer: str, **fields: Any) -> httpx.Response:
        headers = fields.pop("headers", {})
        body = {"thread_id": thread_id, "tool_call_id": call_id, "human_response": answer, **fields}
        return self.client.post("/v1/agents/resume", json=body, headers=headers)

    def thread(self, thread_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(f"/v1/agents/threads/{thread_id}").raise_for_status().json()
        return shown


@dataclass(frozen=True)
class SseEvent:
    """One event of a stream."""

    kind: str
    data: dict[str, Any]
    id: str | None


def sse(response: httpx.Response, begun: Callable[[], object] = lambda: None) -> Iterator[SseEvent]:
    """The events of a streamed response; `begun` is called once anything came."""
    fields: dict[str, str] = {}
    for number, line in enumerate(response.iter_lines()):
        if number == 0:
            begun()
        if not line:
            if "data" in fields:
                yield SseEvent(fields.get("event", ""), json.loads(fields["data"]), fields.get("id"))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
