"""When work that can wait should run: what offers expect to ask in the hours to come, and what their supply emits.

A batch has a deadline. Until then it waits for the cheapest hour that its offers forecast, carbon counted as a cost
where the client says so. A forecast is no promise: the decision is made anew at each look, and never past the deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.identity.ids import ModelManifest
from protocol.market.offer import Offer
from protocol.units import ceil_div

__all__ = ["HOUR_S", "Expected", "Start", "expected_prices", "petaflop_day", "start", "weights_of"]

HOUR_S = 3_600
WORTH_WAITING = 100
"""A later hour is waited for where it is cheaper by one part in so many at least."""
BYTES_A_WEIGHT = 2
"""What a weight is counted with: most open models are published in 16 bits."""
GRAMS_PER_TON = 1_000_000
MILLIJOULES_PER_KWH = 3_600_000_000
PETAFLOP_DAY = 10**15 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a generated token costs in one hour, through the whole model."""

    price: int
    """Micro-units per million tokens, of the cheapest offers of each block."""
    carbon: int | None
    """Grams of CO2 equivalent per million tokens of those offers; None where one of them does not say."""
    cost: int
    """The price, and what carbon is taken to cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When to begin."""

    hour: int
    """Hours from now; 0 is now."""
    now: Expected | None
    """None where the model has a gap now."""
    then: Expected | None
    late: bool
    """Whether it begins because no time is left, not because it is cheap."""


def expected_prices(
    offers: Sequence[Offer], blocks: int, *, hours: int, carbon_micro_per_ton: int = 0
) -> list[Expected | None]:
    """For this hour and those after it the cheapest cost of a generated token, block by block; None where a block has
    no offer. An offer that forecasts nothing, or no further, is expected to stay as it is.

    Args:
        carbon_micro_per_ton: what a ton of CO2 equivalent is taken to cost; where that is above 0, offers that do not
            say what they emit go last.
    """
    usable = [offer for offer in offers if offer.blocks == blocks]
    return [_expected(usable, blocks, hour, carbon_micro_per_ton) for hour in range(hours + 1)]


def _expected(offers: Sequence[Offer], blocks: int, hour: int, carbon_micro_per_ton: int) -> Expected | None:
    price = carbon = cost = 0
    unknown = False
    by_offer = [(_of_block(offer, hour, carbon_micro_per_ton), offer) for offer in offers]
    for block in range(blocks):
        here = [each for each, offer in by_offer if offer.span.start <= block < offer.span.end]
        if not here:
            return None
        _, least, asked, emitted = min(here)
        price, cost = price + asked, cost + least
        unknown = unknown or emitted < 0
        carbon += max(0, emitted)
    return Expected(price=price, carbon=None if unknown else carbon, cost=cost)


def _of_block(offer: Offer, hour: int, carbon_micro_per_ton: int) -> tuple[bool, int, int, int]:
    """Whether carbon counts and is not said; cost, price and grams of a million tokens in a block, -1 for no grams."""
    asked = offer.rates.price_out if hour == 0 else _forecast(offer, hour)
    price, grams = ceil_div(asked, len(offer.span)), _grams(offer, hour)
    if grams is None:
        return carbon_micro_per_ton > 0, price, price, -1
    return False, price + grams * carbon_micro_per_ton // GRAMS_PER_TON, price, grams


def _forecast(offer: Offer, hour: int) -> int:
    if not offer.forecast:
        return offer.rates.price_out
    return offer.forecast[min(hour, len(offer.forecast)) - 1]


def _grams(offer: Offer, hour: int) -> int | None:
    """Per million generated tokens in one block."""
    claim = offer.energy
    if claim is None or claim.carbon_g_per_kwh is None:
        return None
    per_kwh, ahead = claim.carbon_g_per_kwh, offer.carbon_forecast
    if hour and ahead:
        per_kwh = ahead[min(hour, len(ahead)) - 1]
    through_all = claim.millijoules_out * 1_000_000 * claim.pue_milli // 1_000 * per_kwh
    return through_all // MILLIJOULES_PER_KWH // len(offer.span)


def start(expected: Sequence[Expected | None], *, left_s: int, needed_s: int) -> Start:
    """When to begin with what takes `needed_s` and has to be done in `left_s`.

    Now, where no hour that is left is cheaper by a hundredth; else in the cheapest, the earliest of equal ones. Where
    the model has a gap now, the first hour without one; and now where no time is left.
    """
    latest = (left_s - needed_s) // HOUR_S
    now = expected[0] if expected else None
    if latest < 1:
        return Start(hour=0, now=now, then=now, late=left_s - needed_s < HOUR_S and _is_dear(expected, now))
    costs = [(each.cost, hour) for hour, each in enumerate(expected[: latest + 1]) if each is not None]
    if not costs:
        return Start(hour=0, now=now, then=now, late=False)
    least, hour = min(costs)
    if now is not None and now.cost * (WORTH_WAITING - 1) <= least * WORTH_WAITING:
        hour = 0
    return Start(hour=hour, now=now, then=expected[hour], late=False)


def _is_dear(expected: Sequence[Expected | None], now: Expected | None) -> bool:
    """Whether a later hour would have been cheaper."""
    if now is None:
        return False
    return any(each is not None and each.cost * WORTH_WAITING < now.cost * (WORTH_WAITING - 1) for each in expected[1:])


def weights_of(manifest: ModelManifest) -> int:
    """About how many weights a model has, by the sizes of its weight files at two bytes each."""
    return sum(file.size for file in manifest.files if file.name.endswith(".safetensors")) // BYTES_A_WEIGHT


def petaflop_day(price: int, weights: int) -> int | None:
    """Micro-units for 10^15 operations a second over a day, where a million tokens cost `price` and each token takes
    two operations for each weight; None for a model without weights.
    """
    return None if weights <= 0 else price * PETAFLOP_DAY // (2 * weights * 1_000_000)
