"""A channel's value as it is stored: short ones as they are, long ones by address, lists by their elements.

kind       data
list       the root of a sequence of items (`checkpoints.sequences`)
snapshot   the same, of a list inside LangGraph's `_DeltaSnapshot`
item       the address of an item
other      the serialiser's own type and bytes; `+zlib` when compressed, `+sum` with a checksum after them
           (`+crc`: with that of earlier versions)
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, is_
from threading import get_ident
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from checkpoints.errors import StateDamaged
from checkpoints.revival import MSGPACK, revive
from checkpoints.sequences import NODE, Folded, address, fold

LIST, SNAPSHOT, ITEM = "list", "snapshot", "item"
_ZLIB, _SUM, _CRC = "+zlib", "+sum", "+crc"
PLAIN = MSGPACK + _SUM
"""The kind of nearly all items."""
_ARRAY, _UINT32, _NIL = b"\xdd", b"\xce", b"\xc0"
"""Of msgpack: what precedes the four bytes of an array's length, what precedes a number's, and nothing."""

INLINE_BYTES = 256
"""Longer values become items, stored once for the task that wrote them and the channel that holds them."""
SHORT_LIST = 16
"""A list of no more elements, all of them plain, is one value."""
_SCALARS = (str, int, float, type(None))
COMPRESS_BYTES = 4096
"""Shorter items stay as they are: a thread is opened by reading thousands of them, and to inflate one of 2 KB
takes longer than to make a message of it."""
COMPRESS_ALONE_BYTES = 512
"""The same of data that is read one row at a time."""
WORTHWHILE = 2 / 3
"""What is left of data must be no more than this, or it stays as it is."""
CHECKSUM_BYTES = 5
"""A checksum is four bytes in the form of a msgpack number, so that a value with it is msgpack again."""
_TO_ZERO = 0x6DD90A9D
"""The four bytes, little-endian, whose own CRC-32 is 0. Combined with the CRC of some data (exclusive or)
they take it back to 0, where a CRC begins: any number of such data in a row have a CRC of 0."""
_INTACT = {_SUM: 0, _CRC: 0x2144DF1C}
"""The CRC-32 of data with its checksum; earlier ones were a plain CRC, which leaves the code's residue."""
REHASHED = 8
"""So many elements at the end of the part that looks unchanged are serialised again, in case something deep
inside them was changed in place. LangGraph's nodes must not do that, but to the latest messages some do. Of
an earlier message another content is seen, or an id where there was none, and nothing else."""
REMEMBERED_LISTS = 32
"""How many channels' latest lists are kept in memory, to be compared with the next version."""


_CONTENT = attrgetter("content")


class Stored(NamedTuple):
    """The columns `kind` and `data` of a row."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Remembered:
    """The latest stored version of a list, with the very objects it was made of."""

    version: str
    objects: list[Any]
    faces: list[Any]
    """What these showed of themselves, one after the other."""
    unnamed: list[int]
    """Where messages without an id are. LangGraph gives them one in place when their stream is asked for."""
    folded: Folded


class ListMemory:
    """The latest versions of the channels written last, by (thread, namespace, channel).

    What it knows is a guess: the writer checks that the row of that version is still there.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str, str], Remembered] = OrderedDict()

    def get(self, thread_id: str, namespace: str, channel: str) -> Remembered | None:
        return self._lists.get((thread_id, namespace, channel))

    def keep(self, thread_id: str, namespace: str, lists: Mapping[str, Remembered]) -> None:
        """Remember lists whose rows were committed."""
        for channel, remembered in lists.items():
            self._lists[thread_id, namespace, channel] = remembered
            self._lists.move_to_end((thread_id, namespace, channel))
        while len(self._lists) > REMEMBERED_LISTS:
            self._lists.popitem(last=False)


class Changed(Exception):
    """A row is not what was stored."""


