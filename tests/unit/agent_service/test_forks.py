"""What a fork answers before anything happened on it."""

from __future__ import annotations

from agent_service.agent.contract import CodeAgentResponse, HumanInputRequest
from agent_service.agent.forks import forked_response


def asked(name: str) -> HumanInputRequest:
    return HumanInputRequest(tool_call_id=name, question_for_human="?", kind="question")


def fork(stored: bytes | None, open_ids: list[str]) -> CodeAgentResponse:
    made = forked_response(stored, open_ids, thread_id="fork", run_id="f", source_id="source")
    return CodeAgentResponse.model_validate_json(made)


def test_it_stands_as_its_source_does_under_its_own_name() -> None:
    source = CodeAgentResponse(
        agent_status="requires_human_input",
        explanation="Hm.",
        request_params={"instruction": "x"},
        thread_id="source",
        run_id="r",
        human_input_request=asked("project_1"),
        pending_requests=[asked("project_1"), asked("call_1")],
    )
    made = fork(source.model_dump_json().encode(), ["call_1"])
    assert (made.thread_id, made.run_id, made.explanation) == ("fork", "f", "Hm.")
    assert made.human_input_request == asked("call_1")
    assert made.pending_requests == [asked("call_1")]
    assert made.request_params == source.request_params


def test_one_that_stands_otherwise_says_where_it_comes_from() -> None:
    made = fork(None, [])
    assert (made.agent_status, made.pending_requests) == ("completed", [])
    assert "source" in (made.explanation or "")
