"""What carbon costs a client that counts it, beside what providers ask: a price on what an offer's supply emits.

Nobody is paid it. It stands beside the price of an offer when routes and hours are compared, so that of two providers
who ask the same the cleaner one is taken, and a dearer one where it is cleaner by more than it is dearer.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.energy.tariff import MAX_PRICE, carbon_cost, energy_price
from protocol.market.offer import EnergyClaim, Offer
from protocol.units import ceil_div, smaller

__all__ = ["MAX_COUNTED", "carbon_extra", "carbon_extras"]

MAX_COUNTED = MAX_PRICE
"""No carbon counts as more, so that costs stay within what prices may be."""
UNSAID = 2
"""Who does not say what it emits counts as so many times the dirtiest of those who do."""


def carbon_extra(millijoules: int, claim: EnergyClaim, micro_per_tonne: int) -> int | None:
    """Micro-units per million tokens of so many millijoules; None where the supply's carbon is not said.

    Args:
        micro_per_tonne: at most `tariff.MAX_CARBON_PRICE`.
    """
    if claim.carbon_g_per_kwh is None:
        return None
    per_kwh = carbon_cost(claim.carbon_g_per_kwh, micro_per_tonne)
    counted: int = smaller(energy_price(millijoules, claim.pue_milli, per_kwh), MAX_COUNTED)
    return counted


def carbon_extras(offers: Sequence[Offer], micro_per_tonne: int) -> list[tuple[int, int]]:
    """For each offer what the carbon of a million prompt and of a million generated tokens counts as, over its span.

    One that does not say counts as twice the dirtiest of those that do, block by block; where none says, none counts.
    """
    said = [_said(offer, micro_per_tonne) for offer in offers]
    known = [(each, len(offer.span)) for each, offer in zip(said, offers, strict=True) if each is not None]
    worst = [max((ceil_div(each[kind], blocks) for each, blocks in known), default=0) for kind in (0, 1)]
    found = []
    for each, offer in zip(said, offers, strict=True):
        presumed_in, presumed_out = (min(MAX_COUNTED, UNSAID * per_block * len(offer.span)) for per_block in worst)
        found.append((presumed_in, presumed_out) if each is None else each)
    return found


def _said(offer: Offer, micro_per_tonne: int) -> tuple[int, int] | None:
    claim = offer.energy
    if claim is None:
        return None
    prompt = carbon_extra(claim.millijoules_in, claim, micro_per_tonne)
    generated = carbon_extra(claim.millijoules_out, claim, micro_per_tonne)
    return None if prompt is None or generated is None else (prompt, generated)
