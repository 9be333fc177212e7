"""A provider node: one span of one model, offered, served and paid. The whole daemon is visible in `run_node`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.app.anchoring import Timings, own_statements
from node.app.clock import clock
from node.app.drafter import load_drafter
from node.app.earnings import open_earnings
from node.app.forks import tell_of_fork, until_forked
from node.app.held_model import held_model
from node.app.lock import sole_use
from node.app.measure import load_and_measure
from node.app.merits import Merits
from node.app.models import ModelServer
from node.app.neighbours import Neighbours
from node.app.network import Network, dials_beside, open_network
from node.app.payout import Payouts
from node.app.peers import open_peers
from node.app.power import FollowedPower, asks_of, holding_of, power_of
from node.app.provider_settings import destination_of, hold_back, limits_of, site_of, take_over
from node.app.reload import Reload
from node.app.settling import vouchers_folder
from node.app.terms import Speed, Terms
from node.app.venue import Venue, log_of, open_venue, peers_of, settling_patience_s, shown_venue
from node.app.witnessed import tell_of_lack
from node.config import NodeConfig
from node.earnings import StoredJournal, Work
from node.energy import Metering, Power, energy_file
from node.engine.device import compute_device
from node.events import Events, NodeReady, Starting
from node.file_limit import raise_file_limit
from node.market import Advertiser, Lookout
from node.p2p.address import data_address, parse_data_address
from node.p2p.direct import DataPlane, Listener
from node.p2p.order_desk import OrderDesk
from node.pipeline.serving.admission import Admission
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.provider import Provider
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.serving.seen import SeenSessions
from node.pipeline.vouchers import VoucherStore
from node.ports import Drafter, PeerMemory, Spawn
from node.tasks import owned_tasks
from node.worker import ThreadWorker
from protocol.activations import FORMATS, ActivationType
from protocol.errors import ConfigurationError, JoulemeshError
from protocol.ids import BlockSpan, ModelManifest
from protocol.names import MODEL_PROTOCOL, OFFERS_TOPIC, ORDER_PROTOCOL
from protocol.signing import SigningKey
from protocol.units import MICRO

if TYPE_CHECKING:
    from node.energy import Energy
    from node.engine.engine import Engine

__all__ = ["run_node"]

ROOM_S = 1.0
"""Seconds between looks at the room that is left."""
RENEWED_S = 5.0
"""Seconds after an offer was made anew for it: each is carried to everybody, and checked by everybody."""
DATA_SHARE = 4
"""One in so many descriptors is for data links; the rest is for peers, requests, journals and databases."""
REDEEM_S = 5.0
"""Seconds that a stopping node gives the ledger; what is left is redeemed at its next start."""


async def run_node(config: NodeConfig, key: SigningKey, on_event: Events, reload: Reload[NodeConfig]) -> None:
    """Serve until cancelled, then end the jobs and redeem what they earned.

    Raises:
        ModelError: the model directory cannot be served from.
        ListenError, ConfigurationError: an address, or a price, that does not work.
        UnreachableError: the ledger does not answer at start.
        LocalError: another node with this key is running.
    """
    began = time.monotonic()
    descriptors = raise_file_limit()
    power = power_of(config, on_event)
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_use(config.data_dir, key.address))
        on_event(Starting(step=f"asking the ledger at {shown_venue(config.ledger)}"))
        ledger = await stack.enter_async_context(open_venue(config))
        venue_peers = await peers_of(ledger)
        await tell_of_lack(ledger, on_event)
        held = await _load(config, on_event)
        await power.supply.begin()
        doors = await stack.enter_async_context(_open_doors(config, key, on_event, descriptors, ledger.url))
        tasks = await stack.enter_async_context(owned_tasks())
        memory = await stack.enter_async_context(open_peers(config.data_dir, key.address, on_event))
        journal = await stack.enter_async_context(open_earnings(config.data_dir, key.address, on_event))
        patience_s = await settling_patience_s(ledger)
        node = _Node(config, key, on_event, ledger, held, doors, memory, journal, tasks.spawn, patience_s, power)
        reload.follow(partial(take_over, node.terms, node.limits, node.advertiser))
        reload.follow(partial(hold_back, node.holding))
        doors.network.merits.ask = ledger.providers
        on_event(Starting(step="joining the network"))
        await doors.network.join((*venue_peers, *config.peers), ledger)
        on_event(_ready(key, node.terms, doors.network, time.monotonic() - began))
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in (
                    *node.work(),
                    *_log_work(ledger, doors.network),
                    ("forks", tell_of_fork(ledger, on_event)),
                    ("bootstrap", doors.network.stay_joined(ledger, config.peers)),
                    ("network", doors.network.watch()),
                    ("merits", doors.network.follow_merits()),
                    ("data plane", node.serve_links(doors)),
                    ("job tasks", tasks.watch()),
                ):
                    group.create_task(work, name=name)
        finally:
            await _wind_up(node.provider, node.redeemer, node.advertiser)


@dataclass(frozen=True, slots=True)
class _Held:
    """A span of a model, loaded and measured."""

    manifest: ModelManifest
    span: BlockSpan
    engine: Engine
    energy: Energy
    speed: Speed
    drafter: Drafter | None


async def _load(config: NodeConfig, on_event: Events) -> _Held:
    on_event(Starting(step=f"hashing the model in {config.model}"))
    manifest, span = await asyncio.to_thread(held_model, config)
    for step in _steps(manifest, span):
        on_event(Starting(step=step))
    engine, energy, speed = await asyncio.to_thread(load_and_measure, config, manifest, span)
    drafter = await asyncio.to_thread(load_drafter, config, manifest, span)
    return _Held(manifest, span, engine, energy, speed, drafter)


@dataclass(frozen=True, slots=True)
class _Doors:
    """Where others reach this node."""

    network: Network
    plane: DataPlane
    listener: Listener
    data_at: str


@asynccontextmanager
async def _open_doors(
    config: NodeConfig, key: SigningKey, on_event: Events, descriptors: int, venue_url: str
) -> AsyncIterator[_Doors]:
    merits, dials = Merits(clock), await dials_beside(venue_url)
    async with (
        open_network(key, config.listen, on_event, announce=config.announce, merits=merits, dials=dials) as network,
        DataPlane(key.secret, descriptors=descriptors // DATA_SHARE) as plane,
    ):
        with _listen_for_data(config) as (listener, data_at):
            yield _Doors(network, plane, listener, data_at)


class _Node:
    """What serves, prices, admits and advertises, joined."""

    def __init__(
        self,
        config: NodeConfig,
        key: SigningKey,
        on_event: Events,
        ledger: Venue,
        held: _Held,
        doors: _Doors,
        memory: PeerMemory,
        journal: StoredJournal,
        spawn: Spawn,
        patience_s: float,
        power: FollowedPower,
    ) -> None:
        self._held = held
        self._power = power
        self._ledger = ledger
        self._on_event = on_event
        self.limits = limits_of(config)
        self.redeemer = _redeemer(config, key, ledger, journal, on_event, patience_s)
        self.provider = Provider(
            held.manifest,
            engine=held.engine,
            energy=held.energy,
            redeemer=self.redeemer,
            connect=doors.network.dials.within(doors.plane.connect),
            clock=clock,
            events=on_event,
            limits=self.limits,
            memory=memory,
            spawn=spawn,
            compute=ThreadWorker("engine"),
            sketching=ThreadWorker("sketches"),
            drafter=held.drafter,
            drafting=None if held.drafter is None or held.drafter.instant else ThreadWorker("drafts"),
            pace=Pace(self.limits, row_us=held.speed.prompt_us, step_us=held.speed.position_us),
        )
        self.terms = self._make_terms(config, key, ledger, doors)
        journal.serve(_work(held, self.terms))
        wanted = destination_of(config)
        self._payouts = None if wanted is None else Payouts(ledger, key, journal, wanted, clock, on_event)
        admission = Admission(
            key=key,
            manifest=held.manifest,
            settlement=ledger,
            redeemer=self.redeemer,
            meter=self.terms.meter,
            suits=self.terms.suits,
            memory=memory,
            trails=self.provider.trails,
            begin=self.provider.begin,
            clock=clock,
            randomness=secrets.token_bytes,
            events=on_event,
            spawn=spawn,
        )
        doors.network.host.serve(ORDER_PROTOCOL, admission.answer, max_request=64 * 1024)
        self._desk = OrderDesk(admission.answer, self.provider.on_link, self.provider.allowance)
        doors.network.host.answer_challenges()
        files = ModelServer(config.model, held.manifest).answer
        doors.network.host.serve(MODEL_PROTOCOL, files, max_request=1024, at_once=8, at_once_of_peer=2)
        self.advertiser = self._make_advertiser(key, doors.network)
        attested = own_statements([Path(each) for each in config.statements], key.public_key)
        self._timings = Timings(doors.network.host, config.anchors, clock, on_event, self.advertiser.renew)
        self.terms.statements = lambda: (*attested, *self._timings.sealed())
        self.holding = holding_of(
            *(config, power, self.provider, self.limits, held.energy, held.speed.position_us),
            renew=self.advertiser.renew,
            events=on_event,
        )
        self.terms.require = self.holding.require
        seen = partial(doors.network.offers_by, key.public_key)
        self._metering = self._make_metering(config, key)
        self._lookout = Lookout(self.advertiser, seen, now=clock, events=on_event)

    def _make_terms(self, config: NodeConfig, key: SigningKey, ledger: Venue, doors: _Doors) -> Terms:
        held, provider, limits, network = self._held, self.provider, self.limits, doors.network
        offers = partial(network.book.offers, held.manifest.root)
        self._neighbours = Neighbours(key.public_key, held.span, network, offers, network.merits.of)
        return Terms(
            public_key=key.public_key,
            manifest=held.manifest,
            span=held.span,
            venue=ledger.domain.separator,
            site=site_of(config, compute_device(), doors.network.host.addresses, doors.data_at),
            energy=held.energy,
            asks=asks_of(config, self._power, doors.network.book.offers, key.public_key, held.manifest, held.span),
            speed=held.speed,
            limits=limits,
            kv_room=lambda: provider.room,
            free=lambda: provider.free,
            utilisation_ppm=lambda: min(MICRO, provider.active * MICRO // limits.max_sessions),
            clock=clock,
            round_trips=self._neighbours,
        )

    def _make_metering(self, config: NodeConfig, key: SigningKey) -> Metering:
        return Metering(
            self._held.energy,
            worker=ThreadWorker("meter"),
            events=self._on_event,
            clock=clock,
            power=partial(_power, self.terms),
            path=energy_file(config.data_dir, key.address),
        )

    def _make_advertiser(self, key: SigningKey, network: Network) -> Advertiser:
        return Advertiser(
            key,
            network.host,
            OFFERS_TOPIC,
            lambda: self.terms.offer() if self.holding.offers else None,
            keep=network.book.add,
            now_ms=lambda: time.time_ns() // 1_000_000,
            events=self._on_event,
        )

    def serve_links(self, doors: _Doors) -> Coroutine[Any, Any, None]:
        """Serve the links of clients and neighbours, each bounded by what its peer has here."""
        return doors.plane.serve(doors.listener, self._desk.on_link, allowances=self._desk.allowance)

    def work(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for as long as the node does, by name."""
        yield "provider", self.provider.run()
        yield "redeemer", self.redeemer.run()
        yield "meter", self._metering.run()
        if self._payouts is not None:
            yield "payouts", self._payouts.run()
        yield "advertiser", until_forked(self._ledger, self.advertiser.run(), self.advertiser.withdraw())
        yield "timings", self._timings.run()
        yield "neighbours", self._neighbours.run()
        yield "room", _follow_room(_Room(self._held.engine, self.provider), self.advertiser)
        yield from self._power.work()
        yield "holding", self.holding.run()
        yield "lookout", until_forked(self._ledger, self._lookout.run(), _nothing())


