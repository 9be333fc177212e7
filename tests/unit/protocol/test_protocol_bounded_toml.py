"""TOML is bounded before it is read; what people write is not in its way."""

from __future__ import annotations

from decimal import Decimal

import pytest

from protocol.encoding.bounded_toml import MAX_TOML_BYTES, parse_toml
from protocol.errors import InvalidError


def test_what_people_write_is_read() -> None:
    text = "title = 'a.b.c.d.e.f.g.h.i.j'  # [[[[[[[[[[[[\nmany = [" + "0.5, " * 200 + '"}{"]\n'
    text += "[a.b.c]\nd = {e = [[1, [2]]]}\nlong = '''" + "[.\n" * 50 + "'''\nwide = \"\"\"" + '["' * 50 + '"""\n'
    value = parse_toml(text)
    assert value["many"][0] == Decimal("0.5")
    assert value["a"]["b"]["c"]["d"] == {"e": [[1, [2]]]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = " + "[" * 9, "nested"),
        ("a = " + "[" * 10_000, "nested"),
        ("a = " + "{b = " * 1_000, "nested"),
        ("a" + ".a" * 8 + " = 1", "parts"),
        ('"a"' + ' . "a"' * 1_000 + " = 1", "parts"),
        ("[a" + ".a" * 1_000 + "]", "parts"),
        ("a = " + "1" * 5_000, "4300"),
        ("a = 1e" + "9" * 30, "exponent"),
        ("#" * (MAX_TOML_BYTES + 1), "characters"),
        ("a = '''" + "[" * 100, "Expected"),
        ("a = ", "value"),
    ],
)
def test_what_would_take_for_ever_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        parse_toml(text)
