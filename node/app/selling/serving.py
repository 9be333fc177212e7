"""One span of one model on the market: what serves, prices, admits and advertises it, joined."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.app.models.held_model import HASHES_FILE
from node.app.models.obtaining import ModelServer
from node.app.network.fetching import uplink_of
from node.app.network.membership import Network
from node.app.network.neighbours import Neighbours
from node.app.process.clock import clock
from node.app.selling.anchoring import Timings, own_statements
from node.app.selling.placement import Placement
from node.app.selling.power import FollowedPower, asks_of, holding_of
from node.app.selling.provider_settings import destination_of, limits_of, site_of
from node.app.selling.terms import Speed, Terms
from node.app.settlement.forks import until_forked
from node.app.settlement.payout import Payouts
from node.app.settlement.venue import Venue
from node.config import NodeConfig
from node.core_wait import core_wait_ns
from node.earnings import StoredJournal, Work
from node.energy import Metering, Power, energy_file
from node.engine.device import compute_device
from node.events import Events, NodeReady, OrderNotAnswered
from node.fetching import ChunkDesk
from node.market import Advertiser, Lookout
from node.model_directory import HashMemory
from node.p2p.direct import DataPlane, Listener
from node.p2p.order_desk import OrderDesk
from node.pipeline.serving.admission import Admission
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.provider import Provider
from node.pipeline.serving.redeem import Redeemer
from node.ports import Drafter, PeerMemory, Spawn
from node.worker import ThreadWorker
from protocol.errors import JoulemeshError, RefusedError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.identity.signing import SigningKey
from protocol.market.offer import MAX_RELOAD_S, Offer
from protocol.names import MODEL_PROTOCOL, OFFERS_TOPIC, ORDER_PROTOCOL
from protocol.session.order import JobOrder
from protocol.units import MICRO

if TYPE_CHECKING:
    from node.energy import Energy
    from node.engine.engine import Engine

__all__ = ["Doors", "Held", "Node", "Shared"]

ROOM_S = 1.0
"""Seconds between looks at the room that is left."""
RENEWED_S = 5.0
"""Seconds after an offer was made anew for it: each is carried to everybody, and checked by everybody."""
DRAIN_S = 600.0
"""Seconds that a node gives its jobs before it serves other blocks; then their clients go on elsewhere."""
DRAINED_S = 0.2
"""Between looks at whether they have ended."""
STOP_S = 5.0
"""Seconds that its clients and its peers have to be told that a node ends."""


@dataclass(frozen=True, slots=True)
class Held:
    """A span of a model, loaded and measured."""

    manifest: ModelManifest
    span: BlockSpan
    engine: Engine
    energy: Energy
    speed: Speed
    drafter: Drafter | None
    loading_s: float
    """Seconds that loading and measuring took."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where others reach this node."""

    network: Network
    plane: DataPlane
    listener: Listener
    data_at: str


