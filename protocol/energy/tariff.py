"""From joules and a tariff to an asking price. Kernels run on Python ints and on numpy int64 arrays, bit for bit alike.

The chain of units: mJ per token x PUE x micro-units per kWh gives micro-units per million tokens, since a million
tokens of 1 mJ are 1 kJ, and a kWh is 3,600 kJ. 10.8 J per token at 0.10 per kWh and a PUE of 1 are 0.30 per million.

Within the bounds below every intermediate product stays under 2**62, so an int64 array never wraps. Outside them ints
are still exact; whoever fills arrays keeps to the bounds. It knows neither clocks nor calendars: what a kilowatt-hour
costs at a time is for `price_series` and those who fill it.
"""

from __future__ import annotations

from protocol.units import MICRO, IntOrArray, ceil_div, larger, smaller

__all__ = [
    "MAX_CARBON_G_PER_KWH",
    "MAX_CARBON_PRICE",
    "MAX_HARDWARE_PRICE",
    "MAX_MARGIN_PPM",
    "MAX_MILLIJOULES_PER_TOKEN",
    "MAX_PRICE",
    "MAX_PUE_MILLI",
    "MAX_TARIFF",
    "ONE_PUE",
    "ask_price",
    "capital_price",
    "carbon_cost",
    "energy_price",
    "floor_price",
    "followed_price",
    "sustain_price",
]

MAX_MILLIJOULES_PER_TOKEN = 10_000_000
"""10 kJ for one token: a thousand times what the largest open models take in small batches."""
MAX_PUE_MILLI = 10_000
"""A site that draws ten times what its machines do."""
MAX_TARIFF = 25_000_000
"""Micro-units per kWh, of either sign: above the price caps of wholesale markets."""
MAX_PRICE = 1_000_000_000_000
"""Micro-units per million tokens: one whole unit for each token. No offer may ask more."""
MAX_MARGIN_PPM = 4_000_000
"""400 %."""
MAX_CARBON_G_PER_KWH = 10_000
"""Grams of CO2 equivalent: several times what the dirtiest fuel emits."""
MAX_CARBON_PRICE = 10_000 * MICRO
"""Micro-units per tonne."""
MAX_HARDWARE_PRICE = 1_000 * MICRO
"""Micro-units per hour: what a room full of accelerators costs."""

ONE_PUE = 1000
"""Power usage effectiveness of 1 in thousandths: the machine's own draw and nothing else."""

_MILLI_PUE_KILOJOULES_PER_KWH = 3600 * 1000


def energy_price(
    millijoules_per_token: IntOrArray, pue_milli: IntOrArray, tariff_micro_per_kwh: IntOrArray
) -> IntOrArray:
    """Micro-units that the energy of one million tokens costs at the meter, rounded up; below 0 where the tariff is.

    Largest product within the bounds: 1e7 * 1e4 * 2.5e7 = 2.5e18, below 2**62.
    """
    return ceil_div(millijoules_per_token * pue_milli * tariff_micro_per_kwh, _MILLI_PUE_KILOJOULES_PER_KWH)


def floor_price(energy: IntOrArray, overhead: IntOrArray | int) -> IntOrArray:
    """Micro-units per million tokens below which work loses money: energy (where it costs anything) and overhead."""
    floor: IntOrArray = larger(energy, 0) + overhead
    return floor


def ask_price(
    floor: IntOrArray, margin_ppm: IntOrArray | int, capital: IntOrArray | int, utilisation_ppm: IntOrArray | int
) -> IntOrArray:
    """What to ask per million tokens: the floor, a margin on it, and capital cost as far as the machine is in demand.

    Never below `floor`, for `margin_ppm`, `capital` and `utilisation_ppm` at or above 0. Largest products within the
    bounds (floor and capital up to `MAX_PRICE`, utilisation up to a million): 4e18 and 1e18, below 2**62.

    Args:
        capital: micro-units per million tokens that pay for the hardware at full demand.
        utilisation_ppm: share of capacity in use, in millionths.
    """
    ask: IntOrArray = floor + floor * margin_ppm // MICRO + capital * utilisation_ppm // MICRO
    return ask


def carbon_cost(carbon_g_per_kwh: IntOrArray, micro_per_tonne: IntOrArray | int) -> IntOrArray:
    """Micro-units that the carbon of one kWh costs, rounded up: a tonne is a million grams.

    Largest product within the bounds: 1e4 * 1e10 = 1e14.
    """
    return ceil_div(carbon_g_per_kwh * micro_per_tonne, MICRO)


def capital_price(micro_per_hour: IntOrArray, token_us: IntOrArray, utilisation_ppm: IntOrArray) -> IntOrArray:
    """Micro-units per million tokens that pay for hardware in use for a share of its time; `MAX_PRICE` at most.

    A million tokens of one microsecond each take a second, and an hour has 3,600. Largest products within the bounds:
    1e9 * 6e8 = 6e17, and `MAX_PRICE` times a million.

    Args:
        micro_per_hour: price less what it will still be worth, over its life; at most `MAX_HARDWARE_PRICE`.
        token_us: microseconds that one token takes, at most ten minutes.
        utilisation_ppm: at least 1, in millionths.
    """
    all_the_time = smaller(ceil_div(micro_per_hour * token_us, 3600), MAX_PRICE)
    return smaller(ceil_div(all_the_time * MICRO, utilisation_ppm), MAX_PRICE)


def sustain_price(floor: IntOrArray, capital: IntOrArray) -> IntOrArray:
    """Micro-units per million tokens at which work also pays for the hardware: below it a node lives on what it has."""
    sustained: IntOrArray = floor + capital
    return sustained


def followed_price(median: IntOrArray, undercut_ppm: IntOrArray | int, floor: IntOrArray) -> IntOrArray:
    """What to ask just below what others ask: their median less a share of it, and never below the floor.

    Largest product within the bounds (`MAX_PRICE`, shares up to a million): 1e18.
    """
    return larger(median - ceil_div(median * undercut_ppm, MICRO), floor)
