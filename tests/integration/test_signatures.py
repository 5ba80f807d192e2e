"""What a Gemini signs its calls with comes back to it: from the agent, and from OpenAI's clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.dialects import GEMINI, KEY
from tests.service import MODEL, RunningService
from tests.wire_upstream import WireUpstream

SIGNATURE = "c2lnbmVk"
"""What the scripted Gemini's signature looks like on the wire."""
TOOL: Any = {
    "type": "function",
    "function": {"name": "read_file", "parameters": {"type": "object", "properties": {}}},
}


def gemini(upstream: WireUpstream) -> dict[str, Any]:
    row = {"protocol": "gemini", "base_url": f"{upstream.origin}/v1beta", "api_key": KEY}
    return {"google": {**row, "models": [MODEL]}}


def signatures(body: dict[str, Any]) -> list[str | None]:
    """Of the calls in a request's history."""
    parts = [part for content in body["contents"] for part in content["parts"]]
    return [part.get("thoughtSignature") for part in parts if "functionCall" in part]


def test_the_agent_gives_signatures_back(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.txt").write_text("hello")
    read = ("c1", "read_file", {"filepath": "a.txt"})
    again = ("c2", "read_file", {"filepath": "a.txt"})
    script = [GEMINI.calls(read), GEMINI.calls(again), GEMINI.says("It says hello.")]
    with (
        WireUpstream(script, judge=GEMINI.judge) as upstream,
        RunningService(tmp_path, providers=gemini(upstream)) as service,
    ):
        answer = service.invoke("read a.txt", project_directory=str(project)).json()
        assert answer["agent_status"] == "completed", answer
        upstream.then(GEMINI.says("Still hello."))
        later = service.invoke("and now?", thread_id=answer["thread_id"]).json()
    assert later["agent_status"] == "completed" and not upstream.refusals
    assert [signatures(body) for body in upstream.bodies] == [
        [],
        [SIGNATURE],
        [SIGNATURE] * 2,
        [SIGNATURE] * 2,
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_openais_surface_gets_and_gives_them(tmp_path: Path, stream: bool) -> None:
    script = [GEMINI.calls(("c1", "read_file", {"filepath": "a"})), GEMINI.says("It says hello.")]
    with (
        WireUpstream(script, judge=GEMINI.judge) as upstream,
        RunningService(tmp_path, providers=gemini(upstream)) as service,
        openai.OpenAI(api_key="x", base_url=f"{service.url}/v1", max_retries=0) as client,
    ):
        user: Any = {"role": "user", "content": "read a"}
        asked: dict[str, Any] = {"model": "google/m1", "tools": [TOOL]}
        if stream:
            chunks = client.chat.completions.create(messages=[user], stream=True, **asked)
            pieces = [
                piece
                for chunk in chunks
                for choice in chunk.choices
                for piece in choice.delta.tool_calls or ()
            ]
            call = pieces[0].model_dump(exclude={"index"}, exclude_none=True)
        else:
            answer = client.chat.completions.create(messages=[user], **asked)
            called = answer.choices[0].message.tool_calls or []
            call = called[0].model_dump()
        assert call["extra_content"]["google"]["thought_signature"] == SIGNATURE
        call["extra_content"].pop("given_by")  # as clients do that know nothing but Google's own surface
        result: Any = {"role": "tool", "tool_call_id": "c1", "content": "hello"}
        history: Any = [user, {"role": "assistant", "tool_calls": [call]}, result]
        last = client.chat.completions.create(messages=history, **asked)
    assert last.choices[0].message.content == "It says hello." and not upstream.refusals
    assert signatures(upstream.bodies[1]) == [SIGNATURE]
