from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from routing.config import ModelCard, ProviderSpec, ToolCalling
from routing.errors import ContextTooLong, ProviderUnavailable, RequestRejected
from routing.providers.actions import EXAMPLE_ANSWER, MAX_ANSWER_TOKENS, constrained_body, offered_functions
from routing.providers.constrained import ConstrainedProvider
from routing.providers.formats import http_provider
from routing.providers.steps import MAX_STEPS, named_files, read_task
from routing.providers.transcript import plain_messages
from routing.transport import open_client
from routing.types import ChatChunk, ChatMessage, ToolCall
from tests.upstream import ScriptedUpstream, Step, says

CARD = ModelCard(id="weak", context_window=8192)


def function(name: str, *required: str, **optional: Any) -> dict[str, Any]:
    properties = {each: {"type": "string", "description": "words"} for each in required} | optional
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": f"The tool {name}.", "parameters": schema}


LIST = function("list_files", directory_path={"type": "string", "default": ""})
READ = function("read_file", "filepath", start_line={"type": "integer"})
WRITE = function("write_file", "filepath", "content")
ASK = function("ask_human_for_input", "question")
COUNT = function("count")
ALL = [LIST, READ, WRITE, ASK]


def user(text: str) -> ChatMessage:
    return {"role": "user", "content": text}


