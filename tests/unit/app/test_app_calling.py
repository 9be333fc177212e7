"""Answers that are calls of tools: whatever the grammar lets be drawn are calls that keep to their schemas."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from spot_checks import MODEL
from tokenizers import Tokenizer

from node.app.buying.calling import grammar_wanted
from node.engine.masks import Holder, Masks, find_masks
from node.gateway import ToolStyle, Wanted
from node.gateway.tools import ToolCalls
from node.model_directory import model_facts
from protocol.errors import ConfigurationError
from protocol.session.grammar import grammar_of
from protocol.session.shaping import LookBack

PLACE = {"enum": ["Lyon", "Oslo"]}
WEATHER = {
    "type": "object",
    "properties": {"place": {"$ref": "#/$defs/place"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["place", "days"],
    "additionalProperties": False,
    "$defs": {"place": PLACE},
}
TOOLS: tuple[dict[str, Any], ...] = (
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
)
ANYTHING = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def wanted(*called: dict[str, Any], once: bool = False) -> Wanted:
    return Wanted(model="any", tools=TOOLS, called=called, once=once)


@pytest.fixture(scope="module")
def masks() -> Masks:
    found = find_masks(MODEL, model_facts(MODEL))
    assert found is not None
    return found


def drawn(masks: Masks, text: bytes, lots: random.Random, *, most: int) -> str:
    """Any answer, that ends where it may once it is so long."""
    answer: list[int] = []
    while True:
        allowed = Holder(masks, grammar_of(text)).allowed(LookBack((), tuple(answer), text)).nonzero()[0]
        ends = [token for token in allowed if int(token) in masks.stop_tokens]
        if ends and (len(ends) == len(allowed) or len(answer) > most):
            return str(Tokenizer.from_file(str(MODEL / "tokenizer.json")).decode(answer))
        answer.append(int(lots.choice([token for token in allowed if int(token) not in masks.stop_tokens])))


@pytest.mark.parametrize("style", list(ToolStyle))
def test_what_is_drawn_is_calls(masks: Masks, style: ToolStyle) -> None:
    lots = random.Random(7)
    for once in (False, True):
        text = grammar_wanted(wanted(*TOOLS, once=once), style)
        calls = ToolCalls(style, {"weather", "now"})
        said = calls.take(drawn(masks, text, lots, most=30))
        rest, found = calls.end()
        assert (said.strip(), rest) == ("", "")
        assert len(found) == 1 if once else found
        for each in found:
            given = json.loads(each.arguments)
            if each.name == "now":
                assert given == {}
            else:
                assert given["place"] in PLACE["enum"]
                assert 1 <= given["days"] <= 9


def test_one_that_is_named_is_the_only_one() -> None:
    assert b"now" not in grammar_wanted(wanted(TOOLS[0], once=True), ToolStyle.TAGGED)
    assert grammar_wanted(wanted(), ToolStyle.TAGGED) == b"", "held to nothing where it may do as it likes"


def test_arguments_are_an_object_whatever_a_schema_leaves_open(masks: Masks) -> None:
    """Anything else would be read as text, and no call."""
    text = grammar_wanted(wanted(ANYTHING, once=True), ToolStyle.LISTED)
    holder, answer = Holder(masks, grammar_of(text)), list[int]()
    decode = Tokenizer.from_file(str(MODEL / "tokenizer.json")).decode
    while (written := str(decode(answer)).strip()) != '[{"name": "weather", "arguments":':
        (token, *_) = holder.allowed(LookBack((), tuple(answer), text)).nonzero()[0]
        answer.append(int(token))
        assert len(answer) < 99, written
    follows = holder.allowed(LookBack((), tuple(answer), text)).nonzero()[0]
    assert {str(decode([*answer, int(each)])).removeprefix(written).strip()[:1] for each in follows} <= {"", "{"}


@pytest.mark.parametrize("parameters", ["text", [], {"type": "string"}, {"enum": ["x" * (1 << 16)]}])
def test_parameters_that_are_no_schema_are_refused(parameters: object) -> None:
    tool = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
    with pytest.raises(ConfigurationError) as refused:
        grammar_wanted(wanted(tool), ToolStyle.BARE)
    assert refused.value.code == "grammar"
