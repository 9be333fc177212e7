"""A provider node: one span of one model, offered, served and paid. The whole daemon is visible in `run_node`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from node.app.clock import clock
from node.app.held_model import held_model
from node.app.models import ModelServer
from node.app.network import Network, open_network
from node.app.reload import Reload
from node.app.terms import Site, Terms
from node.config import NodeConfig
from node.energy import Energy, Pricing, choose_energy
from node.engine.device import compute_device
from node.events import Events, NodeReady, Starting
from node.ledger import LedgerClient
from node.market import Advertiser, Lookout
from node.p2p.address import data_address, parse_data_address
from node.p2p.direct import DataPlane, Listener
from node.pipeline.admission import Admission, ProviderLimits
from node.pipeline.provider import Provider
from node.pipeline.redeem import Redeemer
from node.pipeline.vouchers import VoucherStore
from node.ports import StepInput
from protocol.activations import FORMATS, ActivationType
from protocol.errors import ConfigurationError, JoulemeshError
from protocol.ids import BlockSpan, ModelManifest, checksum_address
from protocol.names import MODEL_PROTOCOL, OFFERS_TOPIC, ORDER_PROTOCOL
from protocol.signing import SigningKey
from protocol.tariff import FlatTariff
from protocol.units import MICRO

if TYPE_CHECKING:
    from node.engine.engine import Engine

__all__ = ["run_node"]

MEASURED_POSITIONS = 16
ROOM_S = 1.0
"""Seconds between looks at the room that is left."""
REDEEM_S = 5.0
"""Seconds that a stopping node gives the ledger; what is left is redeemed at its next start."""


async def run_node(config: NodeConfig, key: SigningKey, on_event: Events, reload: Reload[NodeConfig]) -> None:
    """Serve until cancelled, then end the jobs and redeem what they earned.

    Raises:
        ModelError: the model directory cannot be served from.
        ListenError, ConfigurationError: an address, or a price, that does not work.
        UnreachableError: the ledger does not answer at start.
    """
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        remembered = config.data_dir / "ledgers" / f"{quote(config.ledger, safe='')}.json"
        on_event(Starting(step=f"asking the ledger at {config.ledger}"))
        ledger = await stack.enter_async_context(LedgerClient(config.ledger, remembered=remembered))
        info = await ledger.info()
        on_event(Starting(step=f"reading and hashing the model in {config.model}, unless its hashes are remembered"))
        manifest, span = await asyncio.to_thread(held_model, config)
        for step in _steps(manifest, span):
            on_event(Starting(step=step))
        engine, energy, position_us = await asyncio.to_thread(_load, config, manifest, span)
        network = await stack.enter_async_context(open_network(key, config.listen, on_event, announce=config.announce))
        limits = ProviderLimits(max_sessions=config.max_sessions, max_window=config.window)
        vouchers = config.data_dir / "vouchers" / checksum_address(key.address)  # several nodes may share a folder
        redeemer = Redeemer(ledger, VoucherStore(vouchers), key, clock, on_event)
        plane = await stack.enter_async_context(DataPlane(key.secret))
        listener, data_at = stack.enter_context(_listen_for_data(config))
        provider = Provider(
            key,
            manifest,
            span,
            engine=engine,
            energy=energy,
            settlement=ledger,
            redeemer=redeemer,
            connect=plane.connect,
            clock=clock,
            events=on_event,
            limits=limits,
        )
        site = Site(
            jurisdiction=config.jurisdiction,
            carbon_g_per_kwh=config.carbon_g_per_kwh,
            addresses=network.host.addresses,
            data_address=data_at,
        )
        terms = Terms(
            public_key=key.public_key,
            manifest=manifest,
            span=span,
            venue=ledger.domain.separator,
            site=site,
            energy=energy,
            pricing=_pricing(config),
            position_us=position_us,
            kv_room=lambda: engine.kv_free,
            utilisation_ppm=lambda: provider.active * MICRO // limits.max_sessions,
            clock=clock,
        )
        admission = Admission(
            key=key,
            manifest=manifest,
            span=span,
            settlement=ledger,
            redeemer=redeemer,
            suits=terms.suits,
            begin=provider.begin,
            limits=limits,
            clock=clock,
            events=on_event,
        )
        network.host.serve(ORDER_PROTOCOL, admission.answer)
        network.host.serve(MODEL_PROTOCOL, ModelServer(config.model, manifest).answer)
        advertiser = Advertiser(
            key,
            network.host,
            OFFERS_TOPIC,
            terms.describe,
            keep=network.book.add,
            now_ms=lambda: time.time_ns() // 1_000_000,
            events=on_event,
        )
        on_event(Starting(step="joining the network"))
        reload.follow(partial(_reprice, terms, advertiser))
        await network.join((*info.peers, *config.peers))
        on_event(_ready(key, manifest, terms, network, config, time.monotonic() - began))
        lookout = Lookout(advertiser, lambda: network.offers_by(key.public_key), now=clock, events=on_event)
        accept = partial(plane.serve, listener, provider.on_link)
        await _serve(provider, redeemer, advertiser, network, ledger, config.peers, _Room(engine), lookout, accept)


async def _serve(
    provider: Provider,
    redeemer: Redeemer,
    advertiser: Advertiser,
    network: Network,
    ledger: LedgerClient,
    peers: Sequence[str],
    room: _Room,
    lookout: Lookout,
    accept: Callable[[], Coroutine[Any, Any, NoReturn]],
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(provider.run(), name="provider")
            group.create_task(redeemer.run(), name="redeemer")
            group.create_task(advertiser.run(), name="advertiser")
            group.create_task(_follow_room(room, advertiser), name="room")
            group.create_task(network.follow_checkpoints(ledger), name="checkpoints")
            group.create_task(network.stay_joined(ledger, peers), name="bootstrap")
            group.create_task(network.watch(), name="network")
            group.create_task(accept(), name="data plane")
            group.create_task(lookout.run(), name="lookout")
    finally:
        with contextlib.suppress(JoulemeshError, TimeoutError):
            async with asyncio.timeout(REDEEM_S):
                await advertiser.withdraw()
                await provider.stop()
                await redeemer.redeem_all()


class _Room:
    """Tells when an offer's KV room has become misleading."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._offered = engine.kv_free

    def changed(self) -> bool:
        """Whether a quarter of the capacity was taken or given back since this last said so."""
        free = self._engine.kv_free
        if abs(free - self._offered) * 4 < self._engine.kv_capacity:
            return False
        self._offered = free
        return True