def made(name: str, arguments: dict[str, Any] | str, result: str, number: int = 0) -> list[ChatMessage]:
    """A call with its result."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call_id = f"c{number}_{name}_{abs(hash((written, result)))}"
    call: ToolCall = {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]


def action(tool: str, **arguments: Any) -> Step:
    return says(json.dumps({"tool": tool, "arguments": arguments}))


def body(
    *messages: ChatMessage, functions: list[dict[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    tools = [{"type": "function", "function": each} for each in (ALL if functions is None else functions)]
    return {"messages": list(messages), "tools": tools, **fields}


def complete(
    upstream: ScriptedUpstream, request: dict[str, Any], tool_calling: ToolCalling = "constrained"
) -> dict[str, Any]:
    """The first choice of the answer."""

    async def scenario() -> dict[str, Any]:
        spec = ProviderSpec(name="local", base_url=upstream.base_url, tier="local", tool_calling=tool_calling)
        provider = ConstrainedProvider(http_provider(spec, open_client()))
        try:
            deadline = asyncio.get_running_loop().time() + 5
            answer = await provider.complete(CARD, request, deadline)
            choice: dict[str, Any] = answer["choices"][0]
            return choice
        finally:
            await provider.aclose()

    return asyncio.run(scenario())


def offered(*messages: ChatMessage) -> list[str]:
    return [each["name"] for each in offered_functions(read_task(list(messages)), [*ALL, COUNT])]


def called(choice: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    calls = choice["message"]["tool_calls"]
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


LISTED = made("list_files", "{}", "a.txt\nsrc/\nsrc/calc.py\nsrc/other.py")


def test_a_task_begins_with_a_look_that_costs_no_model_call() -> None:
    with ScriptedUpstream([]) as upstream:
        first = complete(upstream, body(user("Fix calc.py, please.")))
        assert called(first) == [("list_files", {})]
        assert first["finish_reason"] == "tool_calls"
        second = complete(upstream, body(user("Fix calc.py and a.txt, not b.txt."), *LISTED))
        assert called(second) == [
            ("read_file", {"filepath": "src/calc.py"}),
            ("read_file", {"filepath": "a.txt"}),
        ]
        assert len({call["id"] for call in second["message"]["tool_calls"]}) == 2
    assert not upstream.requests


def test_after_the_look_the_model_decides() -> None:
    with ScriptedUpstream([action("write_file", filepath="x.py", content="1\n")]) as upstream:
        choice = complete(upstream, body(user("Create x.py."), *LISTED))
    assert called(choice) == [("write_file", {"filepath": "x.py", "content": "1\n"})]
    sent = upstream.bodies[0]
    assert "tools" not in sent and "tool_choice" not in sent
    assert sent["temperature"] == 0
    assert sent["max_tokens"] == MAX_ANSWER_TOKENS
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert not upstream.refusals


def test_finish_becomes_a_plain_answer() -> None:
    with ScriptedUpstream([action("finish", message="It is 4711.")]) as upstream:
        choice = complete(upstream, body(user("How much?"), functions=[COUNT]))
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "It is 4711."},
        "finish_reason": "stop",
    }


def test_a_request_without_tools_passes_unchanged() -> None:
    request = {"messages": [user("hello")], "temperature": 0.7, "stop": ["x"]}
    with ScriptedUpstream(["hi"]) as upstream:
        complete(upstream, request)
    assert upstream.bodies[0] == {**request, "model": "weak"}


def test_native_models_keep_their_tools() -> None:
    request = body(user("hello"), functions=[COUNT], tool_choice="auto")
    with ScriptedUpstream(["hi"]) as upstream:
        complete(upstream, request, tool_calling="native")
    assert upstream.bodies[0] == {**request, "model": "weak"}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", {"finish", "count", "write_file"}),
        ("required", {"count", "write_file"}),
        ({"type": "function", "function": {"name": "count"}}, {"count"}),
    ],
)
def test_the_tool_choice_is_kept(choice: Any, names: set[str]) -> None:
    request = body(user("go"), functions=[COUNT, WRITE], tool_choice=choice)
    with ScriptedUpstream([action("count")]) as upstream:
        assert called(complete(upstream, request)) == [("count", {})]
    schema = upstream.bodies[0]["response_format"]["json_schema"]["schema"]
    assert {each["properties"]["tool"]["const"] for each in schema["anyOf"]} == names


def test_the_tool_choice_none_asks_for_words() -> None:
    request = body(user("go"), *LISTED, tool_choice="none", temperature=0.5)
    with ScriptedUpstream(["just words"]) as upstream:
        assert complete(upstream, request)["message"]["content"] == "just words"
    sent = upstream.bodies[0]
    assert sent["temperature"] == 0.5
    assert not {"tools", "tool_choice", "response_format"} & sent.keys()
    assert all(message["role"] != "tool" for message in sent["messages"])


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (says('{"tool": "write_file", "arguments": {"filepa', finish="length"), ContextTooLong),
        (says("Sure! Here is the code."), ProviderUnavailable),
        (says("[]"), ProviderUnavailable),
        (says('{"tool": "count", "arguments": 5}'), ProviderUnavailable),
        (says('{"tool": "finish", "arguments": 5}'), ProviderUnavailable),
        (says('{"tool": ["count"], "arguments": {}}'), ProviderUnavailable),
        (action("format_disk"), ProviderUnavailable),
    ],
)
def test_replies_that_are_no_action_are_errors(step: Step, error: type[Exception]) -> None:
    with ScriptedUpstream([step]) as upstream, pytest.raises(error):
        complete(upstream, body(user("go"), functions=[COUNT]))


@pytest.mark.parametrize(
    "broken",
    [
        {"tools": [{"type": "function"}]},
        {"tools": [5]},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
        {"tool_choice": {"type": "function"}},
    ],
)
def test_a_malformed_request_is_rejected(broken: dict[str, Any]) -> None:
    with ScriptedUpstream([]) as upstream, pytest.raises(RequestRejected):
        complete(upstream, {**body(user("go"), functions=[COUNT]), **broken})
    assert not upstream.requests


@pytest.mark.parametrize("tool_choice", ["auto", "required"])
def test_a_foreign_tool_named_finish_stays_a_tool(tool_choice: str) -> None:
    request = body(user("go"), functions=[function("finish", "report")], tool_choice=tool_choice)
    with ScriptedUpstream([action("finish", report="x")]) as upstream:
        assert called(complete(upstream, request)) == [("finish", {"report": "x"})]


def test_a_repeated_call_is_withheld_until_another_brings_something_new() -> None:
    again = [*made("count", "{}", "3", 1), *made("count", "{ }", "3", 2)]
    assert "count" in offered(user("go"), *again[:2])
    assert "count" not in offered(user("go"), *again)
    other = made("write_file", {"filepath": "a", "content": "b"}, "ok", 3)
    assert "count" in offered(user("go"), *again, *other)
    third = made("count", "{}", "3", 4)
    later = made("write_file", {"filepath": "c", "content": "d"}, "ok", 5)
    assert "count" not in offered(user("go"), *again, *other, *third, *later)
    assert "count" in offered(user("go"), *again, user("another task"))


def test_the_same_call_with_another_result_is_no_repetition() -> None:
    assert "count" in offered(user("go"), *made("count", "{}", "3", 1), *made("count", "{}", "4", 2))


def test_writing_the_same_again_is_a_repetition_whatever_it_says() -> None:
    same = {"filepath": "a", "content": "b"}
    steps = [*made("write_file", same, "created", 1), *made("write_file", same, "replaced", 2)]
    assert "write_file" not in offered(user("go"), *steps)


def test_a_file_that_was_written_is_not_written_over_and_over() -> None:
    def writing(content: str, result: str, number: int) -> list[ChatMessage]:
        return made("write_file", {"filepath": "a", "content": content}, result, number)

    assert "write_file" in offered(user("go"), *writing("1", "created", 1))
    assert "write_file" not in offered(user("go"), *writing("1", "created", 1), *writing("2", "replaced", 2))
    refused = writing("1", "Error: the human refused this and said: shorter", 1)
    assert "write_file" in offered(user("go"), *refused, *writing("2", "created", 2))


def test_a_written_file_ends_with_its_last_line() -> None:
    for content, kept in (("x = 1", "x = 1\n"), ("x = 1\n", "x = 1\n"), ("", "")):
        with ScriptedUpstream([action("write_file", filepath="x.py", content=content)]) as upstream:
            choice = complete(upstream, body(user("Create x.py."), *LISTED))
        assert called(choice) == [("write_file", {"filepath": "x.py", "content": kept})]


def test_the_answer_of_the_example_is_not_taken_for_one() -> None:
    script = [action("finish", message=EXAMPLE_ANSWER), action("write_file", filepath="a.py", content="1\n")]
    with ScriptedUpstream(script) as upstream:
        choice = complete(upstream, body(user("Change a.py."), *LISTED))
    assert called(choice) == [("write_file", {"filepath": "a.py", "content": "1\n"})]
    tools = [
        [
            each["properties"]["tool"]["const"]
            for each in sent["response_format"]["json_schema"]["schema"]["anyOf"]
        ]
        for sent in upstream.bodies
    ]
    assert ["finish" in names for names in tools] == [True, False]


def test_one_question_a_task() -> None:
    asked = made("ask_human_for_input", {"question": "which?"}, "that one")
    assert "ask_human_for_input" not in offered(user("go"), *asked)
    assert "ask_human_for_input" in offered(user("go"), *asked, user("go on"))


def test_passages_are_edited_only_in_files_too_long_to_be_written() -> None:
    edit = function("edit_file", "filepath", "old_text", "new_text")
    for length, expected in ((1000, False), (10_000, True)):
        task = read_task([user("go"), *LISTED, *made("read_file", {"filepath": "a.txt"}, "x" * length)])
        assert (edit in offered_functions(task, [*ALL, edit])) is expected


def test_a_tool_that_is_the_only_one_is_never_withheld() -> None:
    task = read_task([user("go"), *made("count", "{}", "3", 1), *made("count", "{}", "3", 2)])
    assert offered_functions(task, [COUNT]) == [COUNT]


def test_after_many_steps_only_an_answer_is_left() -> None:
    steps = [message for i in range(MAX_STEPS) for message in made("count", "{}", str(i), i)]
    request = body(user("go"), *steps, functions=[COUNT, WRITE])
    with ScriptedUpstream([action("finish", message="enough")]) as upstream:
        complete(upstream, request)
    (only,) = upstream.bodies[0]["response_format"]["json_schema"]["schema"]["anyOf"]
    assert only["properties"]["tool"]["const"] == "finish"


def test_reading_is_a_choice_among_the_files_not_read_yet() -> None:
    messages = [user("go"), *LISTED, *made("read_file", {"filepath": "a.txt"}, "text")]
    read = next(f for f in offered_functions(read_task(messages), ALL) if f["name"] == "read_file")
    assert read["parameters"]["properties"]["filepath"]["enum"] == ["src/calc.py", "src/other.py"]
    one = [user("go"), *made("list_files", "{}", "a.txt"), *made("read_file", {"filepath": "a.txt"}, "text")]
    assert "read_file" not in offered(*one)


def test_a_long_listing_leaves_the_path_to_the_model() -> None:
    many = made("list_files", "{}", "\n".join(f"f{i}.py" for i in range(200)))
    read = next(f for f in offered_functions(read_task([user("go"), *many]), ALL) if f["name"] == "read_file")
    assert read == READ


def test_a_failed_listing_does_not_stop_the_task() -> None:
    failed = made("list_files", "{}", "Error: this conversation has no project folder")
    with ScriptedUpstream([action("finish", message="x")]) as upstream:
        assert complete(upstream, body(user("Fix calc.py"), *failed))["finish_reason"] == "stop"
    read = next(
        f for f in offered_functions(read_task([user("go"), *failed]), ALL) if f["name"] == "read_file"
    )
    assert read == READ


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Fix calc.py.", ["src/calc.py"]),
        ("see `src/calc.py`, then other.py", ["src/calc.py", "src/other.py"]),
        ("calc.py calc.py", ["src/calc.py"]),
        ("README is missing; version 1.5 of notcalc.py", []),
        ("mail me@calc.py or see http://x.example/calc.py", []),
        ("twin.py", []),
        ("", []),
    ],
)
def test_named_files(text: str, found: list[str]) -> None:
    assert named_files(text, "src/\nsrc/calc.py\nsrc/other.py\na/twin.py\nb/twin.py") == found


def test_the_history_of_other_models_reads_as_actions() -> None:
    parallel: ChatMessage = {
        "role": "assistant",
        "content": "I will do both.",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "count", "arguments": '{"of": "é"}'}},
            {"id": "2", "type": "function", "function": {"name": "count", "arguments": "not json"}},
        ],
    }
    messages: list[ChatMessage] = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url"}]},
        parallel,
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "Both done."},
        user("thanks"),
    ]
    assert [(m["role"], m["content"]) for m in plain_messages(messages, 1000)] == [
        ("user", "look\n(image_url left out)"),
        ("assistant", '{"tool": "count", "arguments": {"of": "é"}}'),
        ("user", "Result of count:\none"),
        ("assistant", '{"tool": "count", "arguments": {}}'),
        ("user", "Result of count:\ntwo"),
        ("assistant", '{"tool": "finish", "arguments": {"message": "Both done."}}'),
        ("user", "thanks"),
    ]


def test_what_was_looked_at_first_stands_beside_the_task() -> None:
    read = made("read_file", {"filepath": "a.txt"}, "zebra")
    (only,) = plain_messages([user("Copy a.txt."), *LISTED, *read], 1000)
    assert only["content"].startswith("Copy a.txt.\n\n")
    assert "src/calc.py" in only["content"] and only["content"].endswith("a.txt:\nzebra")


def test_malformed_arguments_of_a_first_look_do_no_harm() -> None:
    looks = [m for text in ("no json", "[]") for m in made("read_file", text, f"result {text}")]
    (only,) = plain_messages([user("go"), *looks], 1000)
    assert "result no json" in only["content"] and "result []" in only["content"]


def test_an_interrupted_task_and_the_next_one_are_one_turn() -> None:
    stopped = made("count", "{}", "Error: cancelled by the user")
    retold = plain_messages([user("go"), *stopped, user("do less")], 1000)
    assert [message["role"] for message in retold] == ["user", "assistant", "user"]
    assert retold[-1]["content"].endswith("cancelled by the user\n\ndo less")


def sent_for(*messages: ChatMessage, card: ModelCard = CARD) -> dict[str, Any]:
    request = body(*messages)
    return constrained_body(card, request, read_task(request["messages"]), ALL, may_finish=True)


def test_each_step_only_adds_to_the_conversation() -> None:
    """The server's prefix cache holds as long as the beginning stays the same."""
    system: ChatMessage = {"role": "system", "content": "You are an agent."}
    steps: list[ChatMessage] = [system, user("go")]
    before: list[dict[str, Any]] = []
    for number in range(4):
        steps += made("write_file", {"filepath": f"{number}", "content": "x"}, "ok", number)
        now = sent_for(*steps)["messages"]
        kept = before[:-1]
        assert now[: len(kept)] == kept
        before = now
    assert before[0]["role"] == "system"
    assert before[0]["content"].startswith("You are an agent.\n\n")


