"""Answers that are held to a grammar or a JSON Schema: its text, and whose offers are for such answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from protocol.errors import ConfigurationError, InvalidError, RefusedError, RoutingError
from protocol.identity.ids import ModelManifest
from protocol.market.offer import Offer
from protocol.routing.choice import covers
from protocol.session.grammar import MASKS, MAX_GRAMMAR_BYTES, grammar_of
from protocol.session.shaping import held_to
from protocol.session.terms import SamplingTerms

__all__ = ["covers_held", "grammar_text", "held_offers", "held_to_text", "of_schema", "require_readable", "schema_text"]

SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""What the masks' maker is told of spaces in JSON, where a schema says nothing: one after a comma or a colon, or none.
With as many as it likes a small model writes nothing else."""


def of_schema(schema: object) -> bytes:
    """The grammar of the JSON values that a JSON Schema allows. Raises ConfigurationError (``grammar``)."""
    return grammar_text(f"start: %json {schema_text(schema)}\n".encode())


def schema_text(schema: object) -> str:
    """A JSON Schema as a grammar has it. Raises ConfigurationError (``grammar``)."""
    if not isinstance(schema, dict):
        raise _unfit("a JSON Schema is an object")
    told: Any = schema if "x-guidance" in schema else {**schema, "x-guidance": SPACING}
    try:
        text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (ValueError, RecursionError):  # a half of a character, a number that JSON has not, or too deep
        raise _unfit("the JSON Schema cannot be written as JSON") from None
    return text


def grammar_text(text: bytes) -> bytes:
    """The same, if terms can name it. Raises ConfigurationError (``grammar``)."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise _unfit("the grammar is not in UTF-8") from None
    if not 0 < len(text) <= MAX_GRAMMAR_BYTES:
        raise _unfit(f"the grammar has {len(text)} bytes; 1 to {MAX_GRAMMAR_BYTES} are taken")
    return text


def held_to_text(sampling: SamplingTerms, text: bytes) -> SamplingTerms:
    """The same, for an answer that is held to a grammar; empty for none. Raises ConfigurationError."""
    try:
        return sampling.replace(shaping=held_to(sampling.shaping, grammar_of(text) if text else None))
    except InvalidError as error:
        raise _unfit(error.message) from None


def require_readable(text: bytes) -> None:
    """Where the masks of this release can be made here: see that a grammar comes to an end within their bounds.

    It takes 0.1 s or more. Elsewhere whoever draws sees to that. Raises ConfigurationError.
    """
    from node.engine.masks import masks_here, try_grammar

    if not text or masks_here() != MASKS:
        return
    try:
        try_grammar(text)
    except RefusedError as error:
        raise _unfit(error.message) from None


def _takes_part(offer: Offer, blocks: int, text: bytes) -> bool:
    """Whether an offer may be used: one that reaches the model's last block draws, by the masks of this release."""
    return not text or offer.span.end < blocks or offer.masks == MASKS


def covers_held(offers: Sequence[Offer], *, manifest: ModelManifest, text: bytes) -> bool:
    """Whether offers leave no block of a model out, for an answer that is held to a grammar."""
    return covers([each for each in offers if _takes_part(each, manifest.blocks, text)], manifest.root.hex())


def held_offers(offers: Sequence[Offer], blocks: int, text: bytes) -> list[Offer]:
    """Those that may be used for an answer that is held to a grammar; all of them where it is held to nothing.

    Raises RoutingError (``grammar``): no provider of the model's last blocks offers that.
    """
    masks = {offer.masks for offer in offers if offer.span.end == blocks}
    if text and masks and MASKS not in masks:
        raise RoutingError(
            "no provider of the model's last blocks offers answers that are held to a grammar",
            code="grammar",
            hint=f"ask without one, or of providers with {MASKS}",
        )
    return [offer for offer in offers if _takes_part(offer, blocks, text)]


def _unfit(why: str) -> ConfigurationError:
    return ConfigurationError(why, code="grammar")
