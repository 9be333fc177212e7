"""Clause F1 of docs/spec/audit.md once more, in plain Python: no numpy, its own Philox, one number at a time.

It is what `protocol.session.fingerprint.sketch` is held against, and it writes the vectors for other languages:

    python tests/support/plain_sketch.py > tests/vectors/sketch.json
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Iterator

MASK = (1 << 64) - 1


def philox(seed: bytes, stream: int) -> Iterator[int]:
    """The words of one stream of Philox 4x64-10."""
    block = 0
    while True:
        block += 1
        counter = [block, stream, 0, 0]
        key = list(struct.unpack("<QQ", seed[:16]))
        for _ in range(10):
            low, high = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
            counter = [(high >> 64) ^ counter[1] ^ key[0], high & MASK, (low >> 64) ^ counter[3] ^ key[1], low & MASK]
            key = [(key[0] + 0x9E3779B97F4A7C15) & MASK, (key[1] + 0xBB67AE8584CAA73B) & MASK]
        yield from counter


def plain_sketch(rows: list[list[float]], seed: bytes) -> bytes:
    """The fingerprint of rows of fp32 numbers."""
    if not rows:
        return bytes(256)
    width = len(rows[0])
    words = philox(seed, 0)
    of_dimension = [next(words) for _ in range(width)]
    of_row = philox(seed, 1)
    of_entry = philox(seed, 2)
    sums = [0] * 64
    for row in rows:
        total = 0.0
        for x in row:
            total += x * x
        scale = math.sqrt(math.sqrt(total / width)) or 1.0
        row_word = next(of_row)
        entry_words = [next(of_entry) for _ in range(-(-width // 64))]
        for d, x in enumerate(row):
            q = round(min(max(x / scale, -(2.0**16)), 2.0**16) * 2**22)
            minus = entry_words[d // 64] >> (d % 64) & 1
            for b in range(64):
                sums[b] += -q if minus ^ (row_word >> b & 1) ^ (of_dimension[d] >> b & 1) else q
    numbers = [float(s) / (2**22 * math.sqrt(len(rows) * width)) for s in sums]
    return struct.pack("<64f", *numbers)


def fp32(x: float) -> float:
    """The nearest number that four bytes hold."""
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


def examples() -> dict[str, tuple[bytes, list[list[float]]]]:
    """Name, seed and rows of each vector."""
    draw = random.Random(20)

    def rows(count: int, width: int, spread: float = 1.0) -> list[list[float]]:
        return [[fp32(draw.gauss(0, spread)) for _ in range(width)] for _ in range(count)]

    seeds = [bytes(range(32)), bytes(32), b"\xff" * 32, draw.randbytes(32)]
    shapes = [(1, 5), (20, 5), (1, 64), (3, 64), (20, 64), (2, 192), (7, 192), (1, 1000), (2, 1000)]
    found = {f"{n} rows of {w}": (seeds[i % 4], rows(n, w)) for i, (n, w) in enumerate(shapes)}
    zero_between = [*rows(1, 64), [0.0] * 64, *rows(1, 64)]
    spike = [[0.0] * 63 + [fp32(1e30)]]
    return found | {
        "no rows": (seeds[3], []),
        "a row of zeros between two": (seeds[3], zero_between),
        "the smallest numbers": (seeds[3], [[math.copysign(2.0**-149, (-1) ** d) for d in range(64)]]),
        "small numbers": (seeds[3], rows(2, 64, 1e-12)),
        "large numbers": (seeds[3], rows(2, 64, 1e12)),
        "one entry held at 2^16": (seeds[3], spike),
        "a first row of huge norm": (seeds[3], [*rows(1, 64, 1e4), *rows(2, 64)]),
        "one row of five numbers": (seeds[3], [[1.0, -2.0, 3.0, -4.0, 5.0]]),
        "the same under a seed with another second half": (
            seeds[3][:16] + seeds[2][:16],
            [[1.0, -2.0, 3.0, -4.0, 5.0]],
        ),
        "ties that go to the even number": (seeds[1], [[fp32(1 + d * 2.0**-23) for d in range(64)]]),
    }


def main() -> None:
    """Print the vectors."""
    vectors = [
        {
            "name": name,
            "seed": seed.hex(),
            "width": len(rows[0]) if rows else 64,
            "rows": [struct.pack(f"<{len(row)}f", *row).hex() for row in rows],
            "sketch": plain_sketch(rows, seed).hex(),
        }
        for name, (seed, rows) in examples().items()
    ]
    print(json.dumps({"clause": "F1", "vectors": vectors}, indent=1))


if __name__ == "__main__":
    main()
