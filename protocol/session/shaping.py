"""What is done to logits before a token is drawn, and the tokens before it that this depends on.

How it is computed is in docs/spec/audit.md, clause F8; what the last leg is told of the prompt, in
docs/spec/session.md, clause N8.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np

from protocol.encoding.codec import Count, Message, Uint, message
from protocol.errors import MalformedError
from protocol.identity.ids import Bytes32, TokenId, Tokens, keccak256
from protocol.session.grammar import Grammar, check_grammar
from protocol.session.shaping_bounds import (
    LEAST_REPETITION_MILLI,
    MAX_BIAS_MILLI,
    MAX_BIASES,
    MAX_PENALTY_MILLI,
    MAX_REPETITION_MILLI,
    NO_REPETITION_MILLI,
)

__all__ = [
    "NOTHING_BEFORE",
    "LookBack",
    "Shaping",
    "TokenBias",
    "begun_with",
    "bound_to",
    "check_shaping",
    "held_to",
    "look_back",
    "names",
    "shaping_of",
    "told_of",
]


@message()
class TokenBias(Message):
    """What is added to one token's logit."""

    token: TokenId
    """One that the model does not have changes nothing."""
    lift: Annotated[int, Uint(32, 2 * MAX_BIAS_MILLI)]
    """Thousandths of a logit, plus 100,000."""


@message()
class Shaping(Message):
    """How logits are changed before a token is drawn (audit.md, clause F8)."""

    repetition_milli: Annotated[int, Uint(32, MAX_REPETITION_MILLI)] = NO_REPETITION_MILLI
    """Thousandths by which the logits of tokens in the prompt or the answer are divided, negative ones multiplied; 100
    at least, and 1,000 for none."""
    frequency: Annotated[int, Uint(32, 2 * MAX_PENALTY_MILLI)] = MAX_PENALTY_MILLI
    """Thousandths that a token's logit loses for each time that it is in the answer, plus 2,000."""
    presence: Annotated[int, Uint(32, 2 * MAX_PENALTY_MILLI)] = MAX_PENALTY_MILLI
    """Thousandths that the logits of tokens in the answer lose, plus 2,000."""
    biases: Annotated[tuple[TokenBias, ...], Count(0, MAX_BIASES)] = ()
    """By rising token, none of them 0."""
    answered: Tokens = 0
    """So many of the prompt's last tokens count as the beginning of the answer: one that broke off goes on."""
    told: Bytes32 | None = None
    """Keccak-256 of what the last leg is told of the prompt (session.md, clause N8); None where that is nothing."""
    grammar: Grammar | None = None
    """What the answer is held to; None for nothing."""

    @property
    def repeats(self) -> bool:
        """Whether it matters which tokens the prompt has."""
        return self.repetition_milli != NO_REPETITION_MILLI

    @property
    def counts(self) -> bool:
        """Whether it matters how often the answer has a token."""
        return self.frequency != MAX_PENALTY_MILLI or self.presence != MAX_PENALTY_MILLI

    @property
    def looks_back(self) -> bool:
        """Whether a draw depends on the tokens before it."""
        return self.of_answer or self.repeats

    @property
    def of_answer(self) -> bool:
        """Whether it depends on the tokens of the answer, and on where this begins."""
        return self.counts or self.grammar is not None


Ids = np.ndarray[Any, np.dtype[np.int64]]


class LookBack(NamedTuple):
    """The tokens that a draw looks back on."""

    prompt: Ids
    """Different ids, where it matters which the prompt has."""
    answer: tuple[int, ...]
    """The answer so far, from its first token on."""
    grammar: bytes = b""
    """Text of what the answer is held to; empty where that is nothing, or not known."""

    def with_more(self, tokens: Sequence[int]) -> LookBack:
        """After so many more tokens of the answer."""
        return self._replace(answer=(*self.answer, *tokens))

    @property
    def told(self) -> bytes:
        """As the last leg is told of a prompt: ids of 32 bits, little-endian, then the grammar (clause N8)."""
        ids = np.concatenate([self.prompt, np.array(self.answer, dtype=np.int64)])
        return ids.astype("<u4").tobytes() + self.grammar


NOTHING_BEFORE = LookBack(np.zeros(0, dtype=np.int64), ())