def _log_work(ledger: Venue, network: Network) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """What there is to do with a ledger's log, where the venue has one."""
    log = log_of(ledger)
    if log is not None:
        yield "checkpoints", network.checkpoints.follow(log)


async def _nothing() -> None:
    """For work that leaves nothing to be ended."""


def _work(held: _Held, terms: Terms) -> Work:
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


def _redeemer(
    config: NodeConfig,
    key: SigningKey,
    ledger: Venue,
    journal: StoredJournal,
    on_event: Events,
    patience_s: float,
) -> Redeemer:
    folder = vouchers_folder(config.data_dir, key.address)
    worker = ThreadWorker("vouchers")
    store, seen = VoucherStore(folder, worker), SeenSessions(folder / "seen", worker, clock)
    share = config.settle_fee_share_ppm
    return Redeemer(
        ledger, store, seen, key, clock, on_event, journal=journal, fee_share_ppm=share, patience_s=patience_s
    )


async def _wind_up(provider: Provider, redeemer: Redeemer, advertiser: Advertiser) -> None:
    with contextlib.suppress(JoulemeshError, TimeoutError):
        async with asyncio.timeout(REDEEM_S):
            await advertiser.withdraw()
            await provider.stop()
            await redeemer.redeem_all(last=True)


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
        free, active, some = self._provider.room, self._provider.active, self._provider.free > 0
        room, places = abs(free - self._offered[0]) * 4, abs(active - self._offered[1])
        if room < self._engine.kv_capacity and places * 4 < max(4, self._provider.free) and some is self._offered[2]:
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


