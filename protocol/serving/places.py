"""Who gets a place to be served at, who gives one up, and for how long a job may stand still (clauses O11, O12).

A place is what a job holds at a leg: room in its engine, and one of its turns. A client that has paid here before is
known; all others share a part of the places, so that no number of new keys shuts the known ones out. Some places are
kept for newcomers, so that those who pay all the time do not shut them out either; and of newcomers none holds one for
long that it makes little use of, while others want it. Integers and seconds only: `node.pipeline.serving` keeps the
table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from protocol.errors import RefusedError
from protocol.reputation.standing import Standing, shunned_until

__all__ = [
    "BELOW_S",
    "GIVE_WAY_S",
    "POSITION_S",
    "TURN_S",
    "Held",
    "Rank",
    "Waits",
    "free_for_newcomers",
    "guests_part",
    "kept_for_newcomers",
    "make_room",
    "quota",
    "rank_of",
]

FEW = 4
"""Places that a client may hold at a small node, too: a person has a few conversations open at once."""
GIVE_WAY_S = 3.0
"""Seconds for which a job must have stood still before it gives way: twice what an honest one waits on a slow day."""
BELOW_S = 1.0
"""The same for a job of a client that ranks lower than the one who comes: it has let places lapse before."""
TURN_S = 60.0
"""Seconds for which a newcomer's job may have stood still in all, however little at a time, and keep its place."""
POSITION_S = 2.0
"""Seconds that each paid position adds to the time until the next voucher: slower than any ring that serves people."""


class Rank(IntEnum):
    """How a client stands here; the lower gives way to the higher."""

    SHUNNED = 0
    """Has left credit unpaid, or let places lapse just now."""
    NEWCOMER = 1
    """Nothing good is known of it."""
    KNOWN = 2
    """Has paid for what it was served here."""


class Waits(StrEnum):
    """What a job waits for, and so how long it may."""

    WORK = "work"
    """For the engine: its rows are here, and paid. That is this node's own affair."""
    ATTACH = "attach"
    """For its client, to attach."""
    CLIENT = "client"
    """For its client, and nobody else: to send what it ordered, to pay on, or to say the last word."""
    OTHERS = "others"
    """For other legs, or for its client that may itself wait for them."""

    @property
    def is_on_client(self) -> bool:
        """Whether nobody but its client is waited for: a place that is lost then has lapsed."""
        return self in (Waits.ATTACH, Waits.CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A place that is taken."""

    session: bytes
    client: bytes
    """Its address."""
    rank: Rank
    """Of its client, as it stands now."""
    still_s: float
    """Seconds since paid work last moved on; 0 for one that waits for the engine."""
    waited_s: float = 0.0
    """Seconds in all in which it did not wait for the engine."""


def rank_of(standing: Standing, now: int) -> Rank:
    """How a client stands at `now`, Unix seconds: for as long as it is to be shunned, one rank lower."""
    if standing.offended:
        return Rank.SHUNNED
    rank = Rank.NEWCOMER if standing.is_newcomer else Rank.KNOWN
    return Rank(rank - 1) if shunned_until(standing) > now else rank


def guests_part(most: int) -> int:
    """Of `most` places, those that clients without history share: half, and one at least."""
    return max(1, most // 2)


def kept_for_newcomers(most: int) -> int:
    """Of `most` places, those that known clients cannot take: an eighth, and one at least where there are a few."""
    return 0 if most < FEW else max(1, most // 8)


def quota(rank: Rank, most: int) -> int:
    """Places that one client of this rank may hold.

    Of `most`, a known one holds half and a newcomer a quarter, but a few of those that are open to it at any rate.
    """
    if rank is Rank.KNOWN:
        return min(most, max(FEW, most // 2))
    return min(guests_part(most), max(FEW, most // 4)) if rank is Rank.NEWCOMER else 1


def make_room(held: Sequence[Held], client: bytes, rank: Rank, most: int) -> bytes | None:
    """The session that gives up its place to a new job of this client; None where a place is free.

    Where all places that are open to the client are taken, the job of the lowest rank, and among these the one that
    stood still for longest, gives way: after `GIVE_WAY_S`, or `BELOW_S` where it ranks lower. One that moves on does
    not, nor one of a client that ranks higher; but a newcomer's does that has stood still for `TURN_S` in all.

    Raises RefusedError with code ``full``.
    """
    if sum(each.client == client for each in held) >= quota(rank, most):
        raise RefusedError(f"this client holds {quota(rank, most)} places here already", code="full")
    guests = [each for each in held if each.rank < Rank.KNOWN]
    known = [each for each in held if each.rank is Rank.KNOWN]
    kept = kept_for_newcomers(most)
    if rank < Rank.KNOWN and len(guests) >= guests_part(most):
        taken, around = f"all {guests_part(most)} places for clients without history here are taken", guests
    elif rank is Rank.KNOWN and len(known) >= most - kept:
        taken, around = f"all {most - kept} places that are not kept for clients without history are taken", known
    elif len(held) >= most:
        taken, around = f"all {most} places are taken", list(held)
    else:
        return None
    still = [each for each in around if _gives_way(each, rank)]
    if not still:
        raise RefusedError(taken, code="full")
    return min(still, key=lambda each: (each.rank, -each.still_s, -each.waited_s)).session


def _gives_way(held: Held, to: Rank) -> bool:
    if held.rank > to:
        return False
    had_its_turn = held.rank < Rank.KNOWN and held.waited_s >= TURN_S
    return had_its_turn or held.still_s >= (BELOW_S if held.rank < to else GIVE_WAY_S)


def free_for_newcomers(held: Sequence[Held], most: int) -> int:
    """Places that a client without history would find, those that would give way to it included: an offer says it."""
    guests = [each for each in held if each.rank < Rank.KNOWN]
    still = sum(_gives_way(each, Rank.NEWCOMER) for each in guests)
    return min(guests_part(most), still + max(0, min(most - len(held), guests_part(most) - len(guests))))
