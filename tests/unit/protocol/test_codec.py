"""The codec accepts exactly what it would have made."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgpack
import pytest

from protocol.encoding.codec import (
    Count,
    Message,
    Size,
    TextSize,
    Uint,
    decode,
    encode,
    fields_to_wire,
    message,
    shapes,
)
from protocol.errors import InvalidError, MalformedError, PeerError, peers_fault
from protocol.identity.ids import BlockSpan


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@message()
class Inner(Message):
    number: Annotated[int, Uint(8)]


@message("sample/1")
class Sample(Message):
    small: Annotated[int, Uint(8)]
    raw: Annotated[bytes, Size(2, 4)]
    text: Annotated[str, TextSize(5)]
    maybe: Annotated[int, Uint(64)] | None
    colour: Colour
    flag: bool
    items: Annotated[tuple[Inner, ...], Count(1, 2)]


def sample(**changes: object) -> Sample:
    values = {
        "small": 7,
        "raw": b"abc",
        "text": "hé",
        "maybe": None,
        "colour": Colour.RED,
        "flag": True,
        "items": (Inner(number=1),),
    }
    return Sample(**{**values, **changes})  # type: ignore[arg-type]


def test_a_message_survives_the_wire() -> None:
    for value in (sample(), sample(maybe=2**63 - 1), sample(items=(Inner(number=1), Inner(number=255)))):
        assert decode(encode(value), Sample) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"small": 256},
        {"small": -1},
        {"small": True},
        {"small": 1.0},
        {"raw": b"a"},
        {"raw": b"abcde"},
        {"raw": "abc"},
        {"text": "toolong"},
        {"text": "ééé"},
        {"text": "a\n"},
        {"text": "\ud800"},
        {"maybe": 2**63},
        {"colour": "red"},
        {"flag": 1},
        {"items": ()},
        {"items": (Inner(number=1),) * 3},
        {"items": [Inner(number=1)]},
        {"items": (1,)},
    ],
)
def test_a_message_out_of_bounds_cannot_be_built(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidError, match="Sample"):
        sample(**changes)


def _wire(**changes: object) -> list[object]:
    fields = {"small": 7, "raw": b"abc", "text": "hé", "maybe": None, "colour": "red", "flag": True, "items": [[1]]}
    return ["sample/1", *{**fields, **changes}.values()]


def test_the_wire_form_is_what_the_spec_says() -> None:
    assert msgpack.unpackb(encode(sample())) == _wire()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(_wire()) + b"\0",
        msgpack.packb(_wire())[:-1],
        msgpack.packb(["other/1", *_wire()[1:]]),
        msgpack.packb(_wire()[:-1]),
        msgpack.packb([*_wire(), 1]),
        msgpack.packb(_wire(colour="green")),
        msgpack.packb(_wire(small=-7)),
        msgpack.packb(_wire(items=[[1, 2]])),
        msgpack.packb(_wire(items=1)),
        msgpack.packb(_wire(items=[b"\x01"])),  # which has one item, and that is a number
        msgpack.packb(_wire(items=b"\x01")),
        msgpack.packb({"kind": "sample/1"}),
        msgpack.packb("sample/1"),
        msgpack.packb([]),
        msgpack.packb(_wire(maybe=msgpack.ExtType(1, b"x"))),
        msgpack.packb(_wire(text=b"h")),
        b"\x91" * 2000,
        b"\xdd\xff\xff\xff\xff",
        encode(sample()).replace(b"\x07", b"\xcc\x07", 1),  # 7 in two bytes: the same number, not the same message
        msgpack.packb(_wire(raw=b"x" * 70_000)),
    ],
)
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(data, Sample)


@message("even/1")
class Even(Message):
    half: Annotated[int, Uint(8)]
    inner: Inner

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if self.half % 2:
            raise InvalidError("an odd half", code="odd", hint="double it")


def test_a_wrong_value_is_a_peers_fault_only_where_it_was_read_from_one() -> None:
    with pytest.raises(InvalidError) as ours:
        Even(half=1, inner=Inner(number=1))
    assert not isinstance(ours.value, PeerError)
    with pytest.raises(MalformedError) as theirs:
        decode(msgpack.packb(["even/1", 1, [1]]), Even)
    assert (theirs.value.message, theirs.value.code, theirs.value.hint) == ("an odd half", "odd", "double it")
    with pytest.raises(MalformedError, match=r"Even\.inner: Inner\.number: 256 is outside") as nested:
        decode(msgpack.packb(["even/1", 2, [256]]), Even)
    assert nested.value.code == "malformed"
    with pytest.raises(MalformedError, match="empty"), peers_fault():
        BlockSpan(start=3, end=3)


def test_a_message_without_a_kind_does_not_travel_alone() -> None:
    with pytest.raises(TypeError, match="no kind"):
        encode(Inner(number=1))


def test_a_message_is_frozen() -> None:
    with pytest.raises(AttributeError):
        sample().small = 3  # type: ignore[misc]
    assert sample().replace(small=3).small == 3


@pytest.mark.parametrize("name", [name for name, _ in shapes(Sample)])
@pytest.mark.parametrize(
    "value", [None, True, 0, 255, 256, 2**64 - 1, b"", b"ab", "red", "hé", "\0", [], [[1]], [[256]], 1.5]
)
def test_what_passes_at_once_is_what_its_shape_lets_pass(name: str, value: object) -> None:
    """The quick way and the one that gives reasons agree, out and in."""
    raw = fields_to_wire(sample())
    at = [each for each, _ in shapes(Sample)].index(name)
    raw[at] = value
    shape = shapes(Sample)[at][1]
    try:
        built = shape.from_wire(value)
        shape.check(built)
    except InvalidError:
        with pytest.raises(MalformedError, match=f"Sample.{name}: "):
            decode(msgpack.packb(["sample/1", *raw]), Sample)
        return
    assert getattr(decode(msgpack.packb(["sample/1", *raw]), Sample), name) == built
