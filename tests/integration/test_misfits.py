"""Requests that are not quite right are told what is wrong, and never half obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService
from tests.upstream import ScriptedUpstream

THREAD = "/v1/agents/threads/thread-01"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    home = tmp_path_factory.mktemp("misfits")
    with ScriptedUpstream(otherwise="ok") as upstream, RunningService(home, upstream) as running:
        running.invoke(thread_id="thread-01")
        yield running


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        (f"{THREAD}/rewind", {"checkpoint_id": "x", "fils": True}, "fils", "did you mean `files`"),
        (f"{THREAD}/fork", {"checkpoint": "x"}, "checkpoint", "did you mean `checkpoint_id`"),
        ("/v1/agents/threads/prune", {"keep_checkpoints": 1, "dryrun": True}, "dryrun", "`dry_run`"),
        ("/v1/agents/code/invoke", {"instruction": "x", "treadid": "y"}, "treadid", "`thread_id`"),
        ("/v1/agents/code/invoke", {"instruction": "x", "qqq": 1}, "qqq", "known here: instruction, context"),
        (
            "/v1/agents/code/invoke",
            {"instruction": "x", "thread_id": "a b"},
            "thread_id",
            "8 to 64 characters",
        ),
        (f"{THREAD}/rewind", {"checkpoint_id": "a b"}, "checkpoint_id", "the id of a checkpoint"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    service: RunningService, path: str, body: dict[str, Any], param: str, words: str
) -> None:
    refused = service.client.post(path, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (422, "invalid_request", param)
    assert words in error["message"]
    assert "^[" not in error["message"]


def test_unknown_fields_of_openais_protocol_go_on(service: RunningService) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "something_new": {"x": 1}}
    assert service.client.post("/v1/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{THREAD}/history?before=zzz", 404, "checkpoint_not_found"),
        (f"{THREAD}/history?before=a.b", 422, "invalid_request"),
        ("/v1/agents/threads?cursor=zzz", 422, "invalid_request"),
        ("/v1/agents/threads?cursor=bmFuIHRocmVhZC0wMQ==", 422, "invalid_request"),
        ("/v1/agents/threads?status=zzz", 422, "invalid_request"),
        (f"{THREAD}/events?after=-1", 422, "invalid_request"),
    ],
)
def test_a_place_in_a_list_that_is_none(service: RunningService, path: str, status: int, code: str) -> None:
    refused = service.client.get(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


def test_waiting_is_advised_only_where_it_helps(tmp_path: Path) -> None:
    with RunningService(tmp_path, router={"detect_local": False}) as service:
        refused = service.invoke()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_provider")
        assert "retry-after" not in refused.headers
