"""What is known of one session in which a node guesses ahead: its tokens, its pace, and what is on its way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from node.pipeline.serving.places import Served
from node.ports import DraftAsk
from protocol.drafting.drafts import Guessing
from protocol.drafting.speculation import NONE, Pace, Pacer

__all__ = ["Ask", "Draft", "Sent"]


class Sent(NamedTuple):
    """One launch that is not back."""

    end: int
    """One past the position of its last row."""
    rows: int
    at_s: float
    clear: bool
    """Whether it could run at once: what has waited for a payment says nothing about the ring."""
    first: bool
    """Whether none was under way before it, which it would have waited for."""


@dataclass(slots=True)
class Ask:
    """For guesses, made in the worker."""

    served: Served
    draft: Draft
    version: int
    """Of the draft when it asked."""
    begin: int
    """Position of the first guess."""
    stand: int
    """So many of the draft's tokens stood."""
    ask: DraftAsk


@dataclass(slots=True)
class Draft:
    """One session in which this node guesses ahead."""

    guessing: Guessing
    pacer: Pacer
    tokens: list[int] = field(default_factory=list)
    """All that stand, from `begins` on."""
    begins: int = 0
    """Position of the first of them."""
    untold: int = 0
    """The drafter knows of so many of them."""
    known: tuple[int, tuple[int, ...]] = (0, ())
    """After a reroute: tokens that stand, and the position of the first, until those before them are there."""
    pace: Pace = NONE
    paced: bool = False
    """Whether `pace` was chosen for what is launched next."""
    chosen: tuple[int, float] = (0, 0.0)
    """Tokens that stood when it was, and when that was; none before the first."""
    dry: bool = False
    """The drafter has nothing to say about how this goes on."""
    version: int = 0
    """Changes when guesses are refuted."""
    asks: bool = False
    given_up: bool = False
    """Something failed over it: nothing is guessed any more, and what is under way is counted to its end."""
    right: int = 0
    """Guesses in a row that were right."""
    silent: deque[int] = field(default_factory=deque)
    """Guesses that are not sent: what they would be worth, while it does not pay to send any."""
    sent: deque[Sent] = field(default_factory=deque)
    in_pass: Sent | None = None
    """The launch that is in this leg's own blocks, or waits for them."""

    def choose(self, now_s: float, *, sharing: int) -> None:
        tokens, since_s = self.chosen
        if tokens:
            self.pacer.came(self.guessing.certain - tokens, now_s - since_s)
        self.chosen = self.guessing.certain, now_s
        self.paced, self.pace = True, self.pacer.next_pace(sharing=sharing)

    def ids(self, position: int, count: int) -> tuple[int, ...]:
        at = position - self.begins
        return tuple(self.tokens[at : at + count])