class Encoder:
    """Turns values into rows; `items` are the rows that these rest on."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde
        self.items: dict[bytes, Stored] = {}

    def encode(self, value: Any) -> Stored:
        """The row of a value that has no earlier version."""
        parts = list_within(value)
        if parts is not None:
            return Stored(list_kind(value), self.encode_list("", parts).folded.root)
        kind, data = self._serde.dumps_typed(value)
        return Stored(kind, data) if len(data) <= INLINE_BYTES else Stored(ITEM, self._item(kind, data))

    def encode_list(self, version: str, value: list[Any], earlier: Remembered | None = None) -> Remembered:
        """A version of a list; what `earlier` has in the same place is taken as stored."""
        objects = list(value)
        before = len(earlier.objects) if earlier else 0
        faces = _faces(objects[:before])
        same = _unchanged(objects, faces, earlier) if earlier else 0
        unnamed = [at for at in earlier.unnamed if at < same] if earlier else []
        same = next((at for at in unnamed if not _is_unnamed(objects[at])), same)
        faces += _faces(objects[before:])
        old = earlier.folded.ids if earlier else []
        ids = old[: max(0, same - REHASHED)]
        kept = len(ids)
        for position, each in enumerate(objects[kept:], kept):
            kind, data = self._serde.dumps_typed(each)
            known = old[position] if position < len(old) else None
            ids.append(self._item(kind, data, known))
            if kept == position and ids[position] == known:
                kept += 1
        unnamed = [at for at in unnamed if at < kept]
        unnamed += [at for at, each in enumerate(objects[kept:], kept) if _is_unnamed(each)]
        folded = fold(ids, earlier.folded if earlier else None, kept)
        self.items |= {node: Stored(NODE, children) for node, children in folded.new_nodes.items()}
        return Remembered(version, objects, faces, unnamed, folded)

    def _item(self, kind: str, data: bytes, known: bytes | None = None) -> bytes:
        name = address(kind, data)
        if name != known and name not in self.items:
            self.items[name] = pack(kind, data, COMPRESS_BYTES)
        return name


def list_within(value: Any) -> list[Any] | None:
    """The list to store element by element, if the value is or holds one."""
    inner = value.value if isinstance(value, _DeltaSnapshot) else value
    if type(inner) is not list:
        return None
    short = len(inner) <= SHORT_LIST and all(isinstance(each, _SCALARS) for each in inner)
    return None if short else inner


def list_kind(value: Any) -> str:
    """The kind of a value that is or holds a list."""
    return SNAPSHOT if isinstance(value, _DeltaSnapshot) else LIST


def _faces(elements: list[Any]) -> list[Any]:
    """What elements show of themselves, in a row: by this a change in place is noticed.

    Of a message that is little. At every step it is asked of thousands, and to look at all their fields
    pushes the messages themselves out of the processor's cache, which the graph then reads in again.
    """
    if all(issubclass(kind, BaseMessage) for kind in {*map(type, elements)}):
        return [*map(_CONTENT, elements)]
    return [*chain.from_iterable(map(_face, elements))]


def _face(element: Any) -> list[Any]:
    """With the length, where that can change: what one loses must not look like the beginning of the next."""
    if isinstance(element, BaseMessage):
        return [element.content]
    if isinstance(element, list):
        return [len(element), *element]
    held = element if isinstance(element, dict) else getattr(element, "__dict__", {})
    return [len(held), *held.keys(), *held.values()]


def _is_unnamed(element: Any) -> bool:
    return isinstance(element, BaseMessage) and element.id is None


def _unchanged(objects: list[Any], faces: list[Any], earlier: Remembered) -> int:
    """How many leading elements are the same objects as before, and look the same.

    `faces` are those of as many as there were. No list of them is copied: to count one more holder of each of
    thousands of values takes longer than to compare them.
    """
    count = at = 0
    try:
        if all(map(is_, objects, earlier.objects)) and faces == earlier.faces:
            return min(len(objects), len(earlier.objects))
        for one, other in zip(objects, earlier.objects, strict=False):
            face = _face(one)
            if one is not other or earlier.faces[at : at + len(face)] != face:
                break
            at += len(face)
            count += 1
    except (TypeError, ValueError):  # something that cannot be compared took the place of something else
        pass
    return count


def pack(kind: str, data: bytes, compress: int = COMPRESS_ALONE_BYTES) -> Stored:
    """The data with a checksum; from `compress` bytes on compressed, if that is worthwhile."""
    if len(data) >= compress:
        smaller = zlib.compress(data, 1)
        if len(smaller) <= len(data) * WORTHWHILE:
            return Stored(kind + _ZLIB, smaller)
    data += _UINT32
    return Stored(kind + _SUM, data + (zlib.crc32(data) ^ _TO_ZERO).to_bytes(4, "little"))


def check_address(name: bytes, kind: str, data: bytes) -> None:
    """See that what is stored without a checksum is what its address says. Raises Changed.

    Of everything else `unpack` does so.
    """
    if not kind.endswith((_SUM, _CRC, _ZLIB)) and address(kind, data) != name:
        raise Changed


def inflate(stored: tuple[str, bytes]) -> tuple[str, bytes]:
    """The serialiser's type and bytes, as they were before `pack`. Call it within `reading`."""
    kind, data = stored
    plain, suffix = kind[: -len(_SUM)], kind[-len(_SUM) :]
    if suffix in _INTACT:
        if zlib.crc32(data) != _INTACT[suffix]:
            raise Changed
        return plain, data[:-CHECKSUM_BYTES]
    if kind.endswith(_ZLIB):
        return kind.removesuffix(_ZLIB), zlib.decompress(data)
    return stored


