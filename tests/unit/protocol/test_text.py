"""Which text a message may hold is the set that the specification names, whatever Python knows of Unicode."""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocol
from protocol.encoding.codec import TextSize
from protocol.encoding.fields import TextShape
from protocol.encoding.text import is_plain_text, to_plain_text
from protocol.errors import InvalidError

ROOT = Path(__file__).resolve().parents[3]
FORBIDDEN = {"isprintable", "isspace", "isalpha", "isalnum", "isdigit", "isnumeric", "isidentifier", "unicodedata"}


def _refused_by_the_page() -> set[int]:
    """Clause W2's code points, read from its page."""
    clause = (ROOT / "docs/spec/wire.md").read_text().split("\n## W2")[1].split("\n## ")[0]
    found: set[int] = set()
    for first, last in re.findall(r"^\| U\+([0-9A-F]{4,6})(?: to U\+([0-9A-F]{4,6}))? \|", clause, re.M):
        found |= set(range(int(first, 16), int(last or first, 16) + 1))
    for plane in range(17):
        found |= {plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF}
    return found


def test_every_code_point_is_judged_as_the_page_says() -> None:
    refused = _refused_by_the_page()
    assert len(refused) == 32 + 33 + 2 + 5 + 4 + 2048 + 32 + 1 + 3 + 34
    assert {code for code in range(0x110000) if not is_plain_text(chr(code))} == refused


def test_what_this_python_knows_no_character_for_is_allowed() -> None:
    unassigned = [code for code in range(0x110000) if unicodedata.category(chr(code)) == "Cn"]
    assert sum(is_plain_text(chr(code)) for code in unassigned) == len(unassigned) - 32 - 34


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Zürich",
        "\U0001fae8",
        "\U0001f468‍\U0001f469‍\U0001f467",
        "می‌خواهم",
        "10\xa0000",
        "e\u0301",
        "\ue000",
        "\U0010fffd",
    ],
)
def test_text_of_people_is_plain(text: str) -> None:
    assert is_plain_text(text)
    TextShape(TextSize(96)).check(text)
    assert to_plain_text(text, 96) == text


@pytest.mark.parametrize(
    "character", ["\0", "\t", "\n", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff"]
)
def test_text_that_steers_a_terminal_or_hides_is_not(character: str) -> None:
    with pytest.raises(InvalidError, match="no message may hold"):
        TextShape(TextSize(96)).check(f"a{character}b")
    assert to_plain_text(f"a{character}b", 96) == "a b"


@given(
    st.text(st.characters(), max_size=30) | st.text(st.characters(categories=["Cc", "Cf", "Cs", "So"])),
    st.integers(0, 40),
)
def test_any_text_can_be_made_plain(text: str, most: int) -> None:
    made = to_plain_text(text, most)
    TextShape(TextSize(most)).check(made)
    if is_plain_text(text):
        assert text.startswith(made)


def test_no_rule_asks_pythons_tables_of_characters() -> None:
    for path in Path(protocol.__path__[0]).rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        names |= {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not names & FORBIDDEN, path.name
