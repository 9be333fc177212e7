"""Who is owed what for which positions, and how far a leg may go before it is paid. Kernels run on ints and arrays.

Positions, tokens and windows: a leg processes positions 0, 1, 2, ... of a session. The first `prompt` of them are the
prompt; processing the last prompt position yields generated token 1, the next position token 2, and so on. So after
`positions` have been processed, ``min(positions, prompt)`` prompt tokens and ``max(0, positions - prompt + 1)``
generated tokens have been served (docs/spec/session.md, clause S3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.identity.ids import BlockSpan
from protocol.market.rates import Rates, share
from protocol.session.messages import Session
from protocol.session.terms import MAX_REROUTES, LegTerms, Plan, Reroute, Terms, route_at
from protocol.units import MICRO, IntOrArray, MicroUnits, ceil_div, choose

__all__ = [
    "Stint",
    "Work",
    "amount",
    "chain_length",
    "earned",
    "first_stints",
    "most_owed",
    "owed",
    "paid_limit",
    "payable",
    "positions_of",
    "rates_for",
    "reserved_caps",
    "served",
    "spans",
    "stints",
    "window_count",
    "window_end",
    "window_index",
    "windows_between",
    "work_of",
]


def amount(
    tokens_in: IntOrArray,
    tokens_out: IntOrArray,
    price_in: IntOrArray,
    price_out: IntOrArray,
    *,
    cached: IntOrArray | int = 0,
    price_cached: IntOrArray | int = 0,
    late: IntOrArray | int = 0,
    late_discount_ppm: IntOrArray | int = 0,
    rejected: IntOrArray | int = 0,
    price_rejected: IntOrArray | int = 0,
) -> IntOrArray:
    """Micro-units for cumulative counts at rates per million tokens, rounded up once (docs/spec/session.md, S1).

    Rounding cumulative counts, never increments, keeps the error of a leg below one micro-unit for a whole session.
    Nothing that was served is free: one token of any kind costs a micro-unit at least. On int64 arrays the caller keeps
    each ``count * price`` below 2**60.

    Args:
        tokens_in: positions computed at `price_in`; those in `cached` are not among them.
        tokens_out: generated tokens, late ones included.
        late: how many of them are sold at the discount, which is rounded down for one token.
    """
    discount = price_out * late_discount_ppm // MICRO
    total = tokens_in * price_in + tokens_out * price_out - late * discount
    total = total + cached * price_cached + rejected * price_rejected
    least = choose(tokens_in + tokens_out + cached > 0, 1, 0)
    rounded: IntOrArray = ceil_div(total, MICRO)
    return choose(rounded > least, rounded, least)  # type: ignore[no-any-return]


def served(plan: Plan, positions: int) -> tuple[int, int]:
    """Prompt and generated tokens that have been served once `positions` positions are processed."""
    return min(positions, plan.prompt), max(0, positions - plan.prompt + 1)


def positions_of(plan: Plan, tokens_in: int, tokens_out: int) -> int:
    """Positions whose processing these counts pay for: the inverse of `served`."""
    return tokens_in if tokens_in < plan.prompt or not tokens_out else plan.prompt - 1 + tokens_out


def last_position(plan: Plan) -> int:
    """Positions that a job processes at most: the last token is generated, not processed."""
    return plan.prompt + plan.most - 1


def window_end(plan: Plan, positions: int) -> int:
    """Where the window ends that begins once `positions` have been processed: receipts are due there (clause S4).

    Prompt windows end after each chunk and with the prompt; later ones after each `window` generated tokens.
    """
    if positions < plan.prompt:
        return min(plan.prompt, (positions // plan.chunk + 1) * plan.chunk)
    generated = positions - plan.prompt + 1
    return min(last_position(plan), plan.prompt - 1 + (generated // plan.window + 1) * plan.window)


def window_count(plan: Plan, positions: int | None = None) -> int:
    """Windows in which `positions` positions are processed; of the whole plan where None. A begun one counts."""
    upto = last_position(plan) if positions is None else positions
    chunks = ceil_div(min(upto, plan.prompt), plan.chunk)
    if upto <= plan.prompt:
        return chunks
    # Ends stand at multiples of `window` generated tokens; the prompt has yielded the first token.
    return chunks + ceil_div(upto - plan.prompt + 1, plan.window) - 1 // plan.window


def paid_limit(plan: Plan, positions: int) -> int:
    """How far a client pays, and a leg serves, once every leg has signed for `positions` (clause V8)."""
    for _ in range(plan.ahead + 1):
        positions = window_end(plan, positions)
    return positions


def windows_between(plan: Plan, start: int, end: int) -> int:
    """Windows that a session which begins at position `start` has ended once it stands at `end`."""
    count, end = 0, min(end, last_position(plan))
    while start < end:
        start, count = window_end(plan, start), count + 1
    return count


def window_index(plan: Plan, booked: int, reroutes: int) -> int:
    """The index that the next window has in receipts, `booked` windows after the first (clause H2).

    After a reroute more are left out than a leg of the route before can have signed for in vain: so no leg ever signs
    twice for one index, and no nonce is shown that is known already.
    """
    return booked + reroutes * (plan.ahead + 1)


def chain_length(plan: Plan) -> int:
    """Nonces that a session can need: one for each index that a window can have."""
    return window_index(plan, window_count(plan), MAX_REROUTES)


def payable(plan: Plan, credit: int, positions_paid: int) -> int:
    """How many positions a leg may process when vouchers pay `positions_paid` of them (clause S5).

    The prompt is paid before it is processed; generated tokens too, but for the `credit` that the terms give.
    """
    return positions_paid if positions_paid < plan.prompt else positions_paid + credit


# What one leg did in a session whose route may have changed


@dataclass(frozen=True, slots=True)
class Stint:
    """The positions that one leg serves: from `joined` to `left`."""

    joined: int = 0
    """First position that it serves; it computes what comes before as a replay."""
    left: int | None = None
    """One past the last; None while it serves."""
    cached: int = 0
    """Of what comes first, so many positions were in its KV already, from the session that this one continues."""


NEVER = Stint(0, 0)
"""Of a standby that was not called."""


@dataclass(frozen=True, slots=True)
class Work:
    """Cumulative counts of one leg, as `owed` prices them."""

    cached: int = 0
    tokens_in: int = 0
    """Computed without yielding a token of its own; `cached` ones are not among them."""
    tokens_out: int = 0
    late: int = 0
    rejected: int = 0


def stints(
    terms: Terms, reroutes: Sequence[Reroute], cached: Sequence[int] = (), *, base: int = 0
) -> tuple[Stint, ...]:
    """Each leg's stint, by index in the session; a leg that left does not come back (clause N6).

    Args:
        cached: by leg, positions that it held from the session that this one continues; none for those beyond the end.
        base: position at which the first route begins to serve.
    """
    held = [*cached, *[0] * len(terms.legs)]
    found = [NEVER] * len(terms.legs)
    for number, position in enumerate([base, *(each.position for each in reroutes)]):
        for each in route_at(terms, reroutes[:number], position):
            if found[each.leg] == NEVER:
                found[each.leg] = Stint(position, None, held[each.leg])
    for number, reroute in enumerate(reroutes):
        serving = {each.leg for each in reroute.route}
        for each in route_at(terms, reroutes[:number], reroute.position):
            stint = found[each.leg]
            if each.leg not in serving and stint.left is None:
                found[each.leg] = Stint(stint.joined, reroute.position, stint.cached)
    return tuple(found)


def first_stints(terms: Terms) -> tuple[Stint, ...]:
    """Each leg's stint as the first voucher pays it, when nobody knows yet what is held: as if all were that a session
    continues.
    """
    return stints(terms, (), [0 if terms.continues is None else terms.continues.positions] * len(terms.route))


def spans(reroutes: Sequence[Reroute]) -> dict[int, BlockSpan]:
    """The blocks that each leg serves which a reroute names: a leg keeps them for all of its stint (clause N6)."""
    return {each.leg: each.span for reroute in reroutes for each in reroute.route}


def work_of(plan: Plan, stint: Stint, positions: int, *, late: int = 0, rejected: int = 0) -> Work:
    """What a leg has done once the session stands at `positions` (docs/spec/session.md, clause S6)."""
    end = positions if stint.left is None else min(positions, stint.left)
    if stint == NEVER or end <= stint.joined:
        # A leg that joined and was left before it served anything has no claim but its opening charge.
        return Work()
    prefill = min(end, max(stint.joined, plan.prompt))
    generated = max(0, end - max(stint.joined, plan.prompt - 1))
    cached = min(stint.cached, prefill)
    return Work(cached, prefill - cached, generated, min(late, generated), rejected)


def owed(rates: Rates, work: Work) -> MicroUnits:
    """What a leg that has taken the job has earned: its opening charge, and its work (clause S1)."""
    metered = amount(
        work.tokens_in,
        work.tokens_out,
        rates.price_in,
        rates.price_out,
        cached=work.cached,
        price_cached=rates.price_cached,
        late=work.late,
        late_discount_ppm=rates.late_discount_ppm,
        rejected=work.rejected,
        price_rejected=rates.price_rejected,
    )
    return MicroUnits(rates.opening + metered)


def earned(
    terms: Terms,
    session: Session,
    leg: int,
    stint: Stint,
    positions: int,
    *,
    span: BlockSpan | None = None,
    late: int = 0,
    rejected: int = 0,
) -> MicroUnits:
    """What leg `leg` of a session has earned once that stands at `positions`, its cap at most.

    Args:
        span: the blocks that it serves, where that is only a part of those in its terms (clause H6).
        late: of its generated tokens.
        rejected: rows, as `receipt.ReceiptBook.rejected` counts them.
    """
    rates = rates_for(terms.legs[leg], span)
    work = work_of(terms.plan, stint, positions, late=late, rejected=rejected)
    return MicroUnits(min(owed(rates, work), session.legs[leg].cap))


def rates_for(leg: LegTerms, span: BlockSpan | None) -> Rates:
    """A leg's rates where it serves only these of its blocks: its share. It took the job for all: that charge stays."""
    if span is None:
        return leg.rates
    return share(leg.rates, len(span), len(leg.span)).replace(opening=leg.rates.opening)


def most_owed(leg: LegTerms, plan: Plan, *, standby: bool) -> MicroUnits:
    """The cap that a leg's part of the whole plan needs, without rejected rows: the dearer way to serve it (clause S2).

    A standby may have to compute all but the last position again before it serves that one.
    """
    last = last_position(plan)
    whole = owed(leg.rates, work_of(plan, Stint(), last))
    if not standby:
        return whole
    late = owed(leg.rates, work_of(plan, Stint(max(0, last - 1)), last))
    return MicroUnits(max(whole, late))


def reserved_caps(session: Session) -> MicroUnits:
    """What a session takes from its client's free money when it opens."""
    return MicroUnits(sum(leg.cap for leg in session.legs))
