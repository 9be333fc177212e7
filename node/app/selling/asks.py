"""What a node asks from time to time: by its tariff, its figures and the book, and not changed too often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from node.tariff import FollowedSupply
from protocol.errors import ConfigurationError
from protocol.market.pricing import Comparable, Costs, Pricing, Supply
from protocol.market.rates import Rates
from protocol.market.requoting import Pace, Quoted, requoted

__all__ = ["Asks", "nothing_compared"]


def nothing_compared() -> Comparable | None:
    """For a node that looks at nobody else's offers."""
    return None


@dataclass(slots=True, kw_only=True)
class Asks:
    """The rates that are out, and those of the hours to come. `pricing` and `pace` may be replaced."""

    pricing: Pricing
    power: FollowedSupply
    pace: Pace
    others: Callable[[], Comparable | None] = nothing_compared
    """What others ask for these blocks now."""
    _out: Quoted | None = field(default=None, init=False)

    @property
    def supply(self) -> Supply:
        """What power is now."""
        return self.power.supply

    def reprice(self, pricing: Pricing, pace: Pace) -> None:
        """Take over what the settings say now; it counts at once."""
        self.pricing, self.pace, self._out = pricing, pace, None

    def rates(self, costs: Costs, utilisation_ppm: int) -> Rates:
        """What is asked for the whole span now. Raises ConfigurationError where no price is safe."""
        supply, others = self.supply, self.others()
        wanted = self.pricing.rates(supply, costs, utilisation_ppm=utilisation_ppm, others=others)
        prompt, generated = self.pricing.quotes(supply, costs, utilisation_ppm=utilisation_ppm, others=others)
        self._out = requoted(
            self._out,
            wanted,
            floor_in=prompt.floor,
            floor_out=generated.floor,
            now=self.power.now,
            pace=self.pace,
        )
        return self._out.rates

    def forecast(self, costs: Costs, utilisation_ppm: int) -> tuple[int, ...]:
        """What a generated token is expected to cost in the hours after this one, by the million.

        It ends before an hour for which no price can be said.
        """
        others, asked = self.others(), []
        for supply in self.power.hours():
            try:
                _, generated = self.pricing.quotes(supply, costs, utilisation_ppm=utilisation_ppm, others=others)
            except ConfigurationError:
                break
            asked.append(generated.ask)
        return tuple(asked)

    def carbon_forecast(self) -> tuple[int, ...]:
        """Grams of CO2 per kWh in the hours after this one, as far as they are known; none where all are as now."""
        expected = []
        for supply in self.power.hours():
            if supply.carbon_g_per_kwh is None:
                break
            expected.append(supply.carbon_g_per_kwh)
        return () if set(expected) <= {self.supply.carbon_g_per_kwh} else tuple(expected)