def shaping_of(
    *, repetition_milli: int, frequency_milli: int, presence_milli: int, biases: Sequence[tuple[int, int]]
) -> Shaping | None:
    """As terms have it, None where it changes nothing.

    Args:
        frequency_milli: thousandths of a logit, from -2,000 to 2,000, as `presence_milli`.
        biases: token ids, each once, and thousandths of a logit, from -100,000 to 100,000.

    Raises InvalidError for what is out of bounds.
    """
    found = Shaping(
        repetition_milli=repetition_milli,
        frequency=MAX_PENALTY_MILLI + frequency_milli,
        presence=MAX_PENALTY_MILLI + presence_milli,
        biases=tuple(TokenBias(token=token, lift=MAX_BIAS_MILLI + milli) for token, milli in sorted(biases) if milli),
    )
    return None if found == Shaping() else found


def names(shaping: Shaping | None, grammar: bytes) -> bool:
    """Whether this is the text of the grammar that an answer is held to; none where it is held to nothing."""
    named = None if shaping is None else shaping.grammar
    return not grammar if named is None else (len(grammar), keccak256(grammar)) == (named.size, named.text)


def begun_with(shaping: Shaping | None, answered: int) -> Shaping | None:
    """The same, where so many of the prompt's last tokens are the beginning of the answer."""
    return shaping.replace(answered=answered, told=None) if shaping is not None and shaping.of_answer else shaping


def held_to(shaping: Shaping | None, grammar: Grammar | None) -> Shaping | None:
    """The same, for an answer that is held to this grammar, or to none."""
    found = (shaping or Shaping()).replace(grammar=grammar, told=None)
    found = found if found.of_answer else found.replace(answered=0)
    return None if found == Shaping() else found


def check_shaping(shaping: Shaping, *, prompt: int) -> None:
    """Hold it against clause N8. Raises MalformedError."""
    if shaping.repetition_milli < LEAST_REPETITION_MILLI:
        raise MalformedError(f"a repetition penalty below {LEAST_REPETITION_MILLI} thousandths")
    ids = [each.token for each in shaping.biases]
    if any(after <= before for before, after in pairwise(ids)):
        raise MalformedError("the tokens that have a bias do not rise")
    if any(each.lift == MAX_BIAS_MILLI for each in shaping.biases):
        raise MalformedError("a bias of nothing")
    if not (shaping.looks_back or shaping.biases):
        raise MalformedError("what is said to change the logits changes nothing")
    if shaping.answered >= prompt or (shaping.answered and not shaping.of_answer):
        raise MalformedError("more of the prompt counts as answer than can")
    if (shaping.told is not None) is not (shaping.repeats or shaping.answered > 0 or shaping.grammar is not None):
        raise MalformedError("the last leg is told of the prompt where it has to know, and nowhere else")
    if shaping.grammar is not None:
        check_grammar(shaping.grammar)


def look_back(shaping: Shaping | None, prompt: Sequence[int], grammar: bytes = b"") -> LookBack:
    """What draws look back on of the prompt, and the text of what the answer is held to, where that is known."""
    if shaping is None:
        return NOTHING_BEFORE
    different = sorted(set(prompt)) if shaping.repeats else []
    answer = tuple(prompt[max(0, len(prompt) - shaping.answered) :])
    return LookBack(np.array(different, dtype=np.int64), answer, grammar)


def bound_to(shaping: Shaping | None, prompt: Sequence[int], grammar: bytes = b"") -> Shaping | None:
    """The same for this very prompt: what the last leg is told stands behind a hash.

    Args:
        grammar: text of the one that is named.
    """
    told = look_back(shaping, prompt, grammar).told
    return None if shaping is None else shaping.replace(told=keccak256(told) if told else None)


def told_of(shaping: Shaping | None, told: bytes) -> LookBack:
    """What the last leg was told. Raises MalformedError where it is not what the terms name."""
    named = None if shaping is None else shaping.told
    if (named is None) is not (not told) or (named is not None and keccak256(told) != named):
        raise MalformedError("what is said of the prompt is not what the terms name")
    if shaping is None or not told:
        return NOTHING_BEFORE
    ids_end = len(told) - (0 if shaping.grammar is None else shaping.grammar.size)
    if ids_end % 4 or ids_end < 4 * shaping.answered:
        raise MalformedError("what is said of the prompt is no token ids")
    grammar = told[ids_end:]
    if not names(shaping, grammar):
        raise MalformedError("the grammar that is told is not the one that the terms name")
    ids = np.frombuffer(told[:ids_end], dtype="<u4").astype(np.int64)
    different = len(ids) - shaping.answered
    return LookBack(ids[:different], tuple(ids[different:].tolist()), grammar)
