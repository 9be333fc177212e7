"""What an answer is held to, before anything is asked: its text, and whose offers are for it."""

from __future__ import annotations

import json

import pytest
from market_offers import MANIFEST, an_offer

from node.app.buying.grammars import covers_held, grammar_text, held_offers, of_schema, require_readable
from protocol.errors import ConfigurationError, MalformedError, RoutingError
from protocol.session.grammar import MASKS, MAX_GRAMMAR_BYTES, Grammar, grammar_of
from protocol.session.shaping import (
    Shaping,
    begun_with,
    bound_to,
    check_shaping,
    held_to,
    look_back,
    names,
    told_of,
)

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "ä": {"enum": [0.5]}}}
TEXT = of_schema(SCHEMA)
BLOCKS = MANIFEST.blocks


def test_a_schema_is_a_grammar_that_says_how_it_is_spaced() -> None:
    said = json.loads(TEXT.decode().removeprefix("start: %json "))
    assert said.pop("x-guidance")["item_separator"] == ", ?"
    assert json.dumps(said) == json.dumps(SCHEMA), "in its own order"
    own = {**SCHEMA, "x-guidance": {"whitespace_flexible": True}}
    assert json.loads(of_schema(own).decode().removeprefix("start: %json ")) == own


@pytest.mark.parametrize(
    "schema",
    [
        [],
        True,
        "text",
        {"enum": ["x" * MAX_GRAMMAR_BYTES]},
        {"enum": [float("inf")]},
        {"enum": ["\ud800"]},
    ],
)
def test_what_is_no_schema_is_refused(schema: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        of_schema(schema)
    assert refused.value.code == "grammar"


@pytest.mark.parametrize("text", [b"", b"\xff", b"x" * (MAX_GRAMMAR_BYTES + 1)])
def test_what_is_no_grammar_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError):
        grammar_text(text)


def test_a_grammar_is_read_here_before_it_is_paid_for() -> None:
    require_readable(b"")
    with pytest.raises(ConfigurationError, match="missing") as refused:
        require_readable(b"start: missing")
    assert refused.value.code == "grammar"


def test_only_whoever_draws_needs_masks() -> None:
    first, last = an_offer(0, (0, 2)), an_offer(1, (2, BLOCKS))
    held = last.replace(masks=MASKS)
    assert held_offers([first, last], BLOCKS, b"") == [first, last]
    assert held_offers([first, last, held], BLOCKS, TEXT) == [first, held]
    assert held_offers([first], BLOCKS, TEXT) == [first], "there is no route anyhow, which is said elsewhere"
    for masks in ("", "llguidance/1.9.0"):
        with pytest.raises(RoutingError, match="grammar") as refused:
            held_offers([first, last.replace(masks=masks)], BLOCKS, TEXT)
        assert refused.value.code == "grammar"
    of_model = [each.replace(model=MANIFEST.root) for each in (first, last)]
    assert not covers_held(of_model, manifest=MANIFEST, text=TEXT)
    assert covers_held([of_model[0], of_model[1].replace(masks=MASKS)], manifest=MANIFEST, text=TEXT)


# N8 and N10

PROMPT = (3, 1, 4)
HELD = bound_to(held_to(None, grammar_of(TEXT)), PROMPT, TEXT) or Shaping()


def test_n9_the_last_leg_is_told_the_text_behind_the_ids() -> None:
    check_shaping(HELD, prompt=3)
    assert look_back(HELD, PROMPT, TEXT).told == TEXT
    penalties = held_to(Shaping(repetition_milli=1_100), grammar_of(TEXT))
    both = bound_to(begun_with(penalties, 2), PROMPT, TEXT)
    assert both is not None
    check_shaping(both, prompt=3)
    told = look_back(both, PROMPT, TEXT).told
    assert len(told) == 4 * (3 + 2) + len(TEXT)
    found = told_of(both, told)
    assert (found.prompt.tolist(), found.answer, found.grammar) == ([1, 3, 4], (1, 4), TEXT)
    assert held_to(both, None) == Shaping(repetition_milli=1_100)
    assert held_to(HELD, None) is None
    assert names(HELD, TEXT)
    assert not names(HELD, TEXT + b" ")
    assert not names(HELD, b"")
    assert not names(None, TEXT)
    assert names(None, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        HELD.replace(told=None),
        HELD.replace(grammar=grammar_of(TEXT).replace(size=0)),
        HELD.replace(grammar=grammar_of(TEXT).replace(masks="")),
        HELD.replace(answered=3),
        HELD.replace(grammar=None),
    ],
)
def test_n9_what_no_grammar_may_be(wrong: Shaping) -> None:
    with pytest.raises(MalformedError):
        check_shaping(wrong, prompt=3)


@pytest.mark.parametrize("size", [len(TEXT) - 1, len(TEXT) + 1, len(TEXT) - 4, 65_536])
def test_n9_ids_and_text_are_told_apart_by_its_length(size: int) -> None:
    grammar = Grammar(size=size, text=grammar_of(TEXT).text, masks=MASKS)
    with pytest.raises(MalformedError):
        told_of(HELD.replace(grammar=grammar), TEXT)
