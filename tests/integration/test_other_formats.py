"""A whole run of the agent on models that do not speak OpenAI's format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dialects import DIALECTS, KEY, Dialect
from tests.service import MODEL, RunningService
from tests.wire_upstream import WireUpstream


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_the_agent_works_in_every_format(tmp_path: Path, project: Path, dialect: Dialect) -> None:
    """Its tools, its history and its questions are what the makers' own types allow."""
    (project / "a.txt").write_text("hello\n")
    steps = [
        dialect.calls(
            ("c1", "read_file", {"filepath": "a.txt"}), ("c2", "list_files", {}), text="I look at it."
        ),
        dialect.calls(("c3", "ask_human_for_input", {"question": "Which word?"})),
        dialect.calls(("c4", "write_file", {"filepath": "a.txt", "content": "good bye 😀\n"})),
        dialect.says("It says good bye now."),
    ]
    with WireUpstream(steps, judge=dialect.judge) as upstream:
        row = {
            "protocol": dialect.protocol,
            "base_url": upstream.origin + dialect.base_path,
            "api_key": KEY,
            "models": [dict(MODEL)],
        }
        with RunningService(tmp_path, providers={"maker": row}) as service:
            asked = service.invoke("change it", project_directory=str(project)).json()
            assert asked["agent_status"] == "requires_human_input", asked
            assert not upstream.refusals
            request = asked["human_input_request"]
            done = service.resume(asked["thread_id"], request["tool_call_id"], "good bye").json()
    assert not upstream.refusals
    assert done["agent_status"] == "completed", done
    assert done["model_used"] == "maker/m1"
    assert done["explanation"] == "It says good bye now."
    assert (project / "a.txt").read_text() == "good bye 😀\n"
    assert (done["usage"]["prompt_tokens"], done["usage"]["completion_tokens"]) == (4 * 11, 4 * 7)
    last = json.dumps(upstream.bodies[-1])
    assert "hello" in last and "good bye" in last
