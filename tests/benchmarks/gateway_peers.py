"""How each gateway is started before one model server or two, and asked.

With two, the second stands in for the first by the gateway's own means.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.peers.installed import environment_or_skip, node_package_or_skip

KEY = "sk-of-the-client"
UPSTREAM_SECONDS = 3
"""How long a gateway is to wait for a model server that may be stood in for, where it can be told."""


@dataclass(frozen=True)
class Gateway:
    """What to start, and what to send to it then."""

    command: Sequence[str]
    port: int
    environ: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})
    model: str = "mock"
    start_seconds: float = 30.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"


Recipe = Callable[[Path, int, Sequence[str]], Gateway]
"""From a folder for its files, a free port and the base URLs of model servers; may skip the test."""


def ours(home: Path, port: int, upstreams: Sequence[str]) -> Gateway:
    """`agent-service serve`."""
    names = [f"upstream{number}" for number in range(1, len(upstreams) + 1)]
    windows = (8192, 128_000)[-len(upstreams) :]
    providers = {
        name: {
            "base_url": base_url,
            "api_key": "sk-upstream",
            "models": [{"id": "mock", "context_window": window}],
        }
        for name, base_url, window in zip(names, upstreams, windows, strict=True)
    }
    config: dict[str, Any] = {
        "server": {"api_keys": [{"name": "bench", "key": KEY}]},
        "router": {"detect_local": False, "num_retries": 0},
        "providers": providers,
    }
    model = "mock"
    if len(upstreams) > 1:
        config["models"] = {"chain": [{"provider": name, "model": "mock"} for name in names]}
        config["router"]["timeout"] = 2 * UPSTREAM_SECONDS
        model = "chain"
    file = _written(home / "config.yaml", yaml.safe_dump(config))
    serve = [sys.executable, "-P", "-m", "agent_service", "serve", "--port", str(port)]
    return Gateway([*serve, "--config", str(file)], port, model=model)


def bare(home: Path, port: int, upstreams: Sequence[str]) -> Gateway:
    """The application that does nothing but pass through."""
    app = Path(__file__).with_name("gateway_bare.py")
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return Gateway([sys.executable, "-P", str(app), str(port), upstreams[0]], port, environ=path)


def litellm(home: Path, port: int, upstreams: Sequence[str]) -> Gateway:
    """LiteLLM's proxy, one worker, in the mode it recommends for production."""
    rows = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": base_url,
                "api_key": "sk-upstream",
                **({"timeout": UPSTREAM_SECONDS, "stream_timeout": UPSTREAM_SECONDS} if not number else {}),
            },
        }
        for number, (name, base_url) in enumerate(zip(("mock", "backup"), upstreams, strict=False))
    ]
    config: dict[str, Any] = {
        "model_list": rows,
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {"master_key": KEY},
    }
    if len(upstreams) > 1:
        stand_in = [{"mock": ["backup"]}]
        config["litellm_settings"] |= {"fallbacks": stand_in, "context_window_fallbacks": stand_in}
        config["router_settings"] = {"cooldown_time": 1}
    file = _written(home / "litellm.yaml", yaml.safe_dump(config))
    program = environment_or_skip("litellm-proxy") / "litellm"
    place = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    return Gateway([str(program), "--config", str(file), *place], port, environ, start_seconds=180)


def portkey(home: Path, port: int, upstreams: Sequence[str]) -> Gateway:
    """Portkey's gateway; its configuration comes with each request."""
    server = node_package_or_skip("portkey") / "@portkey-ai/gateway/build/start-server.js"
    targets = [{"provider": "openai", "api_key": "sk-upstream", "custom_host": url} for url in upstreams]
    if len(upstreams) > 1:
        first: dict[str, Any] = {**targets[0], "request_timeout": 1000 * UPSTREAM_SECONDS}
        plan = {"strategy": {"mode": "fallback"}, "targets": [first, *targets[1:]]}
        told = {"x-portkey-config": json.dumps(plan)}
    else:
        told = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstreams[0]}
    return Gateway(
        ["node", str(server), "--headless", f"--port={port}"],
        port,
        environ={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        headers={"authorization": "Bearer sk-upstream", **told},
    )


def ferro(home: Path, port: int, upstreams: Sequence[str]) -> Gateway:
    """Ferro Labs' gateway, its own limit of about 50 requests a second lifted."""
    file = _written(home / "ferro.yaml", "strategy: {mode: single}\ntargets: [{virtual_key: openai}]\n")
    environ = {
        "PORT": str(port),
        "MASTER_KEY": KEY,
        "OPENAI_API_KEY": "sk-upstream",
        "OPENAI_BASE_URL": upstreams[0].removesuffix("/v1"),
        "GATEWAY_CONFIG": str(file),
        "LOG_LEVEL": "error",
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
    }
    command = [str(environment_or_skip("ferro") / "ferrogw"), "serve"]
    return Gateway(command, port, environ, model="gpt-4o")


def surroundings(gateway: Gateway, home: Path) -> dict[str, str]:
    """The environment that its process gets: no key or setting of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), **gateway.environ}


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file
