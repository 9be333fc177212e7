"""What one party remembers of another, and what follows from it: whom to avoid, whom to trust with how much.

Nobody else's word is in it. It is counted from own jobs, by the day, and forgotten after `KEPT_DAYS`
(docs/spec/market.md, clauses M10 to M13).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

__all__ = [
    "DAY_S",
    "FAILURES",
    "KEPT_DAYS",
    "MERITS",
    "NEWCOMER",
    "OFFENCES",
    "Deed",
    "Standing",
    "Tally",
    "granted_credit",
    "shunned_until",
    "why_shunned",
]

DAY_S = 24 * 3600
"""Deeds are counted by the day."""
KEPT_DAYS = 30
"""A deed is forgotten so many days after it."""
FIRST_PAUSE_S = 60
"""A peer is left alone for so long after one failure; twice as long after each further one."""
LONGEST_PAUSE_S = DAY_S
"""No number of failures costs more than this."""
MOST_DRIFTS = 5
"""Jobs in which a provider's times did not add up, of all that it served more than half: then it is left alone for a
day after the last."""
CREDIT_SHARE = 10
"""One tenth of what a client has paid here is the most that it is served ahead of its payment."""


class Deed(StrEnum):
    """Something that a peer did, or failed to do, towards this party."""

    SERVED = "served"
    """As a provider: its leg of a job, to the end."""
    PAID = "paid"
    """As a client: a job to its last voucher."""
    FAILED = "failed"
    """As a provider: ended a job that it had taken, or refused what it had offered."""
    SILENT = "silent"
    """As a provider: did not answer, or took a job and then said nothing."""
    LATE = "late"
    """As a provider: most tokens of a job came later than its offer says. They cost less: it is no more than told."""
    ADRIFT = "adrift"
    """As a provider: tokens came much later than the legs' own signed times add up to, and they say that they were not
    late. It may be the way, or another leg of the route: only who is met with it again and again answers for it."""
    DISPUTED = "disputed"
    """As a provider: what it signed and what its neighbour signed contradict each other, so one of the two lied."""
    LIED = "lied"
    """As a provider: signed what contradicts itself, the facts, or what its hardware can do."""
    MISMATCHED = "mismatched"
    """As a provider: convicted by a spot check."""
    LAPSED = "lapsed"
    """As a client: took a place and let it lapse without paying on."""
    DEFAULTED = "defaulted"
    """As a client: left tokens unpaid that were served on credit."""


FAILURES = (Deed.FAILED, Deed.SILENT, Deed.DISPUTED, Deed.LAPSED)
"""What may happen to the honest, or be a neighbour's doing: the peer is left alone for a while, longer each time."""
OFFENCES = (Deed.LIED, Deed.MISMATCHED, Deed.DEFAULTED)
"""What no honest peer does: it is left alone for as long as it is remembered."""
MERITS = (Deed.SERVED, Deed.PAID)


@dataclass(frozen=True, slots=True)
class Tally:
    """How often, for how much, and when last."""

    count: int = 0
    amount: int = 0
    """Micro-units that moved between the two."""
    last_at: int = 0
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One peer's deeds, as far as they are remembered."""

    tallies: Mapping[Deed, Tally] = field(default_factory=lambda: MappingProxyType({}))
    failures_in_row: int = 0
    """`FAILURES` since the last merit."""

    def of(self, deed: Deed) -> Tally:
        """The tally of one deed."""
        return self.tallies.get(deed, Tally())

    @property
    def is_newcomer(self) -> bool:
        """Whether nothing good is known of it."""
        return not any(self.of(deed).count for deed in MERITS)

    @property
    def offended(self) -> bool:
        """Whether it did what no honest peer does."""
        return any(self.of(deed).count for deed in OFFENCES)


NEWCOMER = Standing()


def shunned_until(standing: Standing) -> int:
    """Until when to do without this peer where there is another, Unix seconds; 0 for not at all (clause M11)."""
    until = 0
    offended = [standing.of(deed).last_at for deed in OFFENCES if standing.of(deed).count]
    if offended:
        until = max(offended) + KEPT_DAYS * DAY_S
    drift = standing.of(Deed.ADRIFT)
    if drift.count >= MOST_DRIFTS and 2 * drift.count > standing.of(Deed.SERVED).count:
        until = max(until, drift.last_at + DAY_S)
    if standing.failures_in_row:
        last = max(standing.of(deed).last_at for deed in FAILURES)
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S << min(standing.failures_in_row - 1, 20))
        until = max(until, last + pause)
    return until


def why_shunned(standing: Standing, now: int) -> str | None:
    """Why a peer is done without now, for people; None where it is not.

    Args:
        now: Unix seconds.
    """
    until = shunned_until(standing)
    if until <= now:
        return None
    left = f"left out for {_span(until - now)} more"
    offences = {deed: standing.of(deed) for deed in OFFENCES if standing.of(deed).count}
    if offences:
        deed = max(offences, key=lambda each: offences[each].last_at)
        return f"{_WORDS[deed]} {_span(now - offences[deed].last_at)} ago: {left}"
    if not standing.failures_in_row:
        drift = standing.of(Deed.ADRIFT)
        return f"its own times did not add up in {drift.count} jobs, last {_span(now - drift.last_at)} ago: {left}"
    last = max(standing.of(deed).last_at for deed in FAILURES)
    times = "once" if standing.failures_in_row == 1 else f"{standing.failures_in_row} times in a row"
    return f"it failed you {times}, last {_span(now - last)} ago: {left}"


_WORDS = {
    Deed.LIED: "it signed what cannot be true,",
    Deed.MISMATCHED: "a spot check convicted it,",
    Deed.DEFAULTED: "it left unpaid what it was served,",
}


def _span(seconds: int) -> str:
    for unit, length in (("days", DAY_S), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{max(0, seconds)} s"


def granted_credit(standing: Standing, *, price_out: int, window: int, least: int) -> int:
    """Generated tokens that a leg serves this client before they are paid (clause M12).

    Args:
        price_out: micro-units per million generated tokens.
        window: generated tokens in one window, the most that is ever granted.
        least: what the leg's offer grants to anybody.
    """
    if standing.offended:
        return 0
    earned = standing.of(Deed.PAID).amount // CREDIT_SHARE * 1_000_000 // max(1, price_out)
    return min(window, max(least, earned))
