"""What of a list counts as unchanged when its next version is stored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from checkpoints.values import Encoder

LENGTH = 40
FAR_FROM_THE_END = 3
SERDE = JsonPlusSerializer(allowed_msgpack_modules=None)


@dataclass
class Note:
    text: str


def say(element: Any) -> None:
    element.content = "other"


def note(element: Any) -> None:
    element.text = "other"


def put(element: Any) -> None:
    element["text"] = "other"


def rename(element: Any) -> None:
    element["name"] = element.pop("text")


def drop(element: Any) -> None:
    element.clear()


MAKERS: dict[str, Callable[[int], Any]] = {
    "message": lambda at: HumanMessage(f"says {at}") if at % 2 else AIMessage(f"says {at}", id=str(at)),
    "dict": lambda at: {"text": f"says {at}"},
    "ordered": lambda at: OrderedDict(text=f"says {at}"),
    "list": lambda at: [f"says {at}"],
    "dataclass": lambda at: Note(f"says {at}"),
    "text": lambda at: f"says {at}",
    "mixed": lambda at: {"text": f"says {at}"} if at == FAR_FROM_THE_END else HumanMessage(f"says {at}"),
}


@pytest.mark.parametrize(
    ("made", "change"),
    [
        ("message", say),
        ("dict", put),
        ("dict", rename),
        ("dict", drop),
        ("ordered", put),
        ("ordered", rename),
        ("list", drop),
        ("dataclass", note),
        ("mixed", put),
    ],
)
def test_an_element_changed_in_place_is_stored_again(made: str, change: Callable[[Any], None]) -> None:
    elements = [MAKERS[made](at) for at in range(LENGTH)]
    first = Encoder(SERDE).encode_list("1", elements)
    elements.append(MAKERS[made](LENGTH))
    second = Encoder(SERDE).encode_list("2", elements, first)
    assert second.folded.ids[:LENGTH] == first.folded.ids
    change(elements[FAR_FROM_THE_END])
    third = Encoder(SERDE).encode_list("3", elements, second)
    pairs = zip(third.folded.ids, second.folded.ids, strict=True)
    assert [at for at, (new, old) in enumerate(pairs) if new != old] == [FAR_FROM_THE_END]
    assert third.folded.ids == Encoder(SERDE).encode_list("3", elements).folded.ids


def clear_all(elements: list[Any]) -> None:
    for each in elements:
        each.clear()


def move_between_neighbours(elements: list[Any]) -> None:
    elements[FAR_FROM_THE_END].insert(0, elements[FAR_FROM_THE_END - 1].pop())


@pytest.mark.parametrize(
    ("made", "change"),
    [
        ("dict", clear_all),
        ("list", clear_all),
        ("list", move_between_neighbours),
    ],
)
def test_what_moves_between_elements_or_leaves_them_is_seen(
    made: str, change: Callable[[list[Any]], None]
) -> None:
    elements = [MAKERS[made](at) for at in range(LENGTH)]
    first = Encoder(SERDE).encode_list("1", elements)
    change(elements)
    second = Encoder(SERDE).encode_list("2", elements, first)
    assert second.folded.root == Encoder(SERDE).encode_list("2", elements).folded.root


@pytest.mark.parametrize(("made", "change"), [("dict", drop), ("list", drop), ("message", say)])
def test_what_was_changed_back_is_stored_again(made: str, change: Callable[[Any], None]) -> None:
    """The last element at first, so that nothing behind it shows that it was another one meanwhile."""
    elements = [MAKERS[made](at) for at in range(FAR_FROM_THE_END)]
    last = elements[-1]
    before = copy(last)
    version = Encoder(SERDE).encode_list("1", elements)
    change(last)
    version = Encoder(SERDE).encode_list("2", elements, version)
    elements += [MAKERS[made](at) for at in range(FAR_FROM_THE_END, LENGTH)]
    version = Encoder(SERDE).encode_list("3", elements, version)
    if isinstance(last, dict):
        last.update(before)
    elif isinstance(last, list):
        last += before
    else:
        last.content = before.content
    version = Encoder(SERDE).encode_list("4", elements, version)
    assert version.folded.root == Encoder(SERDE).encode_list("4", elements).folded.root


def test_an_id_that_messages_get_late_is_stored() -> None:
    elements = [
        HumanMessage(f"says {at}", id=None if at % 5 == FAR_FROM_THE_END else "x") for at in range(LENGTH)
    ]
    version = Encoder(SERDE).encode_list("1", elements)
    for at in (FAR_FROM_THE_END, 13, 33):
        elements.append(HumanMessage("and more"))
        elements[at].id = "late"
        version = Encoder(SERDE).encode_list(f"after {at}", elements, version)
        assert version.folded.ids == Encoder(SERDE).encode_list("alone", elements).folded.ids


def test_of_an_early_message_no_other_field_is_looked_at() -> None:
    elements = [MAKERS["message"](at) for at in range(LENGTH)]
    first = Encoder(SERDE).encode_list("1", elements)
    for each in (elements[FAR_FROM_THE_END], elements[-1]):
        each.name = "other"
    second = Encoder(SERDE).encode_list("2", elements, first)
    pairs = zip(second.folded.ids, first.folded.ids, strict=True)
    assert [at for at, (new, old) in enumerate(pairs) if new != old] == [LENGTH - 1]


@pytest.mark.parametrize("made", MAKERS)
def test_a_version_is_what_it_would_be_without_an_earlier_one(made: str) -> None:
    elements = [MAKERS[made](at) for at in range(LENGTH)]
    edited = [*elements[:10], MAKERS[made](LENGTH), *elements[11:]]
    for following in (
        [*elements, MAKERS[made](LENGTH)],
        elements[:-5],
        elements[5:],
        elements[:10] + elements[12:],
        elements[::-1],
        edited,
        [],
    ):
        first = Encoder(SERDE).encode_list("1", elements)
        grown = Encoder(SERDE).encode_list("2", following, first)
        alone = Encoder(SERDE).encode_list("2", following)
        assert grown.folded.root == alone.folded.root
        again = Encoder(SERDE).encode_list("3", elements)
        assert Encoder(SERDE).encode_list("3", elements, grown).folded.root == again.folded.root
