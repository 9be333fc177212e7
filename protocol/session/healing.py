"""How a session goes on without some of its legs: which standbys serve what (docs/spec/session.md, clause H2)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.identity.ids import BlockSpan
from protocol.session.messages import Session, session_id
from protocol.session.terms import Assignment, Reroute, Terms, route_at

__all__ = ["Standing", "choose_standbys", "held_up_at", "next_reroute", "out_of_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a leg said of a session when it was asked (`frames.Stands`)."""

    arrived: int
    """Positions that have come in."""
    processed: int
    """Positions that have gone through its blocks."""
    replays: bool
    """Whether it can send again all that it sent."""


def choose_standbys(route: Sequence[BlockSpan], spares: Sequence[BlockSpan], count: int) -> list[int]:
    """Which of some spares to reserve, so that as many legs as can be have one that could replace them.

    Args:
        route: what each leg serves.
        spares: what each could serve; the better ones first.
        count: so many at most.

    Returns:
        Their indices, in the order in which they were chosen.
    """
    chosen: list[int] = []
    covered = [0] * len(route)
    replaces = [[leg for leg, span in enumerate(route) if _holds(spare, span)] for spare in spares]
    while len(chosen) < count:
        left = [spare for spare, legs in enumerate(replaces) if legs and spare not in chosen]
        if not left:
            break
        fewest = min(covered[leg] for spare in left for leg in replaces[spare])
        best = max(left, key=lambda spare: (sum(covered[leg] == fewest for leg in replaces[spare]), -spare))
        chosen.append(best)
        for leg in replaces[best]:
            covered[leg] += 1
    return chosen


def _holds(spare: BlockSpan, span: BlockSpan) -> bool:
    return spare.start <= span.start and span.end <= spare.end


def next_reroute(
    terms: Terms,
    session: Session,
    reroutes: Sequence[Reroute],
    position: int,
    *,
    without: Collection[int],
    standbys: Collection[int],
) -> Reroute | None:
    """The reroute from `position` on that leaves some legs out; None where the standbys do not cover what they served.

    With nobody left out it is the same route once more: links that broke are made anew.

    Args:
        reroutes: those of the session so far.
        without: indices of legs that are gone.
        standbys: indices of legs that may be called, none of which served before.
    """
    route: list[Assignment] = []
    free = set(standbys) - set(without)
    for each in route_at(terms, reroutes, position):
        if each.leg not in without:
            route.append(each)
            continue
        cover = _cover(terms, each.span, free)
        if cover is None:
            return None
        free -= {assignment.leg for assignment in cover}
        route.extend(cover)
    return Reroute(session=session_id(session), number=len(reroutes) + 1, position=position, route=tuple(route))


def _cover(terms: Terms, span: BlockSpan, standbys: Collection[int]) -> list[Assignment] | None:
    """The fewest standbys that serve all blocks of a span; of those that reach as far the cheapest."""
    at, cover = span.start, list[Assignment]()
    while at < span.end:
        reach = [leg for leg in standbys if terms.legs[leg].span.start <= at < terms.legs[leg].span.end]
        if not reach:
            return None
        best = max(reach, key=lambda leg: (min(terms.legs[leg].span.end, span.end), -_price(terms, leg), -leg))
        end = min(terms.legs[best].span.end, span.end)
        cover.append(Assignment(leg=best, span=BlockSpan(start=at, end=end)))
        standbys = set(standbys) - {best}
        at = end
    return cover


def _price(terms: Terms, leg: int) -> int:
    """Of a token through one block, in millionths of what it really is: to compare."""
    rates, span = terms.legs[leg].rates, terms.legs[leg].span
    return (rates.price_in + rates.price_out) * 1_000_000 // len(span)


def held_up_at(route: Sequence[int], standings: dict[int, Standing], base: int) -> int | None:
    """The first leg, in the order of the ring, that has what it needs and does not send on; None where all wait for a
    message that was lost on its way.

    Args:
        route: indices of legs, first block to last; all of them have answered.
        base: position from which on the route signs: below it legs need not all have been fed.
    """
    for leg in route:
        standing = standings[leg]
        if standing.arrived > standing.processed and standing.processed >= base:
            return leg
    return None


def out_of_step(route: Sequence[int], standings: dict[int, Standing], prompt: int) -> list[int]:
    """Two neighbours of which one says that it sent what the other says has not come; none where all agree. One of them
    lies, or what was sent was lost.

    Args:
        route: indices of legs, first block to last; all of them have answered, and nothing is under way.
        prompt: tokens of the prompt.
    """
    for left, right in pairwise(route):
        if standings[left].processed > standings[right].arrived:
            return [left, right]
    drawn, fed = standings[route[-1]].processed, standings[route[0]].arrived
    return [route[0], route[-1]] if len(route) > 1 and prompt <= drawn and fed <= drawn else []
