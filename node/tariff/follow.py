"""The supply of a site as it goes on: feeds and a changed file read again, and a label on each price."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp

from node.events import EnergyPriceChanged, Events, FeedNotRead, FeedRead, TariffRead, TariffRefused
from node.ports import Clock
from node.tariff.description import Tariff
from node.tariff.feeds import read_feed
from node.tariff.kept import KeptFeeds
from node.tariff.reading import read_tariff
from node.tariff.schedule import BEYOND, SupplySeries, quantity_of, supply_series
from protocol.energy.price_series import HOUR_S, STEP_S, PriceSeries, PriceSource
from protocol.errors import ConfigurationError, LocalError, PeerError
from protocol.market.pricing import Supply

__all__ = ["FollowedSupply", "checked_tariff"]

HOURS = 48
"""That a forecast has at most (docs/spec/messages.md, `offer`)."""
LOOK_S = 2.0
"""Seconds between looks at the file and the clock."""
RETRY_S = 60.0
"""Seconds after which a feed that could not be read is tried again, or its own time if that is shorter."""


def checked_tariff(path: Path, now: int) -> Tariff:
    """A tariff file that makes sense for the hours to come. Raises ConfigurationError."""
    tariff = read_tariff(path)
    at = (now + tariff.ahead_s) // STEP_S * STEP_S
    if BEYOND in supply_series(tariff, {}, at, (HOURS + 1) * HOUR_S // STEP_S).notes:
        raise ConfigurationError(f"{path}: {BEYOND}", hint="`joule tariff show` prints what it comes to")
    return tariff


class FollowedSupply:
    """What power costs here now and later. Belongs to one event loop.

    Args:
        path: of the tariff; None where the price of the settings always holds.
        settled: what the settings say: the price where there is no tariff, and whatever the tariff leaves out.
        kept: what feeds gave before this process began.

    Raises ConfigurationError for a tariff that is wrong.
    """

    def __init__(
        self,
        path: Path | None,
        settled: Supply,
        *,
        clock: Clock,
        events: Events,
        kept: KeptFeeds | None = None,
    ) -> None:
        self._path = path
        self._kept = KeptFeeds(None) if kept is None else kept
        self._clock = clock
        self._events = events
        self.settled = settled
        """May be replaced while this runs."""
        self._tariff = None if path is None else checked_tariff(path, clock())
        self._stamp = self._stamp_of_file()
        self._points: dict[str, dict[int, int]] = {}
        self._aged: set[str] = set()
        """Feeds of which nothing is known but what was kept."""
        self._take_kept()
        self._due: dict[str, float] = {}
        """Of each feed, when it is read next, in seconds of the loop's clock."""
        self._failing: dict[str, str] = {}
        """Of feeds that cannot be read, why."""
        self._series: SupplySeries | None = None
        self._told: tuple[int, str] | None = None
        self._refused = False
        """Whether the file as it is now is wrong."""

    @property
    def tariff(self) -> Tariff | None:
        """As it was last read; None where there is none."""
        return self._tariff

    @property
    def now(self) -> int:
        """Unix seconds by the tariff's clock, which may be put ahead to try it out."""
        return self._clock() + (0 if self._tariff is None else self._tariff.ahead_s)

    @property
    def supply(self) -> Supply:
        """What power is now."""
        return self.series().at(self.now, self.settled)

    @property
    def source(self) -> PriceSource:
        """Where the price of now comes from."""
        return self.series().price.source_at(self.now)

    def hours(self, most: int = HOURS) -> tuple[Supply, ...]:
        """Of the hours after this one."""
        return self.series().hours(self.now, self.settled, most)

    def series(self, hours: int = HOURS + 1) -> SupplySeries:
        """From this quarter on, for so many hours at least."""
        start, steps = self.now // STEP_S * STEP_S, hours * HOUR_S // STEP_S
        made = self._series
        if made is None or made.price.start != start or len(made.price.prices) < steps:
            made = self._series = self._make(start, steps)
        return made

    def _make(self, start: int, steps: int) -> SupplySeries:
        if self._tariff is None:
            price = PriceSeries(start, (self.settled.micro_per_kwh,) * steps, (PriceSource.TABLE,) * steps)
            return SupplySeries(price, None, None)
        return supply_series(self._tariff, self._points, start, steps, self._aged)

    def settle(self, settled: Supply) -> None:
        """Take over what the settings say now."""
        self.settled, self._series = settled, None

    async def run(self) -> None:
        """Follow until cancelled; nothing that is wrong with a file or a feed ends it."""
        async with aiohttp.ClientSession() as session:
            while True:
                await self._look_at_file()
                await self.read_feeds(session)
                self._tell()
                await asyncio.sleep(LOOK_S)

    async def begin(self) -> None:
        """Read every feed once, so that the first price is right where it can be."""
        if self._tariff is not None and self._tariff.feeds:
            async with aiohttp.ClientSession() as session:
                await self.read_feeds(session)
        self._tell()

    def _tell(self) -> None:
        now = self.supply.micro_per_kwh, str(self.source)
        if self._path is None or now == self._told:  # what settings say, they say
            return
        self._told = now
        self._events(EnergyPriceChanged(micro_per_kwh=now[0], source=now[1]))

    # The file

    def _stamp_of_file(self) -> tuple[int, int] | None:
        try:
            found = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size)

    async def _look_at_file(self) -> None:
        stamp = self._stamp_of_file()
        if self._path is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tariff = await asyncio.to_thread(checked_tariff, self._path, self._clock())
        except ConfigurationError as error:
            self._events(TariffRefused(reason=error.message, hint=error.hint))
            self._refused = True
            return
        if self._refused:
            self._refused = False
            self._events(TariffRead())
        self._due, self._failing, self._series = {}, {}, None
        await asyncio.to_thread(self._take_kept)

    # Feeds

    def _take_kept(self) -> None:
        """Begin with what feeds gave before: it counts until they are read."""
        tariff, now = self._tariff, self.now
        feeds = {} if tariff is None else tariff.feeds
        found = {
            name: self._kept.load(name, feed, quantity_of(tariff, name), now)
            for name, feed in feeds.items()
            if tariff is not None
        }
        self._points = {name: points for name, points in found.items() if points}
        self._aged = set(self._points)

    async def read_feeds(self, session: aiohttp.ClientSession) -> None:
        """Read those whose time has come."""
        tariff, at = self._tariff, time.monotonic()
        if tariff is None:
            return
        for name, feed in tariff.feeds.items():
            if self._due.get(name, at) > at:
                continue
            try:
                self._points[name] = await read_feed(feed, quantity_of(tariff, name), session, self.now)
            except (PeerError, LocalError) as error:
                self._due[name] = at + min(RETRY_S, feed.refresh_s)
                self._fails(name, error)
                continue
            self._series = None
            self._aged.discard(name)
            self._due[name] = at + feed.refresh_s
            await asyncio.to_thread(self._kept.save, name, feed, self._points[name], self.now)
            if self._failing.pop(name, None) is not None:
                self._events(FeedRead(of=name))

    def _fails(self, name: str, error: PeerError | LocalError) -> None:
        """What it said before counts on; it is told once, and again for another reason."""
        if self._failing.get(name) == error.message:
            return
        self._failing[name] = error.message
        series = self.series()
        found = {"price": series.price, "pue": series.pue, "carbon": series.carbon}[name]
        source = PriceSource.FALLBACK if found is None else found.source_at(self.now)
        self._events(FeedNotRead(of=name, code=error.code, reason=error.message, source=str(source)))

    @property
    def failing(self) -> dict[str, str]:
        """Of each feed that cannot be read, why."""
        return dict(self._failing)
