"""What a re-execution says about the legs of a job: who is convicted, and when nobody can be.

An auditor computes every leg's part of every window again, up to one that was drawn, and holds the signed sketches
against its own. An honest leg's output follows from what entered; so the first mismatch in causal order is its maker's,
unless what entered can explain it: a deviation too small to be seen may grow on its way through honest blocks, at most
by a gain that has been measured (docs/spec/audit.md, clause F9). Such a mismatch convicts nobody.

Commit before the draw: the receipts stand in a voucher that was settled in a checkpoint; the draw follows from that
checkpoint's root, which no provider knew when it signed (clause F10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from protocol.encoding.codec import Message, message
from protocol.errors import InvalidError
from protocol.identity.ids import BlockSpan, Tokens
from protocol.models.activations import Tolerance
from protocol.session.messages import LegNumber
from protocol.session.terms import Assignment

__all__ = ["Draw", "Judgement", "Observation", "Verdict", "draw", "judge"]


@message()
class Draw(Message):
    """How far an auditor goes: every leg up to this one, in every window up to this one."""

    window: Tokens
    """Index of the window, from 0."""
    leg: LegNumber
    """Place in the window's route, from 0."""


class Verdict(StrEnum):
    """What a re-execution found."""

    MATCH = "match"
    """Every signed sketch is the model's, within the tolerance, and every token the one drawn."""
    MISMATCH = "mismatch"
    """One is not, and nothing that entered the leg explains it: the leg is convicted."""
    INCONCLUSIVE = "inconclusive"
    """One is not, and nobody can be convicted of it."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One leg's part of one window, held against its re-execution."""

    seat: Assignment
    """Who served which blocks."""
    distance_ppm: int | None
    """Between the signed sketch of what left and the one made again, in millionths; None where none was shown."""
    margin: int = 0
    """The most that a token which the leg drew lies below the best one, in millionths of a logit."""
    holder: bytes = b""
    """Names who keeps the keys and values of this part, where one session continues another; else its leg does."""
    redrawn: bool = True
    """Whether all tokens that the leg drew could be drawn again (clause F13)."""

    @property
    def kept(self) -> tuple[bytes, BlockSpan]:
        """The keys and values that this part went into."""
        return self.holder or bytes([self.seat.leg]), self.seat.span


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, and what it rests on: the mismatch, or where there is none the greatest distance."""

    verdict: Verdict
    reason: str
    """For people."""
    window: int
    """Index of the window."""
    leg: int
    """Index in the session's legs; the one convicted, where the verdict is a mismatch."""
    distance_ppm: int
    """Between the two sketches."""
    inherited_ppm: int
    """The greatest distance of what had entered the leg until then."""
    limit_ppm: int
    """The greatest distance that an honest leg can be at with such an input."""
    margin: int
    """Of the leg's tokens, in millionths of a logit."""
    margin_limit: int
    """The greatest margin that an honest leg's tokens can have with such an input."""


def draw(seed: bytes, session: bytes, windows: int, legs: int) -> Draw:
    """The window and the leg that `seed` picks, each equally likely to within 2**-100.

    Raises:
        InvalidError: there is nothing to draw from.
    """
    if windows < 1 or legs < 1:
        raise InvalidError("a job without receipts cannot be audited")
    number = int.from_bytes(hashlib.sha256(b"joulemesh draw\n" + seed + session).digest(), "big")
    return Draw(window=number % windows, leg=number // windows % legs)


def judge(windows: Sequence[Sequence[Observation]], tolerance: Tolerance) -> Judgement:
    """The verdict on everything observed (docs/spec/audit.md, clause F9).

    Args:
        windows: for each window from the first on, what was observed of each leg from the first on, in the order of its
            route.

    Raises:
        InvalidError: nothing was observed.
    """
    found: list[Judgement] = []
    doubtful: Judgement | None = None
    for index, window in enumerate(windows):
        for place, seen in enumerate(window):
            if seen.distance_ppm is None:
                continue
            judgement = _judge_one(windows[: index + 1], place, tolerance)
            if judgement.verdict is Verdict.MISMATCH:
                return judgement
            if judgement.verdict is Verdict.INCONCLUSIVE and doubtful is None:
                doubtful = judgement
            found.append(judgement)
    if not found:
        raise InvalidError("no sketch was observed: there is nothing to judge")
    return doubtful or max(found, key=lambda each: each.distance_ppm)


def _judge_one(windows: Sequence[Sequence[Observation]], place: int, tolerance: Tolerance) -> Judgement:
    """One leg's part of the last of these windows, by all that came before it."""
    seen = windows[-1][place]
    entered = [_entered(window, seen) for window in windows]
    inherited = max((distance for distance in entered if distance is not None), default=0)
    limit, margin_limit = tolerance.distance_ppm, tolerance.margin
    if place:
        limit += tolerance.gain * (inherited + 1)  # distances are rounded down
        margin_limit += tolerance.margin_gain * (inherited + 1)
    distance = seen.distance_ppm or 0
    if distance <= tolerance.distance_ppm and seen.margin <= tolerance.margin:
        verdict, reason = Verdict.MATCH, "within what rounding explains"
        if not seen.redrawn:
            verdict, reason = Verdict.INCONCLUSIVE, "the masks that its tokens were drawn by cannot be made here"
    elif None in entered:
        verdict, reason = Verdict.INCONCLUSIVE, "what entered the leg in an earlier window was not shown"
    elif any(_is_off(each, tolerance) for window in windows for each in _before(window, seen.seat)):
        verdict, reason = Verdict.INCONCLUSIVE, "what entered the leg was off already"
    elif distance <= limit and seen.margin <= margin_limit:
        verdict, reason = Verdict.INCONCLUSIVE, "what entered, off by less than can be seen, could have grown to this"
    else:
        verdict, reason = Verdict.MISMATCH, "nothing that entered the leg explains it"
    return Judgement(
        verdict=verdict,
        reason=reason,
        window=len(windows) - 1,
        leg=seen.seat.leg,
        distance_ppm=distance,
        inherited_ppm=inherited,
        limit_ppm=limit,
        margin=seen.margin,
        margin_limit=margin_limit,
    )


def _before(window: Sequence[Observation], seat: Assignment) -> list[Observation]:
    """Legs whose blocks come before those of a seat."""
    return [each for each in window if each.seat.span.end <= seat.span.start]


def _entered(window: Sequence[Observation], seen: Observation) -> int | None:
    """How far off what entered this very leg was; None where that is not known, also of token ids: of what it was fed
    when it joined nobody has signed that it was this sequence.
    """
    if all(each.kept != seen.kept for each in window):
        return None
    start = seen.seat.span.start
    return next((each.distance_ppm for each in window if each.seat.span.end == start), None) if start else 0


def _is_off(seen: Observation, tolerance: Tolerance) -> bool:
    return seen.distance_ppm is not None and seen.distance_ppm > tolerance.distance_ppm
