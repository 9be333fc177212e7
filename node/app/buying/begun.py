"""The beginning of an answer whose market went away: what another market, or this machine, goes on from."""

from __future__ import annotations

from dataclasses import dataclass

from node.app.buying.request import Request
from node.app.buying.written import Written
from node.app.models.obtaining import Text
from node.gateway.limits import Limits
from protocol.session.shaping import begun_with
from protocol.session.terms import SamplingTerms

__all__ = ["Begun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Tokens that came stand; they are drawn by position, so those that follow are the ones that would have come."""

    id: str
    """Of the answer that broke off."""
    prompt: tuple[int, ...]
    """Token ids, as they were asked."""
    tokens: tuple[int, ...]
    """Token ids that came, at least one."""
    most: int
    """Generated tokens at most, those that came included."""
    sampling: SamplingTerms
    grammar: bytes
    """Text of what the answer is held to; empty for nothing."""
    written: Written
    """The prompt as text."""
    text: Text
    """Has decoded the tokens that came, and a character's beginning with them."""
    said: str
    """What they said."""

    @property
    def left(self) -> int:
        """Tokens that may still come."""
        return self.most - len(self.tokens)

    @property
    def drawn(self) -> SamplingTerms:
        """How the others are drawn."""
        return self.sampling.replace(shaping=begun_with(self.sampling.shaping, len(self.tokens)))

    def request(self, *, model: str, limits: Limits) -> Request:
        """What is still wanted. Nobody there holds anything of it, so all of it is a prompt.

        Args:
            model: its root, in hex.
        """
        return Request(
            prompt=(*self.prompt, *self.tokens),
            model=model,
            most=self.left,
            sampling=self.drawn,
            grammar=self.grammar,
            policy=limits.as_policy(),
            **limits.as_ends(),
        )
