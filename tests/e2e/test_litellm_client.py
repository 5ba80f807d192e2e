"""The litellm library as the client: somebody else's idea of what an OpenAI-compatible server is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.peers.installed import LOCKS, environment_or_skip
from tests.service import RunningService
from tests.upstream import ScriptedUpstream, ScriptItem, calls, cut_after, status

KEY = "sk-client-0123456789abcdef"
ARGUMENTS = '{"city":  "Zürich"}'
TOO_LONG = "This model's maximum context length is 8192 tokens."
SECONDS = 180
"""It takes its time to be imported."""


def test_litellm_is_served(tmp_path: Path) -> None:
    python = environment_or_skip("litellm-client") / "python"
    script: list[ScriptItem] = [
        "Hello.",
        "one two three",
        calls(("weather", ARGUMENTS)),
        calls(("weather", ARGUMENTS)),
        status(429, retry_after=0.001),
        status(400, TOO_LONG, error_code="context_length_exceeded"),
        cut_after(4),
    ]
    server = {"api_keys": [{"name": "client", "key": KEY}]}
    router = {"num_retries": 0}
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream, key=KEY, server=server, router=router) as service,
    ):
        done = subprocess.run(
            [python, "-P", LOCKS / "litellm_caller.py", f"{service.url}/v1", KEY],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        told = json.loads(done.stdout.splitlines()[-1])
        assert not upstream.refusals and not upstream.steps_left
    assert told == {
        "chat": "Hello.",
        "usage": 18,
        "stream": "one two three",
        "stream_usage": 18,
        "arguments": ARGUMENTS,
        "streamed_arguments": ARGUMENTS,
        "rate_limit": "RateLimitError",
        "context": "ContextWindowExceededError",
        "cut": "MidStreamFallbackError",
        "unknown_model": "NotFoundError",
        "wrong_key": "AuthenticationError",
    }
