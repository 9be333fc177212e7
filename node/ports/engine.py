"""What computes: some blocks of a model, what guesses ahead, and what counts joules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from protocol.encoding.compiled import with_quick_init
from protocol.energy.energy_shares import Worked
from protocol.identity.ids import BlockSpan
from protocol.market.offer import Provenance
from protocol.session.shaping import LookBack
from protocol.session.terms import SamplingTerms

__all__ = [
    "GREEDY",
    "Activations",
    "DraftAsk",
    "Drafter",
    "EnergyAccount",
    "SpanEngine",
    "StepInput",
    "StepOutput",
]

Activations = np.ndarray[Any, np.dtype[np.float32]]
"""Rows of activations, ``[positions, hidden_size]``."""


GREEDY = SamplingTerms(temperature_milli=0, seed=0)
"""Always the likeliest token."""


@with_quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """One session's part of a forward pass."""

    session: bytes
    position: int
    """Of the first row: where the session's KV ends, or before; what it holds from there on is forgotten first."""
    length: int
    data: Sequence[int] | Activations
    """Token ids at the first span, else activations ``[length, hidden_size]``."""
    draws: int
    """Last span: draw a token after each of so many of the last rows; 0 for none."""
    before: LookBack | None = None
    """Last span, where draws look back: up to the token of the first row that is drawn after, which it includes."""


@with_quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What came out, in the order of the inputs."""

    session: bytes
    position: int
    length: int
    hidden: Activations
    """The last block's output; what the next leg receives, and what the sketch is taken of."""
    tokens: tuple[int, ...]
    """The tokens drawn, as many as were asked for."""
    said: tuple[bytes, ...] = ()
    """By token, its log probabilities (`protocol.session.logprobs`), where the session's sampling asks for them."""


class SpanEngine(Protocol):
    """Some blocks of a model, and the KV of the sessions that run through them. Used from one worker."""

    def open(
        self,
        session: bytes,
        *,
        max_tokens: int,
        sampling: SamplingTerms = GREEDY,
        blocks: BlockSpan | None = None,
        first: int | None = None,
    ) -> None:
        """Room for a session through some of the blocks, all by default; its `first` positions have pages from the
        beginning, by default all of them. Raises RefusedError without room.
        """

    @property
    def kv_capacity(self) -> int:
        """Positions that there is room for."""

    @property
    def kv_free(self) -> int:
        """Positions for which there are pages that no session has."""

    def grow(self, session: bytes, tokens: int) -> None:
        """See that a session's first `tokens` positions, or all that it may have, have pages.

        Raises RefusedError without room, and MalformedError for one that is not open: all is as it was.
        """

    def empty(self, session: bytes) -> None:
        """Free all pages of a session, which stays open and begins anew; one that is not open is ignored."""

    def trim(self, session: bytes, length: int) -> int:
        """Forget positions from `length` on and free the room beyond them; the room that is kept, in positions.

        Raises MalformedError when there are fewer.
        """

    def adopt(
        self,
        old: bytes,
        new: bytes,
        *,
        length: int,
        max_tokens: int,
        sampling: SamplingTerms = GREEDY,
        blocks: BlockSpan | None = None,
        first: int | None = None,
        keep: bool = False,
    ) -> None:
        """Open a session with the first `length` positions of one that is over, which is gone then, unless it is kept.

        Raises RefusedError as `open`, and MalformedError for an old one that is not open or has fewer positions: it
        stays as it was.
        """

    def close(self, session: bytes) -> None:
        """Free a session's KV; unknown sessions are ignored."""

    def length(self, session: bytes) -> int:
        """Positions of a session that are in the KV. Raises MalformedError for one that is not open."""

    def rollback(self, session: bytes, length: int) -> None:
        """Forget a session's positions from `length` on. Raises MalformedError when there are fewer."""

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        """One packed pass. A bad item gives a PeerError in its place and leaves the others alone."""


class DraftAsk(NamedTuple):
    """For guesses in one sequence."""

    session: bytes
    guesses: tuple[int, ...]
    """Tokens after the certain ones that are guessed already, and under way."""
    wanted: int
    """How many more, at least 1."""


class Drafter(Protocol):
    """Guesses how token sequences go on. What it says costs or gains time, and never changes an answer.

    Used from one worker, unless it is instant. It bounds its own memory: for sequences beyond that it has no guesses.
    """

    @property
    def instant(self) -> bool:
        """Whether a call takes microseconds, so that it needs no worker."""

    def begin(self, session: bytes, *, max_tokens: int, prompt: int = 0, sampling: SamplingTerms = GREEDY) -> None:
        """A sequence begins, of at most so many tokens, of which the first `prompt` are not the answer's."""

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        """These tokens come next in a sequence, and stand. One that is not known is ignored."""

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        """For each ask, in order, at most so many ids as it wants; none where nothing comes to mind."""

    def end(self, session: bytes) -> None:
        """A sequence is over; one that is not known is ignored."""


class EnergyAccount(Protocol):
    """Attributes measured joules to the sessions that they were spent on."""

    @property
    def source(self) -> Provenance:
        """Where its figures come from; `UNKNOWN` while there are none."""

    def begin(self) -> None:
        """A pass is about to begin."""

    def record(self, worked: Sequence[Worked]) -> None:
        """It has ended; this was computed in it."""

    def spent(self, session: bytes) -> int | None:
        """Millijoules of a session up to now, for its next receipt; it never falls.

        None while nothing is known, and then as long as the session runs.
        """

    def end(self, session: bytes) -> int | None:
        """A session is over: its millijoules in all, None where they are not known. Once more, and it had nothing."""
