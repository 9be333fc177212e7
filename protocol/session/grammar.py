"""What an answer is held to: a grammar, and exactly which masks leave out the tokens that break it.

A mask is a function of the grammar, the model's tokenizer and the answer so far. Which function it is, the name of its
maker and version says: releases of one library differ in what they admit. Terms name the grammar by its hash; whoever
draws is told its text. docs/spec/session.md, clause N10, and docs/spec/audit.md, clause F13.
"""

from __future__ import annotations

from typing import Annotated

from protocol.encoding.codec import Message, Uint, message
from protocol.errors import InvalidError, MalformedError
from protocol.identity.ids import Bytes32, Name, keccak256

__all__ = ["MASKS", "MAX_GRAMMAR_BYTES", "Grammar", "check_grammar", "grammar_of"]

MAX_GRAMMAR_BYTES = 64 * 1024
"""Of its text."""
MASKS = "llguidance/1.9.1"
"""The masks that this release makes and asks for."""


@message()
class Grammar(Message):
    """What an answer is held to: a context-free grammar in Lark's notation, as who makes the masks reads it. A JSON
    Schema is one: ``start: %json {...}``.
    """

    size: Annotated[int, Uint(32, MAX_GRAMMAR_BYTES)]
    """Bytes of its text, at least 1."""
    text: Bytes32
    """Keccak-256 of its text in UTF-8."""
    masks: Name
    """Who makes the masks, and in which version: ``llguidance/1.9.1``."""


def grammar_of(text: bytes) -> Grammar:
    """A grammar for terms, with this release's masks. Raises InvalidError for a text that is empty or too long."""
    if not 0 < len(text) <= MAX_GRAMMAR_BYTES:
        raise InvalidError(f"a grammar of {len(text)} bytes; it has 1 to {MAX_GRAMMAR_BYTES}")
    return Grammar(size=len(text), text=keccak256(text), masks=MASKS)


def check_grammar(grammar: Grammar) -> None:
    """Hold it against clause N10. Raises MalformedError."""
    if not grammar.size or not grammar.masks:
        raise MalformedError("a grammar without text, or masks of nobody")