def test_the_task_is_repeated_after_the_last_result_only() -> None:
    steps = [*made("count", "{}", "1", 1), *made("count", "{}", "2", 2)]
    sent = sent_for(user("count to three"), *steps)["messages"]
    assert "count to three" in sent[-1]["content"]
    assert sum("count to three" in message["content"] for message in sent) == 2


def test_long_results_are_shortened_and_old_ones_left_out_to_fit_the_window() -> None:
    steps = [m for i in range(12) for m in made("count", json.dumps({"i": i}), f"{i}" * 20_000, i)]
    sent = sent_for(user("go"), *steps)["messages"]
    assert sum(len(message["content"]) for message in sent) < 8192 * 3
    assert "characters left out" in sent[-1]["content"]
    assert "left out: too long ago" in sent[3]["content"]
    assert sent[1]["content"] == "go"


def test_large_files_looked_at_first_are_shortened_until_they_fit() -> None:
    names = [f"{letter}.py" for letter in "abcd"]
    reads = [m for name in names for m in made("read_file", {"filepath": name}, name * 10_000)]
    listing = made("list_files", "{}", "\n".join(names))
    sent = sent_for(user("Read a.py b.py c.py d.py"), *listing, *reads)["messages"]
    assert sum(len(message["content"]) for message in sent) < 8192 * 3
    assert all(f"Content of {name}:" in sent[1]["content"] for name in names)


