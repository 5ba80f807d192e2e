"""Moments as people name them: so many back, or the beginning of an id."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from agent_service.cli.client import ServiceClient
from agent_service.cli.fault import Fault
from agent_service.cli.moments import find_moment, is_present, moments


def moment(
    number: int, messages: int, summary: str = "", *, rewound: bool = False, damaged: bool = False
) -> dict[str, Any]:
    name = f"1f1e5963-{number:04}-6000-8000-ed95233c1b31"
    return {
        "checkpoint_id": name,
        "messages": messages,
        "summary": summary,
        "rewound": rewound,
        "damaged": damaged,
    }


HISTORY = [
    moment(9, 3, "an answer", rewound=True),
    moment(8, 3, "an answer"),
    moment(7, 3, "an answer"),
    moment(6, 2, "a call"),
    moment(5, 0),
    moment(4, 0),
]


def service(history: list[dict[str, Any]], page: int = 2) -> ServiceClient:
    """One that gives the history in pages of so many, however many are asked for."""

    def answer(request: httpx.Request) -> httpx.Response:
        names = [each["checkpoint_id"] for each in history]
        before = request.url.params.get("before")
        start = names.index(before) + 1 if before else 0
        found = history[start : start + page]
        more = found[-1]["checkpoint_id"] if start + page < len(history) else None
        return httpx.Response(200, json={"checkpoints": found, "next_cursor": more})

    return ServiceClient(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service"))


def test_what_says_the_same_is_one_moment_but_for_a_rewind() -> None:
    found = [each["checkpoint_id"] for each in moments(service(HISTORY), "thread-01")]
    assert found == [HISTORY[place]["checkpoint_id"] for place in (0, 2, 3, 5)]


def test_what_is_damaged_is_a_moment_of_its_own() -> None:
    damaged = [moment(9, 0, damaged=True), moment(8, 0, damaged=True)]
    past = service([*damaged, moment(7, 0), moment(6, 0)])
    assert [each["damaged"] for each in moments(past, "thread-01")] == [True, False]


@pytest.mark.parametrize(
    ("wanted", "place"),
    [("0", 0), ("2", 3), ("3", 5), ("1f1e5963-0007", 2), ("1f1e5963-0004-6000-8000-ed95233c1b31", 5)],
)
def test_a_moment_is_named_by_its_number_or_the_beginning_of_its_id(wanted: str, place: int) -> None:
    assert find_moment(service(HISTORY), "thread-01", wanted) == HISTORY[place]["checkpoint_id"]


def test_the_present_is_every_checkpoint_of_the_first_moment() -> None:
    def present(history: list[dict[str, Any]]) -> list[bool]:
        return [is_present(service(history), "thread-01", each["checkpoint_id"]) for each in HISTORY]

    assert present(HISTORY) == [True, *[False] * 5]
    assert present(HISTORY[1:]) == [False, True, True, *[False] * 3]
    assert not any(present([]))


def test_a_name_that_is_none_is_for_the_service_to_refuse() -> None:
    assert find_moment(service(HISTORY), "thread-01", "no-such") == "no-such"
    assert find_moment(service(HISTORY), "thread-01", "1f") == "1f"


def test_what_could_be_several_is_refused() -> None:
    with pytest.raises(Fault, match="Several checkpoints begin so"):
        find_moment(service(HISTORY), "thread-01", "1f1e5963")
    with pytest.raises(Fault, match="goes back 3 moments, not 4"):
        find_moment(service(HISTORY), "thread-01", "4")
    with pytest.raises(Fault, match="Nothing was said"):
        find_moment(service([]), "thread-01", "1")
