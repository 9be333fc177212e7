"""One counter, and the nodes of a machine that read it: each has its part, and none is counted twice (clause M63).

Whoever reads the counter notes it here, with the processor or device time that it has used until then. What was counted
lies in a pool until everybody has noted something since it was last empty. Then it is cut in proportion to the time
that each has used meanwhile. The parts sum up to what the counter counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocol.energy.energy_shares import shares

__all__ = ["AWAY_US", "CounterBook", "Party", "note"]

AWAY_US = 15_000_000
"""Who has noted nothing for so long has no part any more. Without anybody counting begins anew."""
_SLACK_US = 2_000_000
"""Counters are refreshed at times of their own."""
_NJ_PER_UJ = 1_000_000
"""Microwatts times microseconds, in a microjoule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One that reads the counter."""

    joined_us: int
    seen_us: int
    """When it noted something last."""
    work_ns: int
    """Time that it had used then, in all."""
    used_ns: int = 0
    """Of it, since the pool was last shared out."""
    noted: bool = False
    """Whether it has noted something since."""
    uj: int = 0
    """Its part of all that was shared out since it joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterBook:
    """What is known of a counter. Times are of one clock of the machine, in microseconds."""

    at_us: int
    """Of the latest reading."""
    value: int
    """Of it: microjoules, or microwatts."""
    pool_uj: int = 0
    """Counted, and not shared out."""
    gaps: int = 0
    """How often it could not be told what was used: the counter went back or leapt."""
    parties: dict[str, Party] = field(default_factory=dict)


def note(
    book: CounterBook | None,
    *,
    at_us: int,
    value: int,
    is_power: bool,
    who: str,
    work_ns: int,
    most_uw: int | None = None,
    step_uj: int = 0,
) -> CounterBook:
    """The book after `who` has read the counter.

    Args:
        book: None at the first reading.
        value: microwatts where `is_power`, else microjoules.
        work_ns: time that `who` has used in all.
        most_uw: microwatts that cannot be exceeded; a counter that rises faster is not believed.
        step_uj: by so much it may rise at once.
    """
    parties = {} if book is None else {name: each for name, each in book.parties.items() if _is_here(each, at_us)}
    if book is None or not parties:  # nobody was there: what it counted meanwhile is nobody's
        parties[who] = Party(joined_us=at_us, seen_us=at_us, work_ns=work_ns)
        return CounterBook(at_us=at_us, value=value, gaps=0 if book is None else book.gaps, parties=parties)
    counted = _counted(book, at_us, value, is_power=is_power)
    if counted is not None and most_uw is not None:
        most = most_uw * (at_us - book.at_us + _SLACK_US) // _NJ_PER_UJ + 2 * step_uj
        counted = counted if counted <= most else None
    mine = parties.get(who)
    if mine is None:
        parties[who] = Party(joined_us=at_us, seen_us=at_us, work_ns=work_ns)
    else:
        used = max(0, work_ns - mine.work_ns)
        parties[who] = replace(mine, seen_us=at_us, work_ns=work_ns, used_ns=mine.used_ns + used, noted=True)
    after = CounterBook(
        at_us=at_us,
        value=value,
        pool_uj=book.pool_uj + (counted or 0),
        gaps=book.gaps + (counted is None),
        parties=parties,
    )
    return _share_out(after) if all(each.noted for each in parties.values()) else after


def _is_here(party: Party, at_us: int) -> bool:
    """Also without those from before the machine was started anew: its clock was, too."""
    return party.seen_us <= at_us <= party.seen_us + AWAY_US


def _counted(book: CounterBook, at_us: int, value: int, *, is_power: bool) -> int | None:
    """Microjoules since the latest reading; None where nobody knows."""
    if is_power:
        return (book.value + value) * (at_us - book.at_us) // 2 // _NJ_PER_UJ
    return value - book.value if value >= book.value else None


def _share_out(book: CounterBook) -> CounterBook:
    used = [each.used_ns for each in book.parties.values()]
    parts = shares(book.pool_uj, used if any(used) else [1] * len(used))
    parties = {
        name: replace(each, used_ns=0, noted=False, uj=each.uj + part)
        for (name, each), part in zip(book.parties.items(), parts, strict=True)
    }
    return replace(book, pool_uj=0, parties=parties)