def test_short_strings_have_a_length_and_whole_texts_have_not() -> None:
    schema = sent_for(user("go"))["response_format"]["json_schema"]["schema"]
    by_name = {
        each["properties"]["tool"]["const"]: each["properties"]["arguments"] for each in schema["anyOf"]
    }
    write = by_name["write_file"]["properties"]
    assert write["filepath"]["maxLength"] > 100 and "maxLength" not in write["content"]
    assert by_name["list_files"]["properties"] == {}
    assert all(each["additionalProperties"] is False for each in by_name.values())


@pytest.mark.parametrize(
    ("field", "asked", "sent"), [("max_tokens", 100, 100), ("max_completion_tokens", 9000, MAX_ANSWER_TOKENS)]
)
def test_a_limit_of_the_caller_is_kept_if_it_is_lower(field: str, asked: int, sent: int) -> None:
    request = {**body(user("go")), field: asked}
    assert (
        constrained_body(CARD, request, read_task(request["messages"]), ALL, may_finish=True)["max_tokens"]
        == sent
    )


def test_a_streamed_action_is_well_formed() -> None:
    async def scenario(base_url: str) -> list[ChatChunk]:
        spec = ProviderSpec(name="local", base_url=base_url, tool_calling="constrained")
        provider = ConstrainedProvider(http_provider(spec, open_client()))
        try:
            deadline = asyncio.get_running_loop().time() + 5
            return [chunk async for chunk in provider.stream(CARD, body(user("go"), *LISTED), deadline)]
        finally:
            await provider.aclose()

    with ScriptedUpstream([action("write_file", filepath="a", content="b")]) as upstream:
        chunks = asyncio.run(scenario(upstream.base_url))
    call, end, usage = chunks
    assert call.delta["tool_calls"][0]["index"] == 0
    assert end.data["choices"][0]["finish_reason"] == "tool_calls"
    assert usage.data["usage"]["total_tokens"] == 18 and usage.data["choices"] == []
