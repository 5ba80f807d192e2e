"""What of a list counts as unchanged when its next version is stored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from checkpoints.values import Encoder

LENGTH = 40
FAR_FROM_THE_END = 3


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
    serde = JsonPlusSerializer()
    first = Encoder(serde).encode_list("1", elements)
    before = [*first.folded.ids]
    elements.append(MAKERS[made](LENGTH))
    second = Encoder(serde).encode_list("2", elements, first)
    assert second.folded.ids[:LENGTH] == before
    before = [*second.folded.ids]
    change(elements[FAR_FROM_THE_END])
    third = Encoder(serde).encode_list("3", elements, second)
    pairs = zip(third.folded.ids, before, strict=True)
    assert [at for at, (new, old) in enumerate(pairs) if new != old] == [FAR_FROM_THE_END]
    assert third.folded.ids == Encoder(serde).encode_list("3", elements).folded.ids


@pytest.mark.parametrize("made", MAKERS)
def test_a_version_is_what_it_would_be_without_an_earlier_one(made: str) -> None:
    elements = [MAKERS[made](at) for at in range(LENGTH)]
    serde = JsonPlusSerializer()
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
        first = Encoder(serde).encode_list("1", elements)
        grown = Encoder(serde).encode_list("2", following, first)
        alone = Encoder(serde).encode_list("2", following)
        assert grown.folded.root == alone.folded.root
        # And the one after it is not misled by what the second took over from the first.
        again = Encoder(serde).encode_list("3", elements)
        assert Encoder(serde).encode_list("3", elements, grown).folded.root == again.folded.root
