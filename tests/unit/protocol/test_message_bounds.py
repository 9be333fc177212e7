"""No message sets how much is counted, allocated or looped over because of it: its declaration does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from arbitrary_messages import wire_messages
from market_offers import an_offer

from protocol.encoding.codec import Message, MessageShape, decode, encode, shapes
from protocol.encoding.fields import ListShape, OptionalShape, Shape, UintShape
from protocol.errors import MalformedError
from protocol.identity.ids import MAX_BLOCKS
from protocol.market.offer import Offer

MONEY = {"amount", "amounts", "cap", "ceilings", "faucet_limit", "fee", "free", "max_price_in", "max_price_out"} | {
    "min_stake",
    "settled",
    *("bond", "unbonding", "claimed", "burned"),
}
TIMES = {"expires_at", "expiry", "grace", "issued_at", "offer_expires_at", "time", "p50_us", "p95_us"} | {
    *("notice", "effective", "effective_from", "unlock_at", "us"),
}
COMPARED = {
    "block",
    "bond_multiple",
    "chain_id",
    "flight",
    "index",
    "millijoules",
    "nonce",
    "number",
    "part",
    "parts",
    "period",
    "seed",
    "sequence",
    "size",
}
"""Only ever held against another number, or against evidence; or hashed."""


def numbers(shape: Shape, name: str) -> Iterator[tuple[str, UintShape]]:
    match shape:
        case UintShape():
            yield name, shape
        case OptionalShape() | ListShape():
            yield from numbers(shape.inner, name)
        case MessageShape():
            for inner, each in shapes(shape.cls):
                yield from numbers(each, inner)


@pytest.mark.parametrize("cls", wire_messages(), ids=lambda cls: cls.kind)
def test_every_number_has_a_bound_or_is_never_counted_with(cls: type[Message]) -> None:
    found = dict(numbers(MessageShape(cls), cls.kind))
    free = {name for name, shape in found.items() if shape.uint.most is None}
    assert free <= MONEY | TIMES | COMPARED


def paths(raw: Any, cls: type[Message], at: tuple[int, ...], offset: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Where in an encoded message each bounded number stands, and its bound."""
    for place, (_, shape) in enumerate(shapes(cls), offset):
        here = (*at, place)
        value = raw[place]
        while isinstance(shape, OptionalShape):
            shape = shape.inner
        if isinstance(shape, UintShape) and shape.uint.most is not None and value is not None:
            yield here, shape.uint.most
        elif isinstance(shape, MessageShape) and value is not None:
            yield from paths(value, shape.cls, here, 0)


def changed(path: tuple[int, ...], value: int) -> bytes:
    raw = msgpack.unpackb(encode(an_offer()), raw=False)
    inner = raw
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return msgpack.packb(raw, use_bin_type=True)


BOUNDED = list(paths(msgpack.unpackb(encode(an_offer()), raw=False), Offer, (), 1))


def test_what_an_offer_counts_is_bounded() -> None:
    assert len(BOUNDED) >= 25


@pytest.mark.parametrize(("path", "most"), BOUNDED)
def test_one_more_than_allowed_is_refused_before_anything_is_made_of_it(path: tuple[int, ...], most: int) -> None:
    if most != MAX_BLOCKS:  # an end of a span or a number of blocks has to fit the others, too
        decode(changed(path, most), Offer)
    for beyond in (most + 1, 2**32 - 1 if most < 2**32 - 1 else 2**62):
        with pytest.raises(MalformedError, match=f"is outside 0\\.\\.{most}"):
            decode(changed(path, beyond), Offer)