async def _follow_room(room: _Room, advertiser: Advertiser) -> None:
    """Offer anew when the room has changed much: a stale offer misleads the router both ways."""
    while True:
        await asyncio.sleep(ROOM_S)
        if room.changed():
            advertiser.renew()


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
    if FORMATS[ActivationType(manifest.precision)].tolerance_ppm is None:
        yield f"{manifest.precision}: no spot check can judge it yet, so clients cannot audit these blocks"


def _load(config: NodeConfig, manifest: ModelManifest, span: BlockSpan) -> tuple[Engine, Energy, int]:
    """The engine, its energy figure and its speed; in a thread of its own, since it takes seconds."""
    from node.engine.engine import Engine

    engine = Engine.load(
        config.model,
        span.start,
        span.end,
        kv_tokens=config.kv_tokens,
        dtype=manifest.precision,
        threads=config.threads,
    )
    energy = choose_energy(
        declared_mj=config.millijoules_per_token,
        milliwatts_per_core=config.milliwatts_per_core,
        gpu=compute_device().is_gpu,
    )
    if energy is None:
        raise ConfigurationError(
            "what a token costs in energy is not known here", hint="declare it with --joules-per-token"
        )
    times: list[float] = []
    energy.calibrate(lambda: _decode_once(engine, span, times))
    while not times:
        _decode_once(engine, span, times)
    return engine, energy, max(1, round(min(times) * 1e6 / MEASURED_POSITIONS))


def _decode_once(engine: Engine, span: BlockSpan, times: list[float]) -> int:
    """Decode some positions one by one, as a lone session would."""
    import numpy as np

    session = b"measurement"
    engine.open(session, max_tokens=MEASURED_POSITIONS, temperature_milli=0, seed=0)
    row = np.zeros((1, engine.facts.hidden_size), dtype="<f4")
    data = (0,) if span.start == 0 else row
    try:
        began = time.perf_counter()
        for position in range(MEASURED_POSITIONS):
            sample = span.end == engine.facts.blocks
            engine.forward([StepInput(session=session, position=position, length=1, data=data, sample=sample)])
        times.append(time.perf_counter() - began)
    finally:
        engine.close(session)
    return MEASURED_POSITIONS


def _pricing(config: NodeConfig) -> Pricing:
    return Pricing(
        tariff=FlatTariff(config.energy_price_micro_per_kwh),
        pue_milli=config.pue_milli,
        overhead=config.overhead_price_micro,
        margin_ppm=config.margin_percent * (MICRO // 100),
        capital=config.capital_price_micro,
    )


def _reprice(terms: Terms, advertiser: Advertiser, config: NodeConfig) -> None:
    """Take over prices that were read again: the next offer has them, and older ones are honoured."""
    terms.pricing = _pricing(config)
    advertiser.renew()


def _ready(
    key: SigningKey, manifest: ModelManifest, terms: Terms, network: Network, config: NodeConfig, start_s: float
) -> NodeReady:
    offer = terms.offer()
    claim = offer.energy
    return NodeReady(
        provider=key.address,
        peer=network.host.addresses[0],
        data=offer.data_address,
        model=manifest.name,
        blocks=str(terms.span),
        device=f"{compute_device()}, {config.threads} thread{'' if config.threads == 1 else 's'} used",
        precision=manifest.precision,
        price_in_micro=offer.price_in,
        price_out_micro=offer.price_out,
        millijoules_per_token=None if claim is None else claim.millijoules_per_token,
        energy_source=None if claim is None else str(claim.source),
        position_us=offer.position_us,
        start_s=round(start_s, 2),
    )
