"""What was said of tokens, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.app.models.obtaining import Text
from node.gateway import Likelihood, Said
from protocol.session.logprobs import LogProb, unpack_said

__all__ = ["LikelyToken", "SaidToken", "said_in", "said_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelyToken:
    """How likely one token was."""

    token: int
    """Its id."""
    text: str
    """What it stands for; bytes that are no whole text are spelled out."""
    logprob: float
    """The natural logarithm of its probability, by the model's own logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidToken:
    """What the last leg said of a token that it drew, and signed for."""

    token: int
    """Its id."""
    text: str
    """What it stands for; bytes that are no whole text are spelled out."""
    logprob: float
    """The natural logarithm of its probability, by the model's own logits: before anything is done to them."""
    likeliest: tuple[LikelyToken, ...]
    """The likeliest tokens in its place, as many as were asked for."""


def said_in(text: Text, said: Sequence[bytes]) -> tuple[Said, ...]:
    """Of each of these tokens, how likely it was, and the likeliest in its place. Raises ModelError."""
    found = []
    for each in said:
        drawn, *likeliest = (_likelihood(text, entry) for entry in unpack_said(each))
        found.append(Said(drawn, tuple(likeliest)))
    return tuple(found)


def said_tokens(text: Text, said: Sequence[bytes]) -> tuple[SaidToken, ...]:
    """The same for a report. Raises ModelError."""
    found = []
    for each in said:
        drawn, *likeliest = (
            LikelyToken(token=entry.token, text=_likelihood(text, entry).text, logprob=entry.logarithm)
            for entry in unpack_said(each)
        )
        found.append(SaidToken(token=drawn.token, text=drawn.text, logprob=drawn.logprob, likeliest=tuple(likeliest)))
    return tuple(found)


def _likelihood(text: Text, entry: LogProb) -> Likelihood:
    return Likelihood(text.bytes_of(entry.token), entry.logarithm)
