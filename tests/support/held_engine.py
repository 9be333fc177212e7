"""A counting engine whose answers can be held to a grammar, by real masks over a tokenizer of fifty letters."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from counting_engine import VOCABULARY, CountingEngine, next_token

from node.engine.masks import Holder, Masks
from node.ports import StepInput, StepOutput
from protocol.errors import RefusedError
from protocol.session.grammar import Grammar
from protocol.session.shaping import LookBack

LETTERS = '{}[]",: 0123456789abcdefghijklmnopqrstuvwxyz-.'
"""Of tokens from 1 on; 0 is the stop token."""


@functools.cache
def masks() -> Masks:
    vocabulary = {"<end>": 0} | {letter.replace(" ", "Ġ"): at for at, letter in enumerate(LETTERS, 1)}
    vocabulary |= {f"<{at}>": at for at in range(len(vocabulary), VOCABULARY)}
    special = [
        {"id": at, "content": text, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for text, at in vocabulary.items()
        if text.startswith("<")
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer = {"version": "1.0", "added_tokens": special, "pre_tokenizer": level, "decoder": level}
    tokenizer["model"] = {"type": "BPE", "vocab": vocabulary, "merges": []}
    return Masks(json.dumps(tokenizer), VOCABULARY, (0,))


def text_of(tokens: Sequence[int]) -> str:
    return "".join(LETTERS[token - 1] for token in tokens if token)


class HeldEngine(CountingEngine):
    """Draws the first token from the counted one on that the grammar allows."""

    def prepare(self, grammar: Grammar, before: LookBack) -> None:
        masks().prepare(grammar, before)

    def _one(self, item: StepInput) -> StepOutput:
        found = super()._one(item)
        if not item.draws or item.before is None or not item.before.grammar:
            return found
        rows = found.hidden[item.length - item.draws :]
        drawn: list[int] = []
        for at, row in enumerate(rows, item.position + item.length - item.draws):
            counted = next_token(int(row[0]), at) if not row[3] else 1
            drawn.append(held(counted, item.before.with_more(drawn)))
        return StepOutput(
            session=found.session,
            position=found.position,
            length=found.length,
            hidden=found.hidden,
            tokens=tuple(drawn),
        )


def held(counted: int, before: LookBack) -> int:
    """What is drawn in a token's place after this answer. Anew each time: it has no state."""
    from protocol.session.grammar import grammar_of

    allowed = Holder(masks(), grammar_of(before.grammar)).allowed(before)
    found = next((at % VOCABULARY for at in range(counted, counted + VOCABULARY) if allowed[at % VOCABULARY]), None)
    if found is None:
        raise RefusedError("nothing may follow")
    return found
