"""Where the live page's figures come from: the book of a client that listens, and what nodes and clients keep on disk.

Nodes are not asked: they write what they count anyway. What is dear is looked at now and then, and kept meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from node.app.buying.kept_receipts import ListedReceipt, listed
from node.app.buying.markets import MarketBalance, balances, kept_markets
from node.app.diagnosis.activity import Told, read_activity
from node.app.diagnosis.diagnosis import diagnosed
from node.app.diagnosis.finding import Finding
from node.app.diagnosis.symptoms import Running, running_nodes, symptoms_of
from node.app.network.shunned import address_of
from node.app.settlement.earnings import read_earnings
from node.app.settlement.venue import log_of, shown_venue
from node.config import ClientConfig
from node.energy import energy_file, read_report
from node.page.view import (
    CheckpointView,
    ClientView,
    NetworkView,
    NodeView,
    OfferView,
    PageState,
    PlaceView,
    RefusalView,
)
from protocol.errors import JoulemeshError, LocalError
from protocol.geography.country_discs import DISCS
from protocol.identity.ids import Address
from protocol.market.market_figures import market_figures
from protocol.market.offer import Offer
from protocol.policy.policy import TIME_PER_TOKEN_US
from protocol.reputation.standing import DAY_S
from protocol.serving.earnings import Grouping, JobRecord, books_of
from protocol.units import ceil_div

if TYPE_CHECKING:
    from node.app.buying.client import Client

__all__ = ["Gatherer"]

Found = TypeVar("Found")

ASK_S = 2.0
"""For the network to answer, before the page is shown with what is known."""
MOST_OFFERS, MOST_RECEIPTS = 300, 50
MOST_VERIFIED = 200
"""Of the newest receipts: each takes some milliseconds, and a folder may hold any number."""
DAYS = 14
HOUR_S = 3600
DIAGNOSE_S = 120.0
"""Between looks at a node from outside."""
WEIGH_S = 10.0
"""Between looks at the markets of a gateway."""
REFUSED = "order refused"


class Gatherer:
    """Belongs to one event loop.

    Args:
        client: joins the network when the page is first asked for.
        key: address of the client's key; None where it has none.
    """

    def __init__(self, config: ClientConfig, client: Client, key: Address | None) -> None:
        self._config = config
        self._client = client
        self._key = key
        self._receipts: dict[Path, tuple[int, ListedReceipt]] = {}
        self._findings: dict[Address, tuple[float, tuple[Finding, ...]]] = {}
        self._looking: dict[Address, asyncio.Task[None]] = {}
        self._balances: tuple[MarketBalance, ...] = ()
        self._weighing: asyncio.Task[None] | None = None
        self._weigh_at_s = 0.0
        self._turn = asyncio.Lock()
        self._latest: tuple[float, PageState] | None = None

    async def state(self) -> PageState:
        """As it is now; at most a second old, however many ask."""
        async with self._turn:
            if self._latest is None or time.monotonic() - self._latest[0] > 1:
                self._latest = time.monotonic(), await self._gather()
            return self._latest[1]

    async def close(self) -> None:
        """Look no more."""
        tasks = [*self._looking.values(), *([] if self._weighing is None else [self._weighing])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _gather(self) -> PageState:
        now = int(time.time())
        offers, network = await self._network()
        running = await asyncio.to_thread(running_nodes, self._config.data_dir)
        nodes = [await asyncio.to_thread(self._node, each, offers, now) for each in running]
        for each in running:
            self._look_later(each)
        return PageState(at=now, network=network, nodes=tuple(nodes), client=await self._client_view())

    # The network

    async def _network(self) -> tuple[Sequence[Offer], NetworkView]:
        ledger, error, checkpoint = self._client.ledger, "", None
        offers: list[Offer] = []
        try:
            offers = await self._client.offers(ASK_S)
            log = log_of(ledger)
            if log is not None:
                newest = await log.checkpoint()
                checkpoint = CheckpointView(origin=newest.origin, size=newest.size, root=newest.root)
        except JoulemeshError as wrong:
            error = wrong.message
        classes = {str(each): us for each, us in TIME_PER_TOKEN_US.items()}
        return offers, NetworkView(
            venue=shown_venue(self._config.ledger),
            error=error,
            checkpoint=checkpoint,
            witnesses=len(self._config.witnesses),
            models=tuple(market_figures(offers, classes)),
            places=_places(offers),
            offers=tuple(map(_offer_view, sorted(offers, key=_price_of_whole)[:MOST_OFFERS])),
            heard=len(offers),
        )

    # Nodes of this machine

    def _node(self, node: Running, offers: Sequence[Offer], now: int) -> NodeView:
        told: list[Told] = _quietly(lambda: read_activity(self._config.data_dir, node.address, now), [])
        energy = _quietly(lambda: read_report(energy_file(self._config.data_dir, node.address)), None)
        since = (now // DAY_S - DAYS + 1) * DAY_S
        jobs: tuple[JobRecord, ...] = _quietly(
            lambda: read_earnings(self._config.data_dir, node.address, since, now + DAY_S).jobs, ()
        )
        own = max((each for each in offers if address_of(each.public_key) == node.address), key=_age, default=None)
        return NodeView(
            address=node.address,
            serves="" if own is None else f"blocks {own.span} of {own.model_name}",
            jobs=sum(job.ended_at is None for job in jobs),
            tokens_per_s=_speed(jobs, now),
            energy=energy,
            ask=() if own is None else (own.rates.price_out, *own.forecast),
            energy_cost=None if energy is None else energy.price_out,
            days=books_of(jobs, (), by=Grouping.DAY, day_name=_day).rows,
            refusals=_refusals(told, now),
            findings=self._findings.get(node.address, (0.0, ()))[1],
        )

    def _look_later(self, node: Running) -> None:
        """Have a node looked at from outside, where that was long ago; the page does not wait for it."""
        seen, _ = self._findings.get(node.address, (-DIAGNOSE_S, ()))
        if node.address not in self._looking and time.monotonic() - seen >= DIAGNOSE_S:
            self._looking[node.address] = asyncio.create_task(self._look(node), name="diagnosis")

    async def _look(self, node: Running) -> None:
        try:
            found = diagnosed(await symptoms_of(self._config, node, ASK_S))
        except LocalError as error:
            found = [Finding("fail", "activity", error.message, error.hint)]
        self._findings[node.address] = time.monotonic(), tuple(found)
        del self._looking[node.address]

    # The client

    async def _client_view(self) -> ClientView:
        receipts, kept = await asyncio.to_thread(self._kept)
        free: int | None = None
        if self._key is not None:
            try:
                async with asyncio.timeout(ASK_S):
                    free = (await self._client.balance(self._key)).free
            except (JoulemeshError, TimeoutError):
                free = None
        self._weigh_later()
        return ClientView(
            address=self._key,
            free=free,
            markets=self._balances,
            spent=sum(each.paid or 0 for each in receipts),
            receipts=tuple(receipts[:MOST_RECEIPTS]),
            kept=kept,
        )

    def _weigh_later(self) -> None:
        """Have the markets of the gateway here asked what the key has there; the page does not wait for it."""
        now_s = time.monotonic()
        if self._key is not None and now_s >= self._weigh_at_s and (self._weighing is None or self._weighing.done()):
            self._weigh_at_s = now_s + WEIGH_S
            self._weighing = asyncio.create_task(self._weigh(self._key), name="balances")

    async def _weigh(self, key: Address) -> None:
        markets = await asyncio.to_thread(kept_markets, self._config)
        self._balances = (await balances(markets, key)).markets if len(markets) > 1 else ()

    def _kept(self) -> tuple[list[ListedReceipt], int]:
        """The newest, and how many there are. Each is verified once, and again where its file has changed."""
        changed = {file: file.stat().st_mtime_ns for file in (self._config.data_dir / "receipts").glob("*.json")}
        newest = heapq.nlargest(MOST_VERIFIED, changed, key=lambda file: changed[file])
        self._receipts = {
            file: self._receipts[file]
            if self._receipts.get(file, (0, None))[0] == changed[file]
            else (changed[file], replace(listed(file), file=Path(file.name)))
            for file in newest
        }
        return [each for _, each in self._receipts.values()], len(changed)


def _quietly(read: Callable[[], Found], otherwise: Found) -> Found:
    """What a file says; where it cannot be read the page does without, and `joule doctor` says why."""
    try:
        return read()
    except LocalError:
        return otherwise


def _age(offer: Offer) -> int:
    return offer.sequence


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


def _speed(jobs: Sequence[JobRecord], now: int) -> float | None:
    """Tokens a second of the jobs that ended in the last hour, while they ran."""
    late = [job for job in jobs if job.ended_at is not None and job.ended_at > now - HOUR_S]
    took = sum((job.ended_at or 0) - job.begun_at for job in late)
    return round(sum(job.tokens_out for job in late) / took, 2) if took else None


def _refusals(told: Sequence[Told], now: int) -> tuple[RefusalView, ...]:
    """Of today, by reason."""
    today = [each for each in told if each.day == now // DAY_S and each.event == REFUSED]
    return tuple(
        RefusalView(code=each.code or each.event, count=each.count, reason=str(each.last.get("reason", "")))
        for each in sorted(today, key=lambda each: -each.count)
    )


def _price_of_whole(offer: Offer) -> int:
    """Micro-units per million generated tokens, as if it served the whole model."""
    return ceil_div(offer.rates.price_out * offer.blocks, len(offer.span))


def _places(offers: Sequence[Offer]) -> tuple[PlaceView, ...]:
    by_place: dict[str, list[Offer]] = {}
    for offer in offers:
        for place in {offer.jurisdiction, *(each[:2] for each in offer.places)}:
            by_place.setdefault(place, []).append(offer)
    return tuple(_place(place, by_place[place]) for place in sorted(by_place))


def _place(place: str, offers: Sequence[Offer]) -> PlaceView:
    north, east, _ = max(DISCS[place], key=lambda disc: disc[2]) if place in DISCS else (None, None, 0)
    low = min(map(_price_of_whole, offers))
    return PlaceView(place=place, north=north, east=east, offers=len(offers), low_out=low)


def _offer_view(offer: Offer) -> OfferView:
    energy = offer.energy
    return OfferView(
        provider=address_of(offer.public_key),
        model=offer.model_name,
        blocks=f"{offer.span} of {offer.blocks}",
        place=offer.region or offer.jurisdiction,
        price_in=offer.rates.price_in,
        price_out=offer.rates.price_out,
        millijoules=None if energy is None else energy.millijoules_out,
        source="" if energy is None else str(energy.source),
        free=offer.limits.sessions,
        expires_at=offer.expires_at,
    )