@contextlib.contextmanager
def _listen_for_data(config: NodeConfig) -> Iterator[tuple[Listener, str]]:
    """A bound port, and the address to offer for it. Raises ListenError, ConfigurationError."""
    if config.data_announce is None and config.data_host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        raise ConfigurationError(
            f"listening for activations on {config.data_host} does not say where others reach this machine",
            hint="add --data-announce ADDRESS",
        )
    with Listener.open(config.data_host, config.data_port) as listener:
        if config.data_announce is None:
            yield listener, listener.address
        else:
            yield listener, data_address(config.data_announce, parse_data_address(listener.address).port)


def _steps(manifest: ModelManifest, span: BlockSpan) -> Iterator[str]:
    """What a node says before it loads its blocks: which device computes, and what clients cannot do with them."""
    yield f"loading blocks {span} of {manifest.name} and measuring joules and speed, on the {compute_device()}"
    if FORMATS[ActivationType(manifest.precision)].tolerance is None:
        yield f"{manifest.precision}: no spot check can judge it yet, so clients cannot audit these blocks"


def _ready(key: SigningKey, terms: Terms, network: Network, start_s: float) -> NodeReady:
    offer, manifest = terms.offer(), terms.manifest
    claim = offer.energy
    return NodeReady(
        provider=key.address,
        peer=network.host.addresses[0],
        data=offer.data_addresses[0],
        model=manifest.name,
        blocks=str(terms.span),
        device=str(compute_device()),
        precision=manifest.precision,
        price_in_micro=offer.rates.price_in,
        price_out_micro=offer.rates.price_out,
        millijoules_per_token=None if claim is None else claim.millijoules_out,
        energy_source=None if claim is None else str(claim.source),
        position_us=offer.position_us,
        start_s=round(start_s, 2),
    )
