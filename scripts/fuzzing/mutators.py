"""Spoils bytes, lines of text, and DER; `trees` does the same for msgpack and JSON."""

from __future__ import annotations

import random
from collections.abc import Sequence

from scripts.fuzzing.target import Mutator

__all__ = ["MAX_INPUT_BYTES", "NASTY_TEXTS", "der", "lines", "raw", "several"]

MAX_INPUT_BYTES = 192 * 1024
"""Longer inputs are cut: every decoder here has a lower bound of its own, or reads a file."""

_EXTREMES = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
]

NASTY_TEXTS = [
    "",
    "\0",
    "\n",
    "\r\n",
    "\x7f",
    "\ufeff",
    "\u2028",
    "\u202e",
    "\ud800",
    "\U0010ffff",
    "é",
    "e\u0301",
    "–",
    "∞",
    "a" * 100,
    "a" * 300,
    "a" * 5_000,
    "あ" * 2_000,
    "0" * 5_000,
    "9" * 5_000,
    "-1",
    "-0",
    "1e999",
    "1e-999",
    "NaN",
    "0x10",
    "1_000",
    "٣",
    "true",
    "null",
    "../../etc/passwd",
    "/dev/zero",
    "~root",
    "%s%s%n",
    "{{7*7}}",
    "AAAA",
    "AA==",
    "A===",
    "=" * 70,
    "/ip4/1.2.3.4/tcp/1",
    "xn--",
    "::ffff:1.2.3.4",
    "2000-02-30",
    "12:60:00",
]
"""Text that has misled some parser somewhere."""


def several(*mutators: Mutator) -> Mutator:
    """One of these, and now and then some on top of one another."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        for _ in range(1 if rng.random() < 0.7 else rng.randint(2, 5)):
            data = rng.choice(mutators)(rng, data, others)[:MAX_INPUT_BYTES]
        return data

    return mutate


def _flip(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    data[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _insert(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 32)))


def _delete(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 1, 2, 4, 16, 64))]


def _cut(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _repeat(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    piece = bytes(data[at : at + rng.choice((1, 2, 8, 32))])
    data[at:at] = piece * rng.choice((1, 1, 2, 16, 256, 4096))


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    at, begin = rng.randrange(len(data)), rng.randrange(len(other) + 1)
    data[at : at + rng.choice((0, 4, 64))] = other[begin : begin + rng.choice((4, 16, 64, len(other)))]


def _length(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """A number somewhere to an extreme, as lengths and counts are."""
    width, at = rng.choice((1, 2, 4, 8)), rng.randrange(len(data))
    number = rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
    data[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))


_RAW = (_flip, _overwrite, _insert, _delete, _cut, _repeat, _splice, _length)


def raw(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes without any idea of what they mean."""
    changed = bytearray(data or b"\0")
    rng.choice(_RAW)(rng, changed, others)
    return bytes(changed)


def lines(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Text of lines: lost, doubled, swapped, from elsewhere, or with another value behind the equals sign."""
    parts = data.decode(errors="replace").split("\n")
    at = rng.randrange(len(parts))
    match rng.randrange(7):
        case 0:
            del parts[at]
        case 1:
            parts[at:at] = [parts[at]] * rng.choice((1, 2, 50))
        case 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts.insert(at, rng.choice(rng.choice(others).decode(errors="replace").split("\n")))
        case 4:
            parts[at] = rng.choice(NASTY_TEXTS)
        case 5:
            name, equals, _ = parts[at].partition(rng.choice(("=", " ", "+", "/", ":")))
            parts[at] = name + equals + rng.choice(_VALUES + NASTY_TEXTS)
        case _:
            words = parts[at].split(" ")
            words[rng.randrange(len(words))] = rng.choice(_VALUES + NASTY_TEXTS)
            parts[at] = " ".join(words)
    return "\n".join(parts).encode(errors="surrogatepass" if rng.random() < 0.1 else "replace")


_VALUES = [
    " 0",
    " -1",
    " 9223372036854775808",
    " 1e400",
    " nan",
    " inf",
    " 0x" + "f" * 6_000,
    " 1" + "0" * 5_000,
    " '''",
    ' """',
    " [" * 3_000,
    " {" * 50,
    " {a=" * 2_000,
    " true",
    " 1979-05-27T07:32:00Z",
    ' "\\ud800"',
    ' "\\u0000"',
    " []",
    " {}",
    ' ""',
    " a" + ".a" * 2_000 + " = 1",
    " 0.1" + "0" * 9_000,
    " 1e-999999999",
    " 0o777",
    ' [""]',
    ' ["' + "x" * 2_000 + '"]',
]


# DER


def _parsed(data: bytes, depth: int = 0) -> list[list[object]] | None:
    """Tags with content, which is a list again where it parses as one. None where it is no DER."""
    found: list[list[object]] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            return None
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        content = data[at : at + size]
        if len(content) != size:
            return None
        at += size
        inner = _parsed(content, depth + 1) if tag & 0x20 and depth < 12 else None
        found.append([tag, content if inner is None else inner])
    return found


def _written(rng: random.Random, elements: list[list[object]], lie: float) -> bytes:
    parts = []
    for tag, content in elements:
        body = content if isinstance(content, bytes) else _written(rng, content, lie)  # type: ignore[arg-type]
        size = len(body)
        if rng.random() < lie:
            size = rng.choice((0, size + 1, max(0, size - 1), rng.choice(_EXTREMES)))
        head = bytes([size]) if size < 0x80 and rng.random() >= lie else _long(size)
        parts.append(bytes([tag & 0xFF]) + head + body)  # type: ignore[operator]
    return b"".join(parts)


def _long(size: int) -> bytes:
    body = size.to_bytes(max(1, (size.bit_length() + 7) // 8), "big")
    return bytes([0x80 | len(body)]) + body


def der(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """DER: other tags, contents and lengths; elements lost, doubled, and wrapped in more of them."""
    tree = _parsed(data)
    if not tree:
        return raw(rng, data, others)
    if rng.random() < 0.2:
        return _written(rng, tree, 0.03)
    within = tree
    while isinstance(inner := rng.choice(within)[1], list) and inner and rng.random() < 0.85:
        within = inner
    at = rng.randrange(len(within))
    element = within[at]
    match rng.randrange(5):
        case 0:
            element[0] = rng.choice(_TAGS)
        case 1:
            del within[at]
        case 2:
            within[at:at] = [element] * rng.choice((1, 2, 30))
        case 3:
            for _ in range(rng.choice((1, 2, 20, 100))):
                element[:] = [0x30, [list(element)]]
        case _:
            _other_content(rng, element, others)
    return _written(rng, tree, 0.0)


_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x18, 0x30, 0x31, 0xA0, 0xA3)


def _other_content(rng: random.Random, element: list[object], others: Sequence[bytes]) -> None:
    content = element[1]
    if isinstance(content, bytes):
        number = rng.choice(_EXTREMES).to_bytes(8, "big")
        element[1] = raw(rng, content, others) if rng.random() < 0.5 else number + content * rng.choice((0, 1, 100))
    else:
        element[1] = []