def unpack(serde: SerializerProtocol, stored: tuple[str, bytes]) -> Any:
    """The value of a row that stands for itself. Call it within `reading`."""
    return serde.loads_typed(inflate(stored))


def unpack_all(serde: SerializerProtocol, stored: Sequence[tuple[str, bytes]]) -> list[Any]:
    """The values of such rows, all at once. Call it within `reading`."""
    parts = [inflate(each) for each in stored]
    if any(kind != MSGPACK for kind, _ in parts):
        return [serde.loads_typed(each) for each in parts]
    run = start_of_run(len(parts)) + _NIL.join([*(data for _, data in parts), b""])
    return _firsts(serde, run)


def start_of_run(count: int) -> bytes:
    """What makes so many rows of the kind PLAIN one value, when their data are joined after it."""
    return _ARRAY + (2 * count).to_bytes(4, "big")


def unpack_run(serde: SerializerProtocol, run: bytes) -> list[Any]:
    """The values of rows that were joined after such a start. Call it within `reading`."""
    if zlib.crc32(memoryview(run)[len(start_of_run(0)) :]):
        raise Changed
    return _firsts(serde, run)


def _firsts(serde: SerializerProtocol, run: bytes) -> list[Any]:
    """Of an array of values, each with something after it."""
    found: list[Any] = revive(serde, run)
    return found[::2]


@contextmanager
def reading(thread_id: str) -> Iterator[None]:
    """Whatever fails in this block makes the thread's state unusable: it raises StateDamaged.

    So does an object of a class that the serialiser does not know, in whose place it gives plain data and
    goes on. No `await` in the block: others would be taken for this thread.
    """
    refused: list[SerdeEvent] = []
    here = get_ident()

    def listen(event: SerdeEvent) -> None:
        if get_ident() == here:
            refused.append(event)

    stop_listening = register_serde_event_listener(listen)
    try:
        yield
    except StateDamaged:
        raise
    except (Changed, zlib.error) as error:
        raise StateDamaged(thread_id, "a part of it was changed") from error
    except Exception as error:
        raise StateDamaged(thread_id, "a part of it cannot be read") from error
    finally:
        stop_listening()
    for event in refused:
        name = f"{event['module']}.{event['name']}"
        raise StateDamaged(thread_id, f"it holds an object of a class that is not known here, {name}")


def delta_snapshot(value: list[Any]) -> Any:
    """The list as LangGraph's delta channels expect their seed."""
    return _DeltaSnapshot(value)
