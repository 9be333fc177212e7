"""What a tariff file says, as values. `reading` makes them of TOML, `curves` and `schedule` compute with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

from node.tariff.local_time import SiteCalendar
from protocol.energy.charges import Charge
from protocol.energy.rate_table import DemandTable, RateTable, Schedule

__all__ = [
    "LEDGERS_CURRENCY",
    "CurtailmentSource",
    "Curve",
    "Exchange",
    "Feed",
    "FeedFormat",
    "Flat",
    "Load",
    "Quantity",
    "Table",
    "Tariff",
    "Tranche",
]

LEDGERS_CURRENCY = "USD"
"""What one unit of the ledger's money is meant to be."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a curve is of: how numbers become integers, and what they may be."""

    name: str
    units: dict[str, Decimal]
    """By name what one is in the integers that are computed with, the usual one first."""
    low: int
    high: int
    hint: str = ""
    """Where a number is out of bounds."""


class FeedFormat(StrEnum):
    """How a feed or a file is written."""

    ENTSOE = "entsoe"
    """XML of the transparency platform: document type A44."""
    NORDPOOL = "nordpool"
    """JSON of the data portal: DayAheadPrices."""
    OCTOPUS = "octopus"
    """JSON of a product's standard unit rates."""
    OPENADR = "openadr"
    """Events of an OpenADR 3 server with payloads of type PRICE or GHG."""
    JSON = "json"
    """JSON in which paths name the list, the time and the value."""
    CSV = "csv"
    """A file with a line of names."""
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """One value at all times."""

    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Values by month, kind of day and hour, and what peaks cost."""

    rates: RateTable
    demand: DemandTable = field(default_factory=DemandTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Values by time, from elsewhere."""

    format: FeedFormat
    url: str | None
    """Without secrets; None for a file."""
    path: Path | None
    """None for a feed."""
    scale: Decimal
    """What one unit of the feed is in the integers that are computed with."""
    fallback: int
    stale_s: int
    refresh_s: int
    parameters: tuple[tuple[str, str], ...] = ()
    """Of the query."""
    token_file: Path | None = None
    area: str = ""
    currency: str = ""
    list_at: tuple[str, ...] = ()
    time_key: str = "time"
    end_key: str = ""
    value_key: str = "price"
    resolution_s: int | None = None
    """None to take the smallest distance of two times."""
    zone: ZoneInfo | None = None
    """Of times that do not name one; None where these are an error."""

    @property
    def place(self) -> str:
        """For people."""
        return str(self.path) if self.url is None else self.url.partition("?")[0]


Curve = Flat | Table | Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tranche:
    """A supply of its own, besides the grid."""

    name: str
    watts: int | Schedule
    """At all times, or by month and hour of every day."""
    price: int | None
    """In the tariff's currency, per kWh; None for what the grid's energy costs before charges: what one's own power
    would bring if it were sold."""

    def watts_at(self, month: int, hour: int) -> int:
        """What it gives."""
        return self.watts if isinstance(self.watts, int) else self.watts[month - 1][hour]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the site takes, for tiers, demand and tranches."""

    watts: int | None = None
    """What it draws at work; None where nothing depends on it."""
    monthly_wh: int = 0
    """What it uses in a month in all."""
    factor_ppm: int = 1_000_000
    """Mean draw as a share of the peak, in millionths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Units of the ledger's money for one of the tariff's, in millionths, from days on."""

    rates: tuple[tuple[date, int], ...]
    """Rising by day."""
    oldest_days: int | None
    """A rate that is older is said to be stale; None for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurtailmentSource:
    """Where somebody says that less power is to be drawn."""

    path: Path | None
    url: str | None
    """Of an OpenADR 3 server."""
    program: str = ""
    token_file: Path | None = None
    poll_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """A whole file."""

    path: Path
    currency: str
    calendar: SiteCalendar
    ahead_s: int = 0
    """Seconds that the tariff's clock is put ahead, to try it at another time."""
    price: Curve
    charges: tuple[Charge, ...]
    tranches: tuple[Tranche, ...]
    load: Load
    exchange: Exchange | None
    """None where prices are in the ledger's money."""
    pue: Curve | None
    carbon: Curve | None
    curtailment: CurtailmentSource | None

    @property
    def feeds(self) -> dict[str, Feed]:
        """Those that have to be read, by what they are of."""
        curves = {"price": self.price, "pue": self.pue, "carbon": self.carbon}
        return {name: curve for name, curve in curves.items() if isinstance(curve, Feed)}
