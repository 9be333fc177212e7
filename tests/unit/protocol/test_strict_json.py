"""JSON that two readers could understand differently is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoding.strict_json import MAX_NUMBER, exact_keys, int_text, parse_object
from protocol.errors import MalformedError

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, MAX_NUMBER) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('abc"[{\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read(data: bytes) -> dict[str, Any]:
    return parse_object(data, limit=4096, depth=4)


@given(st.dictionaries(st.text('ab"[{\\', max_size=3), values, max_size=4), st.booleans())
def test_what_python_writes_is_read_back(value: dict[str, Any], ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_object(data, limit=len(data), depth=40) == value


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b'{"a": 1, "b": 1}', b'{"a": 1, "a": 1}'),
        (b'{"a": {"b": 1}, "c": {"b": 1}}', b'{"a": {"b": 1, "b": 1}}'),
        (b'{"ab": 1, "a": 1}', b'{"\\u0061": 1, "a": 1}'),
        (b'{"a": 9007199254740991}', b'{"a": 9007199254740992}'),
        (b'{"a": 0}', b'{"a": -1}'),
        (b'{"a": 0}', b'{"a": -0}'),
        (b'{"a": 10}', b'{"a": 1e1}'),
        (b'{"a": 1}', b'{"a": 1.0}'),
        (b'{"a": "1.5"}', b'{"a": 1.5}'),
        (b'{"a": "NaN"}', b'{"a": NaN}'),
        (b'{"a": "x"}', b'{"a": Infinity}'),
        (b'{"a": "x"}', b'{"a": -Infinity}'),
        (b'{"a": 1}', b'{"a": ' + b"9" * 4000 + b"}"),
        (b'{"a": [[[]]]}', b'{"a": [[[[]]]]}'),
        (b'{"a": "[[[[[["}', b'{"a": [{"b": [{}]}]}'),
        (b'{"a": "\\"[[[[["}', b'{"a": "\\\\", "b": [[[[]]]]}'),
        (b'{"a": "\\ud83d\\ude00"}', b'{"a": "\\ud83d"}'),
        (b'{"\\ud83d\\ude00": 1}', b'{"\\ude00": 1}'),
        ('{"a": "é"}'.encode(), '{"a": "é"}'.encode("latin-1")),
        (b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}'),
        (b'{"a": 1}', '{"a": 1}'.encode("utf-16")),
        (b' {"a": 1}\n', b'{"a": 1} {}'),
        (b'{"a": "\\n"}', b'{"a": "\n"}'),
        (b"{}", b"[]"),
        (b"{}", b'"{}"'),
        (b"{}", b"null"),
        (b"{}", b"{"),
        (b"{}", b""),
        (b"{}" + b" " * 4094, b"{}" + b" " * 4095),
    ],
)
def test_one_spelling_is_read_and_its_neighbour_refused(good: bytes, bad: bytes) -> None:
    assert isinstance(read(good), dict)
    with pytest.raises(MalformedError):
        read(bad)


def test_depth_is_counted_before_the_reader_recurses() -> None:
    deep = b'{"a": ' + b"[" * 1_000_000
    with pytest.raises(MalformedError, match="nested more than 4 deep"):
        parse_object(deep, limit=len(deep), depth=4)


def test_a_string_that_never_ends_costs_no_more_than_its_length() -> None:
    data = b'{"' + b'\\"' * 4_000_000  # hours, were each quote looked at to the end
    with pytest.raises(MalformedError, match="not JSON, or not whole"):
        parse_object(data, limit=len(data), depth=4)


@given(st.binary(max_size=60))
def test_noise_is_malformed(noise: bytes) -> None:
    try:
        assert isinstance(read(noise), dict)
    except MalformedError:
        return


def test_an_object_has_exactly_its_keys() -> None:
    value = {"a": 1, "b": None}
    assert exact_keys(value, "a", "b") is value
    with pytest.raises(MalformedError, match="lacks c"):
        exact_keys(value, "a", "b", "c")
    with pytest.raises(MalformedError, match="unknown 'b'"):
        exact_keys(value, "a")
    with pytest.raises(MalformedError, match="expected an object with a"):
        exact_keys([], "a")


@given(st.integers(0, 2**63 - 1))
def test_large_numbers_are_read_from_text(number: int) -> None:
    assert int_text(str(number)) == number


@pytest.mark.parametrize(
    "value",
    ["", "00", "01", "-1", "+1", " 1", "1 ", "1\n", "1.0", "1e3", "0x1", "1_0", "٣", str(2**63), "9" * 400, 1, None],
)
def test_a_number_has_one_text(value: object) -> None:
    with pytest.raises(MalformedError, match="is not the text of"):
        int_text(value)
