"""From joules and a tariff to an asking price. Kernels run on Python ints and on numpy int64 arrays, bit for bit alike.

The chain of units: mJ per token x PUE x micro-units per kWh gives micro-units per million tokens, since a million
tokens of 1 mJ are 1 kJ, and a kWh is 3,600 kJ. 10.8 J per token at 0.10 per kWh and a PUE of 1 are 0.30 per million.

Within the bounds below every intermediate product stays under 2**62, so an int64 array never wraps. Outside them ints
are still exact; whoever fills arrays keeps to the bounds. It knows neither clocks nor calendars: which tariff holds
now is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import ConfigurationError
from protocol.units import MICRO, IntOrArray, ceil_div, larger

__all__ = [
    "MAX_MARGIN_PPM",
    "MAX_MILLIJOULES_PER_TOKEN",
    "MAX_PRICE",
    "MAX_PUE_MILLI",
    "MAX_TARIFF",
    "ONE_PUE",
    "FlatTariff",
    "ask_price",
    "energy_price",
    "floor_price",
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

ONE_PUE = 1000
"""Power usage effectiveness of 1 in thousandths: the machine's own draw and nothing else."""

_MILLI_PUE_KILOJOULES_PER_KWH = 3600 * 1000


@dataclass(frozen=True, slots=True)
class FlatTariff:
    """One price for energy at all hours, in micro-units per kWh. Raises ConfigurationError when out of bounds."""

    micro_per_kwh: int

    def __post_init__(self) -> None:
        if not 0 <= self.micro_per_kwh <= MAX_TARIFF:
            raise ConfigurationError(
                f"an energy price of {self.micro_per_kwh} micro-units per kWh is outside 0 to {MAX_TARIFF}",
                hint="give it per kWh, like 0.08",
            )


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
