"""What peers wrote cannot move the cursor, hide text or turn it round."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.screen import json_text, screen_line, screen_text

HOSTILE = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\rb",
    "a\x08b",
    "\x7f",
    "\u202eevil",
    "\u2066x\u2069",
    "line\u2028line",
    "\udcff",
    "\U000e0041",
]


def harmless(text: str) -> bool:
    return all(each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cs", "Zl", "Zp") for each in text)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_obeys_is_made_visible(text: str) -> None:
    shown = screen_text(text)
    assert harmless(shown)
    assert shown != text
    assert len(shown) >= len(text)


@pytest.mark.parametrize("text", ["Grüße, 世界! 🦊", "می\u200cخواهم", "one\n\ttwo", "👩\u200d🚀", "a\u00a0b", ""])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert screen_text(text) == text


@given(st.text(st.characters()))
def test_text_in_pieces_is_as_safe_as_text_that_comes_whole(text: str) -> None:
    assert "".join(map(screen_text, text)) == screen_text(text)
    assert harmless(screen_text(text))
    assert screen_text(screen_text(text)) == screen_text(text)


def test_a_line_stays_one_line() -> None:
    assert screen_line("a\nb\tc\x1bd") == "a␊b␉c␛d"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_escapes_them_and_reads_back_as_it_was(text: str) -> None:
    shown = json_text({"text": text}, indent=2)
    assert json.loads(shown) == {"text": text}
    assert harmless(shown)
    assert "\u202e" not in shown


def test_json_of_half_a_pair_can_be_written() -> None:
    assert json.loads(json_text("\ud800")) == "\ud800"
    json_text("\ud800").encode()
