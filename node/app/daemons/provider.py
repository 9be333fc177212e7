"""A provider node: one span of one model at a time, offered, served and paid. The daemon is visible in `run_node`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from node.app.diagnosis.activity import open_activity
from node.app.models.held_model import held_model, wanted_blocks
from node.app.network.fetching import Fetching, named_model, open_fetching
from node.app.network.membership import Network, dials_beside, open_network
from node.app.network.merits import Merits
from node.app.network.peers import open_peers
from node.app.process.clock import clock
from node.app.process.lock import sole_use
from node.app.process.measured import open_metrics
from node.app.process.reload import Reload
from node.app.process.services import shown_here
from node.app.process.traced import open_traces
from node.app.selling.anchoring import time_others
from node.app.selling.drafter import load_drafter
from node.app.selling.measure import load_and_measure
from node.app.selling.placement import Placement, room_of
from node.app.selling.power import power_of
from node.app.selling.provider_settings import hold_back, take_over
from node.app.selling.serving import Doors, Held, Node, Shared
from node.app.settlement.earnings import open_earnings
from node.app.settlement.forks import tell_of_fork
from node.app.settlement.settling import vouchers_folder
from node.app.settlement.venue import Venue, log_of, open_venue, peers_of, settling_patience_s, shown_venue
from node.app.settlement.witnessed import tell_of_lack
from node.config import NodeConfig
from node.earnings import StoredJournal
from node.engine.device import compute_device
from node.events import Events, Starting
from node.file_limit import raise_file_limit
from node.p2p.address import data_address, parse_data_address
from node.p2p.dials import DialBudget
from node.p2p.direct import DataPlane, Listener
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.serving.seen import SeenSessions
from node.pipeline.vouchers import VoucherStore
from node.settings.kinds import AUTO
from node.tasks import owned_tasks
from node.worker import ThreadWorker
from protocol.errors import ConfigurationError, JoulemeshError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.identity.signing import SigningKey
from protocol.market.offer import Offer
from protocol.models.precisions import precision_of

__all__ = ["run_node"]

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
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_use(config.data_dir, key.address))
        on_event = await stack.enter_async_context(open_activity(config.data_dir, key.address, on_event))
        on_event = stack.enter_context(shown_here(config.data_dir, "node", on_event, ledger=config.ledger))
        on_event = await stack.enter_async_context(open_metrics(config, on_event))
        on_event = await stack.enter_async_context(open_traces(config, on_event))
        power = power_of(config, on_event)
        named = named_model(config)
        on_event(Starting(step=f"asking the ledger at {shown_venue(config.ledger)}"))
        ledger = await stack.enter_async_context(open_venue(config))
        venue_peers = await peers_of(ledger)
        await tell_of_lack(ledger, on_event)
        held = None if config.blocks == AUTO or named is not None else await _load(config, None, on_event)
        await power.supply.begin()
        memory = await stack.enter_async_context(open_peers(config.data_dir, key.address, on_event))
        dials = await dials_beside(ledger.url, memory)
        doors = await stack.enter_async_context(_open_doors(config, key, on_event, descriptors, dials))
        time_others(config, doors.network.host, key, on_event)
        tasks = await stack.enter_async_context(owned_tasks())
        journal = await stack.enter_async_context(open_earnings(config.data_dir, key.address, on_event))
        redeemer = _redeemer(config, key, ledger, journal, on_event, await settling_patience_s(ledger))
        shared = Shared(config, key, on_event, ledger, doors, memory, journal, redeemer, power, tasks.spawn)
        doors.network.merits.ask = ledger.providers
        on_event(Starting(step="joining the network"))
        await doors.network.join((*venue_peers, *config.peers), ledger)
        placement = fetching = None
        if named is not None:
            on_event(Starting(step=f"looking for {config.model}"))
            fetching = await stack.enter_async_context(
                open_fetching(config, named, doors.network, memory, on_event, key.public_key)
            )
            shared = dataclasses.replace(shared, config=fetching.config)
        if config.blocks == AUTO:
            placement, held = await _choose(shared, fetching)
        elif fetching is not None:
            await fetching.blocks(wanted_blocks(config, fetching.manifest.blocks))
            held = await _load(shared.config, None, on_event)
        assert held is not None, "loaded before, chosen, or fetched"
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in (
                    *shared.work(),
                    *_log_work(ledger, doors.network),
                    ("forks", tell_of_fork(ledger, on_event)),
                    ("bootstrap", doors.network.stay_joined(ledger, config.peers)),
                    ("network", doors.network.watch()),
                    ("merits", doors.network.follow_merits()),
                    ("job tasks", tasks.watch()),
                ):
                    group.create_task(work, name=name)
                await _serve(shared, held, placement, reload, began)
        finally:
            with contextlib.suppress(JoulemeshError, TimeoutError):
                async with asyncio.timeout(REDEEM_S):
                    await redeemer.redeem_all(last=True)


async def _choose(shared: Shared, fetching: Fetching | None) -> tuple[Placement, Held]:
    """The blocks that the market lacks most, fetched where they are not here, and loaded."""
    config, network = shared.config, shared.doors.network
    if fetching is not None:
        await fetching.outline()
    room = await asyncio.to_thread(room_of, config)
    venue = shared.ledger.domain.separator

    def offers() -> list[Offer]:
        return [offer for offer in network.book.offers(room.manifest.root) if offer.venue == venue]

    public_key = shared.key.public_key
    prepare = None if fetching is None else fetching.blocks
    placement = Placement(room, public_key, offers, epoch_s=config.rebalance_s, events=shared.on_event, prepare=prepare)
    await placement.heard(network.heard)
    span = placement.join()
    if fetching is not None:
        await fetching.blocks(span)
    return placement, await _load(config, span, shared.on_event)


async def _serve(
    shared: Shared, held: Held, placement: Placement | None, reload: Reload[NodeConfig], began: float
) -> None:
    """Serve these blocks until cancelled; where the market chooses, others after them."""
    while True:
        node = Node(shared, held, movable=placement is not None and placement.room.moves)
        reload.follow_one(partial(_follow, node))
        shared.on_event(node.ready(time.monotonic() - began))
        try:
            span = await node.serve(placement)
        finally:
            await node.stop()
        began = time.monotonic()
        held.engine.unload()  # there may not be room for both
        held = await _load(shared.config, span, shared.on_event)


def _follow(node: Node, config: NodeConfig) -> None:
    """Take over settings that were changed while the node runs. Raises ConfigurationError, and changes nothing then."""
    take_over(node.terms, node.limits, node.advertiser, config)
    hold_back(node.holding, config)


async def _load(config: NodeConfig, chosen: BlockSpan | None, on_event: Events) -> Held:
    began = time.monotonic()
    on_event(Starting(step=f"hashing the model in {config.model}"))
    manifest, span = await asyncio.to_thread(held_model, config, chosen)
    for step in _steps(manifest, span):
        on_event(Starting(step=step))
    engine, energy, speed = await asyncio.to_thread(load_and_measure, config, manifest, span)
    await asyncio.to_thread(getattr, engine, "masks")  # which is made when it is first asked for
    drafter = await asyncio.to_thread(load_drafter, config, manifest, span)
    return Held(manifest, span, engine, energy, speed, drafter, time.monotonic() - began)


@asynccontextmanager
async def _open_doors(
    config: NodeConfig, key: SigningKey, on_event: Events, descriptors: int, dials: DialBudget
) -> AsyncIterator[Doors]:
    merits = Merits(clock)
    async with (
        open_network(key, config.listen, on_event, announce=config.announce, merits=merits, dials=dials) as network,
        DataPlane(key.secret, descriptors=descriptors // DATA_SHARE) as plane,
    ):
        with _listen_for_data(config) as (listener, data_at):
            yield Doors(network, plane, listener, data_at)


def _log_work(ledger: Venue, network: Network) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """What there is to do with a ledger's log, where the venue has one."""
    log = log_of(ledger)
    if log is not None:
        yield "checkpoints", network.checkpoints.follow(log)


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
    precision = precision_of(manifest.precision)
    if precision is None or precision.tolerance is None:
        yield f"{manifest.precision}: no spot check can judge it yet, so clients cannot audit these blocks"
