"""The tables of a scenario file on machines and the sites where they stand, as `simulator.tables` has the others."""

from __future__ import annotations

import dataclasses

from protocol.market.offer import MAX_DURATION_US
from protocol.market.pricing import late_after
from protocol.units import MICRO
from simulator.settings import decimal, pair, text, whole
from simulator.tables import MILLI, MOST_PROVIDERS

__all__ = ["Hardware", "Site"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A kind of machine, serving one model in full batches."""

    share: int = whole(0, 1_000_000, 1)
    """Weight in the draw of a site's hardware; 0 for what only [site.NAME] uses (X1)."""
    tokens_in_per_s: int = whole(1, 10_000_000)
    """Prompt tokens per second and unit (X7)."""
    tokens_out_per_s: int = whole(1, 10_000_000)
    """Generated tokens per second and unit (X7)."""
    joules_in: int = decimal(MILLI, "0", "1000")
    """Millijoules per prompt token, when busy (X2)."""
    joules_out: int = decimal(MILLI, "0", "1000")
    """Millijoules per generated token, when busy (X2)."""
    joules_spread: int = decimal(MICRO, "0", "0.9", "0.1")
    """Millionths: a drawn site's joules per token lie this much around the above, evenly (X2)."""
    idle_watts: int = whole(0, 100_000, 0)
    """Watts of one unit while it waits (X9)."""
    hourly_cost: int = decimal(MICRO, "0", "1000", "0")
    """Micro-units per unit and hour of presence for everything but energy: rent, space, people (X4, X9)."""
    cost_spread: int = decimal(MICRO, "0", "0.9", "0.1")
    """Millionths: a drawn site's hourly cost lies this much around the above, evenly (X4)."""
    capital: int = decimal(MICRO, "0", "10000000", "0")
    """Micro-units that one unit costs to build; sunk once it stands (X12)."""
    life_days: int = whole(1, 36_500, 1825)
    """Days that a unit lasts (X12)."""
    resale: int = decimal(MICRO, "0", "1", "0")
    """Millionths of what is left of its life's worth that scrapping a unit brings (X12)."""
    most_units: int = whole(1, 1000, 1)
    """A drawn site has from 1 to so many units, evenly."""
    slots: int = whole(1, 10_000, 1)
    """Requests that one unit serves at once, each at a part of its speed (X13)."""
    fails_after_days: int = decimal(MICRO, "0", "36500", "0")
    """Millionths of a day for which a site runs on average before it is down; 0: nothing fails (X26)."""
    failure_shape: int = decimal(MICRO, "0.2", "20", "1")
    """Millionths: Weibull's shape of these times; 1: exponential, above: it wears out (X26)."""
    repair_hours: int = decimal(MICRO, "0", "8760", "24")
    """Millionths of an hour for which it is down on average, exponential (X26)."""
    queue: int = whole(-1, 1_000_000, -1)
    """Requests that may wait for one unit, in the event engine; -1 for any number (X24)."""
    admit_ms: int = whole(0, 3_600_000, 0)
    """Milliseconds that the prompts which wait at a site may take before it tells newcomers to come back later, in the
    event engine; 0: any time (X24)."""
    blocks: tuple[int, ...] = pair(0, 1000)
    """First block and the one after the last that it holds; left out: all (X21)."""
    draft_accept: int = decimal(MICRO, "0", "0.995", "0")
    """Millionths: the chance that a guessed token is right (X22)."""
    draft_depth: int = whole(0, 128, 0)
    """Tokens that are guessed before each pass; 0: none (X22)."""
    draft_row_cost: int = decimal(MICRO, "0", "10", "0")
    """Millionths: what each guess adds to a pass, of the time of one without (X22)."""
    ask_in: int = decimal(MICRO, "0", "1000000", "0")
    """Micro-units per million prompt tokens that it asks, whatever they cost it; 0: its ask follows from its costs
    (X3)."""
    ask_out: int = decimal(MICRO, "0", "1000000", "0")
    """Micro-units per million generated tokens, likewise (X3)."""
    opening: int = decimal(MICRO, "0", "1000", "0")
    """Micro-units that it asks for taking a request at all, whatever its size (X9)."""
    late_us: int = whole(0, MAX_DURATION_US, 0)
    """Microseconds after which it says that a generated token is late; 0: by the rule that nodes have (X29)."""
    late_discount: int = decimal(MICRO, "0", "1", "0")
    """Millionths by which it sells a generated token cheaper that was late (X29)."""
    category: str = text("")
    """As policies on hardware name it (X23)."""

    @property
    def position_us(self) -> int:
        """Microseconds that a generated token takes on average, as its offer says."""
        return min(MAX_DURATION_US, max(1, self.slots * MICRO // self.tokens_out_per_s))

    @property
    def late_after_us(self) -> int:
        """After which it is late, as its offer says."""
        return self.late_us or late_after(self.position_us)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Sites that are just so: nothing of them is drawn."""

    region: str = text()
    """A [region.NAME]."""
    hardware: str = text()
    """A [hardware.NAME]."""
    count: int = whole(1, MOST_PROVIDERS, 1)
    """So many of them (X1)."""
    units: int = whole(1, 1000, 1)
    """Machines at each."""