@dataclass(frozen=True, slots=True)
class Shared:
    """What stays while a node goes from some blocks to others."""

    config: NodeConfig
    key: SigningKey
    on_event: Events
    ledger: Venue
    doors: Doors
    memory: PeerMemory
    journal: StoredJournal
    redeemer: Redeemer
    power: FollowedPower
    spawn: Spawn

    def work(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for as long as the process does, by name."""
        yield "redeemer", self.redeemer.run()
        yield from self.power.work()
        wanted = destination_of(self.config)
        if wanted is not None:
            payouts = Payouts(self.ledger, self.key, self.journal, wanted, clock, self.on_event)
            yield "payouts", payouts.run()


class Node:
    """What serves, prices, admits and advertises one span, joined.

    Args:
        movable: whether its offers say that it would serve other blocks.
    """

    def __init__(self, shared: Shared, held: Held, *, movable: bool) -> None:
        config, key, doors = shared.config, shared.key, shared.doors
        self._shared = shared
        self._held = held
        self._reload_s = min(MAX_RELOAD_S, ceil(held.loading_s) + 1) if movable else None
        self._leaving = False
        self.limits = limits_of(config)
        self.provider = Provider(
            held.manifest,
            engine=held.engine,
            energy=held.energy,
            redeemer=shared.redeemer,
            connect=doors.network.dials.within(doors.plane.connect),
            clock=clock,
            events=shared.on_event,
            limits=self.limits,
            memory=shared.memory,
            spawn=shared.spawn,
            compute=ThreadWorker("engine"),
            sketching=ThreadWorker("sketches"),
            drafter=held.drafter,
            drafting=None if held.drafter is None or held.drafter.instant else ThreadWorker("drafts"),
            preparing=ThreadWorker("grammars"),
            pace=Pace(self.limits, row_us=held.speed.prompt_us, step_us=held.speed.position_us),
            core_wait_ns=core_wait_ns,
        )
        self.terms = self._make_terms(shared)
        shared.journal.serve(_work(held, self.terms))
        self._admission = Admission(
            key=key,
            manifest=held.manifest,
            settlement=shared.ledger,
            redeemer=shared.redeemer,
            meter=self.terms.meter,
            suits=self._suits,
            memory=shared.memory,
            trails=self.provider.trails,
            begin=self.provider.begin,
            clock=clock,
            randomness=secrets.token_bytes,
            events=shared.on_event,
            spawn=shared.spawn,
        )
        doors.network.host.serve(ORDER_PROTOCOL, self._answer, max_request=64 * 1024)
        self._desk = OrderDesk(self._answer, self.provider.on_link, self.provider.allowance)
        doors.network.host.answer_challenges()
        files = ModelServer(config.model, held.manifest, self._chunk_desk()).answer
        doors.network.host.serve(MODEL_PROTOCOL, files, max_request=1024, at_once=8, at_once_of_peer=2)
        self.advertiser = self._make_advertiser(key, doors.network)
        attested = own_statements([Path(each) for each in config.statements], key.public_key)
        self._timings = Timings(doors.network.host, config.anchors, clock, shared.on_event, self.advertiser.renew)
        self.terms.statements = lambda: (*attested, *self._timings.sealed())
        self.holding = holding_of(
            *(config, shared.power, self.provider, self.limits, held.energy, held.speed.position_us),
            renew=self.advertiser.renew,
            events=shared.on_event,
        )
        self.terms.require = self.holding.require
        seen = partial(doors.network.offers_by, key.public_key)
        self._metering = self._make_metering(config, key)
        self._lookout = Lookout(self.advertiser, seen, now=clock, events=shared.on_event)

    def _chunk_desk(self) -> ChunkDesk:
        """For other nodes that fetch this model."""
        config = self._shared.config
        hashes = HashMemory(config.data_dir / HASHES_FILE)
        return ChunkDesk(config.model, self._held.manifest, hashes, uplink_of(config, self._shared.memory))

    async def _answer(self, peer: bytes, order: bytes) -> bytes:
        """To an order; what is none is told of, for the operator to see why no work comes. Raises JoulemeshError."""
        try:
            return await self._admission.answer(peer, order)
        except JoulemeshError as error:
            self._shared.on_event(OrderNotAnswered(code=error.code, reason=error.message))
            raise

    def _suits(self, order: JobOrder, offer: Offer) -> None:
        """Raises RefusedError for an order that this node does not take as it is now."""
        if self._leaving:
            raise RefusedError("this node is leaving these blocks for others", code="shutdown")
        self.terms.suits(order, offer)

    def _make_terms(self, shared: Shared) -> Terms:
        held, provider, limits, network = self._held, self.provider, self.limits, shared.doors.network
        config, key, doors = shared.config, shared.key, shared.doors
        offers = partial(network.book.offers, held.manifest.root)
        self._neighbours = Neighbours(key.public_key, held.span, network, offers, network.merits.of)
        return Terms(
            public_key=key.public_key,
            manifest=held.manifest,
            span=held.span,
            venue=shared.ledger.domain.separator,
            site=site_of(config, compute_device(), doors.network.host.addresses, doors.data_at),
            energy=held.energy,
            asks=asks_of(config, shared.power, doors.network.book.offers, key.public_key, held.manifest, held.span),
            speed=held.speed,
            limits=limits,
            kv_room=lambda: provider.room,
            free=lambda: provider.free,
            utilisation_ppm=lambda: min(MICRO, provider.active * MICRO // limits.max_sessions),
            clock=clock,
            round_trips=self._neighbours,
            masks=held.engine.masks,
        )

    def _make_metering(self, config: NodeConfig, key: SigningKey) -> Metering:
        return Metering(
            self._held.energy,
            worker=ThreadWorker("meter"),
            events=self._shared.on_event,
            clock=clock,
            power=partial(_power, self.terms),
            path=energy_file(config.data_dir, key.address),
        )

    def _make_advertiser(self, key: SigningKey, network: Network) -> Advertiser:
        return Advertiser(
            key,
            network.host,
            OFFERS_TOPIC,
            self._offer,
            keep=network.book.add,
            now_ms=lambda: time.time_ns() // 1_000_000,
            events=self._shared.on_event,
        )

    def _offer(self) -> Offer | None:
        """What it offers now; None while it takes no work."""
        return self.terms.offer().replace(reload_s=self._reload_s) if self.holding.offers else None

    def ready(self, start_s: float) -> NodeReady:
        """What it says of itself when it serves, so many seconds after its start."""
        offer, manifest, shared = self.terms.offer(), self._held.manifest, self._shared
        claim = offer.energy
        return NodeReady(
            provider=shared.key.address,
            peer=shared.doors.network.host.addresses[0],
            data=offer.data_addresses[0],
            ledger=shared.ledger.url,
            model=manifest.name,
            root=manifest.root,
            blocks=str(self._held.span),
            device=str(compute_device()),
            precision=manifest.precision,
            price_in_micro=offer.rates.price_in,
            price_out_micro=offer.rates.price_out,
            millijoules_per_token=None if claim is None else claim.millijoules_out,
            energy_source=None if claim is None else str(claim.source),
            position_us=offer.position_us,
            start_s=round(start_s, 2),
        )

    async def serve(self, placement: Placement | None) -> BlockSpan:
        """Until other blocks are wanted, which is never without a placement; returns them, with no job left here."""
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(work, name=name) for name, work in self._serving()]
            offering = [group.create_task(work, name=name) for name, work in self._offering()]
            if placement is None:
                await asyncio.Event().wait()
            assert placement is not None, "nothing else ends the wait"
            span = await placement.moved(self.terms.span, self._reload_s or 0)
            self._leaving = True
            for task in offering:
                task.cancel()
            await self._drain()
            for task in serving:
                task.cancel()
        return span

    def _serving(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What jobs need, by name."""
        doors = self._shared.doors
        yield "provider", self.provider.run()
        yield "meter", self._metering.run()
        # The links of clients and neighbours, each bounded by what its peer has here.
        yield "data plane", doors.plane.serve(doors.listener, self._desk.on_link, allowances=self._desk.allowance)

    def _offering(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What brings new jobs, by name."""
        ledger = self._shared.ledger
        yield "advertiser", until_forked(ledger, self.advertiser.run(), self.advertiser.withdraw())
        yield "timings", self._timings.run()
        yield "neighbours", self._neighbours.run()
        yield "room", _follow_room(_Room(self._held.engine, self.provider), self.advertiser)
        yield "holding", self.holding.run()
        yield "lookout", until_forked(ledger, self._lookout.run(), _nothing())

    async def _drain(self) -> None:
        """Wait for the jobs that are here, for a while."""
        await self.advertiser.withdraw()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.provider.active:  # noqa: ASYNC110 - jobs end in many ways, and none of them tells
                    await asyncio.sleep(DRAINED_S)

    async def stop(self) -> None:
        """End what is left of its jobs, and every link: nothing of these blocks is on offer any more."""
        self._shared.doors.network.host.serve(ORDER_PROTOCOL, _closed, max_request=64 * 1024)
        with contextlib.suppress(JoulemeshError, TimeoutError):
            async with asyncio.timeout(STOP_S):
                if not self._leaving:
                    await self.advertiser.withdraw()
                await self.provider.stop()
        self._shared.doors.plane.hang_up()


async def _nothing() -> None:
    """For work that leaves nothing to be ended."""


async def _closed(_peer: bytes, _order: bytes) -> bytes:
    """Whoever orders between two spans."""
    raise RefusedError("this node serves nothing at the moment", code="closing")


def _work(held: Held, terms: Terms) -> Work:
    """What the node's jobs have in common; the cost of energy is what it is set to when a job ends."""

    def power() -> tuple[int, int]:
        now = _power(terms)
        return now.micro_per_kwh, now.pue_milli

    manifest = held.manifest
    return Work(model=manifest.root, model_name=manifest.name, blocks=str(held.span), power=power)


def _power(terms: Terms) -> Power:
    """What energy costs now."""
    supply = terms.asks.supply
    return Power(micro_per_kwh=supply.micro_per_kwh, pue_milli=supply.pue_milli)


class _Room:
    """Tells when what an offer says of free room and places has become misleading."""

    def __init__(self, engine: Engine, provider: Provider) -> None:
        self._engine = engine
        self._provider = provider
        self._offered = (provider.room, provider.active, provider.free > 0)

    def changed(self) -> bool:
        """Whether a quarter of the room, or of the places that are left, were taken or given back since this last said
        so; or whether there is a place for a newcomer where there was none, or none any more.
        """
        free, active, places_left = self._provider.room, self._provider.active, self._provider.free
        room, places, some = abs(free - self._offered[0]) * 4, abs(active - self._offered[1]), places_left > 0
        if room < self._engine.kv_capacity and places * 4 < max(4, places_left) and some is self._offered[2]:
            return False
        self._offered = (free, active, some)
        return True


async def _follow_room(room: _Room, advertiser: Advertiser) -> None:
    """Offer anew when the room has changed much: a stale offer misleads the router both ways."""
    while True:
        await asyncio.sleep(ROOM_S)
        if room.changed():
            advertiser.renew()
            await asyncio.sleep(RENEWED_S)
