"""Recursive length prefix encoding (Ethereum yellow paper, appendix B), read as strictly as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from protocol.errors import MalformedError

__all__ = ["Item", "number_of", "read_rlp", "rlp"]

Item: TypeAlias = "bytes | int | Sequence[Item]"
_MAX_DEPTH = 8


def rlp(item: Item) -> bytes:
    """The bytes of an item; numbers without leading zeros."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _prefix(len(item), 0x80) + item
    joined = b"".join(rlp(each) for each in item)
    return _prefix(len(joined), 0xC0) + joined


def _prefix(length: int, base: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size


def read_rlp(data: bytes) -> Item:
    """The item that all of `data` spells, its leaves bytes. Raises MalformedError for any but the one spelling."""
    item, end = _read(data, 0, _MAX_DEPTH)
    if end != len(data) or rlp(item) != data:
        raise MalformedError("bytes that are no RLP, or not in its one spelling")
    return item


def _read(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    first = data[at] if at < len(data) else 0x100
    if first == 0x100 or depth == 0:
        raise MalformedError("RLP that ends too soon, or is too deep")
    if first < 0x80:
        return data[at : at + 1], at + 1
    base = 0xC0 if first >= 0xC0 else 0x80
    start, length = at + 1, first - base
    if length > 55:
        start += length - 55
        length = int.from_bytes(data[at + 1 : start], "big")
    end = start + length
    if end > len(data):
        raise MalformedError("RLP that ends too soon")
    if base == 0x80:
        return data[start:end], end
    items: list[Item] = []
    while start < end:
        item, start = _read(data, start, depth - 1)
        items.append(item)
    if start != end:
        raise MalformedError("RLP with an item that is longer than its list")
    return items, end


def number_of(item: Item, *, bits: int = 256) -> int:
    """A leaf as a number. Raises MalformedError where it is none, or above its bound."""
    if not isinstance(item, bytes) or item[:1] == b"\0" or len(item) * 8 > bits:
        raise MalformedError("RLP with something else than a number")
    return int.from_bytes(item, "big")
