"""Every declared setting changes what it says: a setting without a check here fails.

Each check holds what comes of two values against one another. Most go through the functions that turn settings into
prices, limits, policies and terms; those about addresses and folders look at one ledger and one node that run with none
of them at its default.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doc_commands import free_port
from forged_bundles import honest_bundle
from small_market import RememberedPeers

from node.app.buying.client import Client, open_client
from node.app.buying.edge import open_edge
from node.app.buying.law import ends_of, law_of, policy_of
from node.app.buying.planning import Market
from node.app.buying.receipts import keep_bundle
from node.app.buying.request import Request
from node.app.daemons.gateway import settings_of as settings_of_gateway
from node.app.daemons.ledger import settings_of
from node.app.daemons.witness import settings_of as settings_of_witness
from node.app.models.held_model import held_model
from node.app.network.fetching import Named, places_of, uplink_of
from node.app.process.measured import open_metrics
from node.app.process.traced import open_traces
from node.app.selling.anchoring import NODES_WORD_S, own_statements, time_others
from node.app.selling.asks import Asks
from node.app.selling.drafter import load_drafter
from node.app.selling.holding import Holding
from node.app.selling.measure import load_and_measure, meter_of
from node.app.selling.placement import Placement, room_of
from node.app.selling.provider_settings import (
    destination_of,
    hold_back,
    limits_of,
    pace_of,
    pricing_of,
    site_of,
    supply_of,
    take_over,
)
from node.app.selling.terms import Speed, Terms
from node.app.settlement.bonded import require_operator_bond
from node.app.settlement.venue import chain_settings_of
from node.app.settlement.witnessed import witnessed_of
from node.cli.terminal.options import unlocked
from node.cli.terminal.output import tell
from node.config import (
    AnchorConfig,
    ClientConfig,
    GatewayConfig,
    LedgerConfig,
    NodeConfig,
    WitnessConfig,
    markets_of,
)
from node.energy import DeclaredEnergy, MeteredEnergy, SpanSize
from node.energy.source import choose_energy
from node.engine.device import compute_device
from node.events import Event, MetricsReady, PeerUnreached, unheard
from node.gateway import Limits, Wanted
from node.keystore import LIGHT, Keystore, generate
from node.ledger import LedgerClient
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.lookup import LookupDrafter
from node.settings import declared, load
from node.signed_files import write_signed
from node.tariff import FollowedSupply
from protocol.errors import ConfigurationError, JoulemeshError, RefusedError, UnreachableError
from protocol.identity.ids import BlockSpan, ModelManifest, ModelRoot, checksum_address
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.log.cosignature import CosigningKey
from protocol.log.note import NoteKey
from protocol.market.offer import Offer, Provenance, Statement
from protocol.market.pricing import Comparable
from protocol.models.model_catalogue import CatalogueEntry
from protocol.names import TIME_PROTOCOL
from protocol.policy.denials import Denial, DenialKind, Denials
from protocol.policy.ends import TrustedEnds
from protocol.policy.policy import LatencyClass
from protocol.receipts.bundle_file import load_bundle
from protocol.routing.routes import NoRouteError
from protocol.serving.places import free_for_newcomers
from protocol.session.terms import SamplingTerms
from protocol.settlement import Account
from protocol.settlement.redeeming import Redeemable, batches

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "node" / "demo" / "model"
NOW = 1_900_000_000
VENUE = b"\x22" * 32
PASSPHRASE = "correct horse"
DEAD = "/ip4/127.0.0.1/tcp/9/p2p/16Uiu2HAkvLVrEhLrbPsdcNjiPbE4uGrSGn2kHjKGFTYiB6qSZJ4y"
"""A peer that nobody is."""
KEY = SigningKey(b"\x07" * 32)
WITNESS = str(CosigningKey("witness.example", b"\x07" * 32).verifier)
ATTESTOR = checksum_address(b"\x01" * 20)
ANCHOR = f"{ATTESTOR}@DE:50.11/8.68:100km"
LOG = str(NoteKey("ledger.example", b"\x08" * 32).verifier)

Check = Callable[["World"], None]
CHECKS: dict[tuple[type[Any], str], Check] = {}


def shows(cls: type[Any], *names: str) -> Callable[[Check], Check]:
    """Register the check of settings."""

    def register(check: Check) -> Check:
        for name in names:
            assert (cls, name) not in CHECKS
            CHECKS[cls, name] = check
        return check

    return register


def differ(cls: type[Any], observe: Callable[[Any], Any], **pairs: tuple[Any, Any]) -> None:
    """Register for each setting that `observe` sees two values of it as different."""
    for name, (one, other) in pairs.items():

        def check(_world: World, name: str = name, one: Any = one, other: Any = other) -> None:
            required = {"model": str(DEMO)} if cls is NodeConfig else {}
            seen = [observe(load(cls, flags={**required, name: each})) for each in (one, other)]
            assert seen[0] != seen[1], f"{name} changes nothing"

        shows(cls, name)(check)


# What a node offers


def terms_of(config: NodeConfig) -> Terms:
    """A node's terms, with everything else the same."""
    manifest, span = held_model(config)
    energy = DeclaredEnergy(50, blocks=len(span))
    limits = limits_of(config)
    return Terms(
        public_key=KEY.public_key,
        manifest=manifest,
        span=span,
        venue=VENUE,
        site=site_of(config, compute_device(), ["/ip4/127.0.0.1/tcp/1"], "/ip4/127.0.0.1/tcp/2/tls"),
        energy=energy,
        asks=Asks(
            pricing=pricing_of(config),
            power=FollowedSupply(config.tariff, supply_of(config), clock=lambda: NOW, events=unheard),
            pace=pace_of(config),
            others=lambda: Comparable(100_000, 100_000),
        ),
        speed=Speed(prompt_us=10, position_us=100),
        limits=limits,
        kv_room=lambda: 4_096,
        free=lambda: free_for_newcomers([], limits.max_sessions),
        utilisation_ppm=lambda: 500_000,
        clock=lambda: NOW,
    )


def offered(config: NodeConfig) -> Offer:
    return terms_of(config).offer()


def held(config: NodeConfig) -> Any:
    try:
        return held_model(config)
    except JoulemeshError as error:
        return error.code


differ(
    NodeConfig,
    offered,
    precision=("fp32", "bf16"),
    blocks=("0:2", "0:6"),
    jurisdiction=("DE", "FR"),
    hardware_category=("consumer", "datacenter"),
    retention_s=("0", "60"),
    energy_price=("0.1", "0.2"),
    hardware_price=(None, "1"),
    margin_policy=("fixed", "utilisation"),
    pue=("1", "2"),
    carbon_g_per_kwh=(None, "380"),
    overhead_price=("0", "1"),
    capital_price=("0", "1"),
    margin=("0", "50"),
    opening_price=("0", "1"),
    cached_price=("0", "10"),
    late_discount=("0", "50"),
    credit=("0", "8"),
    max_sessions=("4", "6"),
    window=("8", "16"),
    draft_depth=("4", "8"),
)
differ(NodeConfig, limits_of, warm_s=("0", "60"), chunk=("64", "128"), stretch=("0", "3"), wait=("1", "5"))
differ(NodeConfig, limits_of, overcommit=("100", "400"))
differ(NodeConfig, held, model=(str(DEMO), str(DEMO.parent)))


@shows(NodeConfig, "payout", "payout_above", "settle_fee_share")
def _(_world: World) -> None:
    cold = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    assert destination_of(load(NodeConfig, flags={"model": str(DEMO)})) is None
    flags = {"model": str(DEMO), "payout": cold.lower(), "payout_above": "2.5", "settle_fee_share": "10"}
    wanted = destination_of(load(NodeConfig, flags=flags))
    assert wanted is not None
    assert (wanted.to, wanted.above, wanted.fee_share_ppm) == (cold, 2_500_000, 100_000)
    with pytest.raises(ConfigurationError, match="checksum"):
        load(NodeConfig, flags={"model": str(DEMO), "payout": cold.replace("a", "A", 1)})
    line = load(NodeConfig, flags={"model": str(DEMO), "payout": "IBAN DE02 1203 0000 0000 2020 51"})
    assert line.payout == "IBAN DE02 1203 0000 0000 2020 51"
    with pytest.raises(ConfigurationError):
        load(NodeConfig, flags={"model": str(DEMO), "payout": "x" * 97})
    assert [_redeems(percent) for percent in ("5", "10")] == [False, True]


@shows(NodeConfig, "tariff")
def _(world: World) -> None:
    path = world.folder / "tariff.toml"
    path.write_text('[price]\nkind = "flat"\nvalue = 0.5\n')
    found = offered(load(NodeConfig, flags={"model": str(DEMO), "tariff": str(path)}))
    assert found.energy is not None
    assert found.energy.tariff_micro_per_kwh == 500_000


@shows(NodeConfig, "undercut", "target_use", "carbon_price")
def _(_world: World) -> None:
    """Each beside the setting that it goes with."""
    for name, with_it in (
        ("undercut", {"margin_policy": "book"}),
        ("target_use", {"hardware_price": "1"}),
        ("carbon_price", {"carbon_g_per_kwh": "400"}),
    ):
        one, other = (
            offered(load(NodeConfig, flags={"model": str(DEMO), **with_it, name: each})) for each in ("1", "9")
        )
        assert one.rates != other.rates, name
    with pytest.raises(ConfigurationError, match="not known"):
        offered(load(NodeConfig, flags={"model": str(DEMO), "carbon_price": "9"}))


@shows(NodeConfig, "requote_s", "requote_above")
def _(_world: World) -> None:
    for flags, changed in (
        ({"requote_s": "60", "requote_above": "0"}, False),
        ({"requote_s": "0", "requote_above": "100"}, False),
        ({"requote_s": "0", "requote_above": "1"}, True),
    ):
        terms = terms_of(load(NodeConfig, flags={"model": str(DEMO), "margin_policy": "book", **flags}))
        before = terms.offer().rates
        terms.asks.others = lambda: Comparable(200_000, 150_000)
        assert (terms.offer().rates != before) is changed, flags


def holding_of(**flags: str) -> Holding:
    """Of a node that draws 500 W for each session."""
    config = load(NodeConfig, flags={"model": str(DEMO), "max_sessions": "8", **flags})
    holding = Holding(
        FollowedSupply(None, supply_of(config), clock=lambda: NOW, events=unheard),
        None,
        limits_of(config),
        session_w=lambda: (10_000, 20_000, 1_000),
        active=lambda: 0,
        shed=lambda wanted, reason: None,
        renew=lambda: None,
        events=unheard,
    )
    hold_back(holding, config)
    holding.look()
    return holding


@shows(NodeConfig, "pause_above", "power_cap")
def _(_world: World) -> None:
    assert holding_of(pause_above="0.1").offers
    paused = holding_of(pause_above="0.09")
    assert not paused.offers
    with pytest.raises(JoulemeshError) as refused:
        paused.require(LatencyClass.CHAT)
    assert refused.value.code == "paused"
    assert [holding_of(power_cap=cap)._limits.max_sessions for cap in ("1", "1.5", "99")] == [2, 3, 8]
    assert not holding_of(power_cap="0.4").offers, "no job fits"


def _redeems(percent: str) -> bool:
    """Whether a claim of ten micro-units is redeemed at a fee of one."""
    share = load(NodeConfig, flags={"model": str(DEMO), "settle_fee_share": percent}).settle_fee_share_ppm
    claim = Redeemable(session=bytes(32), worth=10, expiry=NOW + 1)
    return bool(batches([claim], fee=1, share_ppm=share, now=NOW))


@shows(NodeConfig, "region")
def _(_world: World) -> None:
    flags = {"model": str(DEMO), "jurisdiction": "DE", "region": "DE-BE"}
    assert offered(load(NodeConfig, flags=flags)).region == "DE-BE"


@shows(NodeConfig, "places", "trains")
def _(_world: World) -> None:
    flags = {"model": str(DEMO), "jurisdiction": "DE", "places": "FR,IT-25", "trains": "yes", "retention_s": "9"}
    offer = offered(load(NodeConfig, flags=flags))
    assert (offer.places, offer.trains, offer.retention_s) == (("FR", "IT-25"), True, 9)


def test_what_can_be_reloaded_is_taken_over() -> None:
    """Each reloadable setting of a node changes the next offer of one that runs, or its limits, or is the log's."""
    beside = {"pause_above", "power_cap", "undercut", "target_use", "carbon_price", "requote_s", "requote_above"}
    others = {
        "hardware_price": "7", "margin_policy": "book",
        "energy_price": "0.7", "pue": "3", "carbon_g_per_kwh": "99", "overhead_price": "7", "capital_price": "7",
        "margin": "77", "opening_price": "7", "late_discount": "7", "credit": "7", "max_sessions": "7", "window": "7",
        "cached_price": "7", "warm_s": "7", "draft_depth": "7", "stretch": "7", "wait": "7",
    }  # fmt: skip
    assert {each.name for each in declared(NodeConfig) if each.reloadable} == {*others, *beside, "log_level"}
    renewed: list[bool] = []

    class Renewing:
        def renew(self) -> None:
            renewed.append(True)

    for name, value in others.items():
        terms = terms_of(load(NodeConfig, flags={"model": str(DEMO)}))
        limits = terms.limits
        assert isinstance(limits, ProviderLimits)
        before = terms.offer(), dataclasses.replace(limits)
        take_over(terms, limits, Renewing(), load(NodeConfig, flags={"model": str(DEMO), name: value}))  # type: ignore[arg-type]
        assert (terms.offer(), limits) != before, f"{name} is not taken over"
    assert len(renewed) == len(others)


@shows(NodeConfig, "drafter", "draft_model", "draft_layers")
def _(_world: World) -> None:
    def drafter(**flags: str) -> Any:
        config = load(NodeConfig, flags={"model": str(DEMO), "kv_tokens": "64", **flags})
        return load_drafter(config, *held_model(config))

    assert drafter(drafter="none") is None
    assert drafter(drafter="ngram", blocks="1:6") is None
    assert drafter(drafter="ngram", draft_depth="0") is None
    assert isinstance(drafter(drafter="ngram"), LookupDrafter)
    engines = [drafter(drafter="layers", draft_layers=each)._engine for each in ("0,5", "0,2,5")]
    assert [engine.facts.blocks for engine in engines] == [2, 3]
    assert drafter(drafter="model", draft_model=str(DEMO))._engine.facts.blocks == 6
    with pytest.raises(ConfigurationError):
        drafter(drafter="model")


# Which blocks the market chooses


@shows(NodeConfig, "max_blocks")
def _(_world: World) -> None:
    rooms = [room_of(load(NodeConfig, flags={"model": str(DEMO), "max_blocks": most})) for most in ("2", "4")]
    assert [(room.length, room.windows) for room in rooms] == [(2, (0, 1, 2, 3, 4)), (4, (0, 1, 2))]
    assert room_of(load(NodeConfig, flags={"model": str(DEMO)})).length == 6
    with pytest.raises(ConfigurationError, match="memory"):
        room_of(load(NodeConfig, flags={"model": str(DEMO), "kv_tokens": str(2**31 - 1)}))


@shows(NodeConfig, "mirrors")
def _(_world: World) -> None:
    entry = CatalogueEntry(
        name="m", precision="fp32", root=bytes(32), license="", card="", mirrors=("http://127.0.0.9:9", "ftp://no")
    )
    named = Named(ModelRoot(bytes(32)), entry, Path("nowhere"))
    config = load(NodeConfig, flags={"model": "m", "mirrors": ("https://a.example/m/", "/srv/m")})
    assert list(places_of(config, named)) == ["https://a.example/m", "/srv/m", "http://127.0.0.9:9"]
    assert list(places_of(load(NodeConfig, flags={"model": "m"}), dataclasses.replace(named, entry=None))) == []
    with pytest.raises(ConfigurationError, match="URL"):
        load(NodeConfig, flags={"model": "m", "mirrors": ("ftp://a.example",)})


@shows(NodeConfig, "upload")
def _(_world: World) -> None:
    peers = RememberedPeers(lambda: NOW)
    wide, narrow = (uplink_of(load(NodeConfig, flags={"model": "m", "upload": kb}), peers) for kb in ("4000", "4"))
    key = SigningKey(bytes([3]) * 32).public_key
    assert (wide.rate, narrow.rate) == (4_000_000, 4_000)
    assert (wide.admit(key, 1_000_000), narrow.admit(key, 1_000_000)) == (0.0, 0.0)
    assert wide.admit(key, 1) == pytest.approx(1.0, abs=0.1)  # a quarter of it goes to a stranger
    with pytest.raises(RefusedError):
        narrow.admit(key, 1)
    with pytest.raises(RefusedError):
        uplink_of(load(NodeConfig, flags={"model": "m", "upload": "0"}), peers).admit(key, 1)


@shows(NodeConfig, "rebalance")
def _(_world: World) -> None:
    def moves(seconds: str) -> BlockSpan | None:
        config = load(NodeConfig, flags={"model": str(DEMO), "max_blocks": "3", "rebalance": seconds})
        room, mine = room_of(config), SigningKey(bytes([1]) * 32).public_key
        offers = [an_offer(room.manifest, number, blocks="0:3")[0].replace(reload_s=1) for number in (1, 2)]
        offers[1] = offers[1].replace(reload_s=None)
        placement = Placement(room, mine, lambda: offers, epoch_s=config.rebalance_s, events=unheard)

        async def look() -> BlockSpan | None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(4):
                    return await placement.moved(BlockSpan(start=0, end=3), 1)
            return None

        return asyncio.run(look())

    assert moves("1") == BlockSpan(start=3, end=6)
    assert moves("0") is None


# What a node measures


@shows(NodeConfig, "kv_tokens", "threads", "joules_per_token")
def _(world: World) -> None:
    import torch

    config = load(
        NodeConfig,
        flags={"model": str(DEMO), "blocks": "5:6", "kv_tokens": "64", "threads": "2", "joules_per_token": "1.5"},
    )
    before = torch.get_num_threads()
    try:
        engine, energy, _ = load_and_measure(config, *held_model(config))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    figure = energy.offered()
    assert figure is not None
    assert (engine.kv_capacity, figure.source, figure.millijoules_out) == (64, Provenance.DECLARED, 1_500)


@shows(NodeConfig, "watts_per_core")
def _(_world: World) -> None:
    config = load(NodeConfig, flags={"model": str(DEMO), "meter": "processor", "watts_per_core": "17.5"})
    energy = choose_energy(meter_of(config), blocks=6, most_mw=10**6)
    assert isinstance(energy, MeteredEnergy)
    assert energy.meter.name == "processor time at 17.5 W a core"


def meter_said(config: NodeConfig) -> Any:
    """What is read, and how; or what is wrong with it."""
    size = SpanSize(parameters=1_000_000, weight_bytes=4_000_000)
    try:
        energy = choose_energy(meter_of(config), blocks=6, size=size, most_mw=10**6)
    except ConfigurationError as error:
        return error.message
    assert isinstance(energy, MeteredEnergy)
    energy.calibrate(lambda: 1, lambda: 1) if energy.meter.source is Provenance.MODEL else None
    return energy.meter.name, energy.meter.accuracy, energy.offered()


PLUG = {"meter": "http", "meter_url": "http://127.0.0.1:1/a", "meter_path": "w", "meter_unit": "W"}
DEVICE = {"meter": "roofline", "device_watts": "100", "device_tflops": "0.001", "device_gb_per_s": "1"}


@shows(NodeConfig, "meter", "meter_url", "meter_path", "meter_error", "meter_command")
def _(_world: World) -> None:
    seen = [
        meter_said(load(NodeConfig, flags={"model": str(DEMO), **PLUG, **change}))
        for change in (
            {},
            {"meter": "tasmota"},
            {"meter_url": "http://127.0.0.1:1/b"},
            {"meter_path": "v"},
            {"meter_error": "2"},
            {"meter": "command", "meter_url": None, "meter_command": "date"},
        )
    ]
    assert len({str(each) for each in seen}) == len(seen)


@shows(NodeConfig, "meter_unit")
def _(_world: World) -> None:
    def is_power(unit: str) -> bool:
        config = load(NodeConfig, flags={"model": str(DEMO), **PLUG, "meter_unit": unit})
        energy = choose_energy(meter_of(config), blocks=6, most_mw=10**6)
        assert isinstance(energy, MeteredEnergy)
        return bool(energy.meter._gauges[0].is_power)  # type: ignore[attr-defined]

    assert (is_power("kW"), is_power("kWh")) == (True, False)
    with pytest.raises(ConfigurationError):
        is_power("kwh")


@shows(NodeConfig, "device_watts", "device_tflops", "device_gb_per_s")
def _(_world: World) -> None:
    changes = ({}, {"device_watts": "200"}, {"device_tflops": "0.0001"}, {"device_gb_per_s": "0.5"})
    seen = [meter_said(load(NodeConfig, flags={"model": str(DEMO), **DEVICE, **change})) for change in changes]
    assert len({str(each) for each in seen}) == len(seen)


# What a ledger begins with

differ(
    LedgerConfig,
    settings_of,
    name=("a", "b"),
    database=(None, "sqlite:///x.sqlite3"),
    host=("127.0.0.1", "127.0.0.2"),
    port=("0", "1"),
    grace_s=("1", "2"),
    faucet_limit=("0", "1"),
    fee=("0.000001", "0.000002"),
    unbonding_s=("1", "2"),
    notice_s=("1", "2"),
    bond_multiple=("0", "1"),
    witnessed_by=(None, f"{WITNESS}@https://w.example"),
)

# What a witness does

differ(
    WitnessConfig,
    settings_of_witness,
    name=("a", "b"),
    logs=(LOG, f"{LOG}@https://l.example"),
    validate=("no", "yes"),
    pull_s=("0", "1"),
    host=("127.0.0.1", "127.0.0.2"),
    port=("0", "1"),
    data_dir=("a", "b"),
)


# Whose word on a checkpoint is asked for


def asked(config: NodeConfig | ClientConfig) -> Any:
    try:
        return witnessed_of(config).policy
    except ConfigurationError as error:
        return error.code


for each in (NodeConfig, ClientConfig):
    differ(each, chain_settings_of, confirmations=("0", "1"), max_gas_price=("1", "2"), coin_price=("0", "1"))
    differ(each, asked, witnesses=(None, WITNESS), min_witnesses=("0", "1"), max_checkpoint_age_s=("0", "1"))


class _Ledger(LedgerClient):
    """One that is not asked: its operator is known, and has nothing at stake."""

    async def connect(self) -> Any:
        return SimpleNamespace(operator=KEY.address)

    async def account(self, address: bytes) -> Account:
        return Account()


def bonded(config: ClientConfig) -> str:
    """Why the ledger's operator does not do, or what was asked about him elsewhere."""
    try:
        asyncio.run(require_operator_bond(config, _Ledger("http://127.0.0.1:9")))
    except JoulemeshError as error:
        return error.code
    return ""


differ(ClientConfig, bonded, min_operator_bond=("0", "1"))


@shows(ClientConfig, "operator_bond_at")
def _(_world: World) -> None:
    asked = {"min_operator_bond": "1"}
    assert bonded(load(ClientConfig, flags=asked)) == "unbonded"
    assert bonded(load(ClientConfig, flags={**asked, "operator_bond_at": "http://127.0.0.1:9"})) == "unreachable"


# What a client asks for


def an_offer(manifest: ModelManifest, number: int, **changes: str) -> tuple[Offer, bytes]:
    """Of all blocks of the demo model, by a node of its own."""
    key = SigningKey(bytes([number]) * 32)
    flags = {"model": str(DEMO), "jurisdiction": "DE", **changes}
    offer = offered(load(NodeConfig, flags=flags)).replace(
        public_key=key.public_key, expires_at=NOW + 100, sequence=number, model=manifest.root, license=manifest.license
    )
    return offer, seal(offer, key)


def bought(config: ClientConfig, **changes: str) -> Any:
    """Terms and expiry that a request comes to; or why there is no route.

    Args:
        changes: of the model's manifest.
    """
    manifest = held_model(load(NodeConfig, flags={"model": str(DEMO)}))[0].replace(**changes)
    offers = [an_offer(manifest, 1), an_offer(manifest, 2, overhead_price="50")]
    market = Market(Request(prompt=(1, 2, 3)), config, manifest, offers, venue=VENUE, clock=lambda: NOW)
    asked = market.worth_asking()
    market.hear(asked, {offer.public_key: 20_000 * offer.sequence for offer in asked})
    try:
        route = market.route()
    except NoRouteError as error:
        return error.code, [reason.code for _, reason in error.explanations]
    deal = market.deal(route, client=KEY.address, randomness=lambda count: bytes(count))
    return deal.terms, deal.session.expiry, policy_of(config, manifest, law_of(config, NOW))


differ(
    ClientConfig,
    bought,
    max_tokens=("5", "6"),
    temperature=("0", "0.5"),
    top_p=("1", "0.5"),
    top_k=("0", "1"),
    repetition_penalty=("1", "1.1"),
    presence_penalty=("0", "-0.5"),
    frequency_penalty=("0", "0.5"),
    logit_bias=(None, "5:-1.5"),
    seed=("0", "1"),
    window=("4", "5"),
    session_s=("10", "11"),
    allow=(None, "FR"),
    deny=(None, "DE"),
    max_price_in=(None, "0.000001"),
    max_price_out=(None, "0.000001"),
    latency_class=("chat", "batch"),
    min_evidence=("claimed", "attested"),
    min_stake=("0", "1"),
    drafts=("auto", "never"),
    standbys=("0", "1"),
    precision=("fp32", "bf16"),
    origin=(None, "FR"),
    purpose=("inference", "research"),
    deny_hardware=(None, "datacenter"),
    max_retention_s=(None, "0"),
    training=("allowed", "forbidden"),
    max_carbon_g_per_kwh=(None, "100"),
    stands_at=(None, "52.52,13.40"),
    anchors=(None, ANCHOR),
    attestors=(None, ATTESTOR),
    trusted_ends=(None, ATTESTOR),
)


@shows(ClientConfig, "end_blocks")
def _(_world: World) -> None:
    flags = {"trusted_ends": checksum_address(KEY.address)}
    found = [ends_of(load(ClientConfig, flags={**flags, "end_blocks": each}), [KEY.public_key]) for each in ("1", "2")]
    assert found == [TrustedEnds(frozenset({KEY.public_key}), depth) for depth in (1, 2)]


@shows(ClientConfig, "receipt_text")
def _(world: World) -> None:
    for text, tokens in (("kept", honest_bundle().tokens), ("withheld", None)):
        config, file = load(ClientConfig, flags={"receipt_text": text}), world.folder / f"{text}.json"
        keep_bundle(honest_bundle(), file, text=config.receipt_text)
        assert load_bundle(file.read_bytes()).tokens == tokens


@shows(ClientConfig, "corridors")
def _(_world: World) -> None:
    flags = {"origin": "FR", "latency_class": "batch"}
    code, _ = bought(load(ClientConfig, flags=flags))
    assert code == "all-excluded"
    corridor = "FR>EU:inference:2099-01-01"
    terms, _, policy = bought(load(ClientConfig, flags={**flags, "corridors": corridor}))
    assert terms.policy == policy
    assert len(policy.corridors) == 1


@shows(ClientConfig, "licenses")
def _(_world: World) -> None:
    config = load(ClientConfig, flags={"licenses": "Apache-2.0,MIT"})
    terms, _, _ = bought(config, license="MIT")
    assert terms.policy.licenses == ("Apache-2.0", "MIT")
    for unsuitable in ("", "GPL-3.0"):  # not stated, and another one
        with pytest.raises(ConfigurationError, match="is under"):
            bought(config, license=unsuitable)


@shows(ClientConfig, "lying_anchors")
def _(_world: World) -> None:
    terms = [bought(load(ClientConfig, flags={"anchors": ANCHOR, "lying_anchors": each}))[0] for each in ("0", "1")]
    assert terms[0].policy.trust != terms[1].policy.trust


@shows(ClientConfig, "deny_lists")
def _(world: World) -> None:
    made = Denials(
        name="a list", issued_at=NOW, effective_from=NOW, expires_at=NOW + 10**6,
        entries=(Denial(what=DenialKind.PLACE, value="DE"),),
    )  # fmt: skip
    file = world.folder / "a.list"
    write_signed(file, seal(made, KEY))
    ours, others = f"{checksum_address(KEY.address)}@{file}", f"{ATTESTOR}@{file}"
    code, reasons = bought(load(ClientConfig, flags={"deny_lists": ours}))
    assert (code, set(reasons)) == ("all-excluded", {"listed"})
    with pytest.raises(ConfigurationError, match="signed by"):
        bought(load(ClientConfig, flags={"deny_lists": others}))
    write_signed(file, seal(made.replace(expires_at=NOW + 1), KEY))
    with pytest.raises(ConfigurationError, match="expired"):
        bought(load(ClientConfig, flags={"deny_lists": ours}))
    write_signed(file, seal(made.replace(effective_from=NOW + 10**5), KEY))
    terms, _, _ = bought(load(ClientConfig, flags={"deny_lists": ours}))
    assert terms.policy.lists == (), "it does not hold yet"
    (world.folder / "client.toml").write_text(f'[policy]\ndeny_lists = ["{checksum_address(KEY.address)}@a.list"]\n')
    assert load(ClientConfig, file=world.folder / "client.toml").deny_lists == (ours,)


# What an anchor does


@shows(AnchorConfig, "listen", "announce", "lasts", "key", "data_dir")
def _(world: World) -> None:
    if "anchor" in world.told:
        return
    world.start(
        "anchor", "anchor ready", "anchor", "run", "--listen", f"/ip4/0.0.0.0/tcp/{world.port('anchor')}", "--announce",
        f"/ip4/127.0.0.1/tcp/{world.port('anchor')}", "--lasts", "777", "--key", "buyer", "--data-dir",
        str(world.folder / "data"),
    )  # fmt: skip
    ready = world.last("anchor")
    assert ready["anchor"].lower() == f"0x{world.keys['buyer']}"
    assert ready["peer"].startswith(f"/ip4/127.0.0.1/tcp/{world.port('anchor')}/p2p/")
    assert asyncio.run(_timed_by(ready["peer"])) == 777


@shows(NodeConfig, "times_others")
def _(_world: World) -> None:
    async def asked(says: str) -> int:
        key = SigningKey(b"\x09" * 32)
        async with TrioRuntime.open() as runtime, P2PHost.open(runtime, key.secret) as host:
            time_others(load(NodeConfig, flags={"model": str(DEMO), "times_others": says}), host, key, unheard)
            return await _timed_by(host.addresses[0])

    assert asyncio.run(asked("yes")) == NODES_WORD_S
    with pytest.raises(RefusedError):
        asyncio.run(asked("no"))


async def _timed_by(anchor: str) -> int:
    async with TrioRuntime.open() as runtime, P2PHost.open(runtime, KEY.secret) as host:
        host.answer_challenges()
        sealed = await host.request(await host.connect(anchor), TIME_PROTOCOL, b"")
        said, _ = open_envelope(sealed, Statement)
        return said.expires_at - said.issued_at


@shows(NodeConfig, "anchors", "statements")
def _(world: World) -> None:
    """A node refuses statements about others, and one that has anchors asks them (test_p2p_timing)."""
    said = Statement(subject=KEY.public_key, claim="place", value="DE", issued_at=NOW, expires_at=NOW + 9)
    file = world.folder / "own.statement"
    write_signed(file, seal(said, KEY))
    config = load(NodeConfig, flags={"model": str(DEMO), "statements": str(file), "anchors": DEAD})
    files = [Path(each) for each in config.statements]
    assert own_statements(files, KEY.public_key) == (seal(said, KEY),)
    with pytest.raises(ConfigurationError, match="another node"):
        own_statements(files, SigningKey(b"\x08" * 32).public_key)
    assert config.anchors == (DEAD,)


@pytest.mark.parametrize(
    "flags",
    [
        {"trains": "yes"},
        {"jurisdiction": "DE", "places": "DE"},
        {"places": "DE"},
    ],
)
def test_a_node_says_nothing_that_nobody_would_believe(flags: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        offered(load(NodeConfig, flags={"model": str(DEMO), **flags}))


def test_a_policy_that_nobody_meets_fails_closed() -> None:
    """A client believes no node's own word for stake or evidence."""
    for name, value, why in (("min_stake", "0.000001", "stake"), ("min_evidence", "rtt_consistent", "evidence")):
        code, reasons = bought(load(ClientConfig, flags={name: value}))
        assert code != "no-offers"
        assert set(reasons) == {why}


@shows(ClientConfig, "latency_weight")
def _(_world: World) -> None:
    """The near and dear node against the far and cheap one, behind one that serves the first blocks."""
    manifest, _ = held_model(load(NodeConfig, flags={"model": str(DEMO)}))
    first, near = an_offer(manifest, 3, blocks="0:3"), an_offer(manifest, 1, blocks="3:6", overhead_price="2")
    far = an_offer(manifest, 2, blocks="3:6")
    chosen = []
    for weight in ("0", "10"):
        config = load(ClientConfig, flags={"latency_weight": weight, "latency_class": "batch"})
        market = Market(Request(prompt=(1, 2)), config, manifest, [first, near, far], venue=VENUE, clock=lambda: NOW)
        market.hear(
            market.worth_asking(), {first[0].public_key: 1_000, near[0].public_key: 1_000, far[0].public_key: 90_000}
        )
        chosen.append(market.route().legs[1].offer.public_key)
    assert chosen == [far[0].public_key, near[0].public_key]


@shows(ClientConfig, "carbon_price")
def _(_world: World) -> None:
    """The clean and dear node against the dirty and cheap one."""
    manifest, _ = held_model(load(NodeConfig, flags={"model": str(DEMO)}))
    clean = an_offer(manifest, 1, overhead_price="0.05", carbon_g_per_kwh="0")
    dirty = an_offer(manifest, 2, carbon_g_per_kwh="900")
    chosen = []
    for price in ("0", "9000"):
        config = load(ClientConfig, flags={"carbon_price": price, "latency_class": "batch"})
        market = Market(Request(prompt=(1, 2)), config, manifest, [clean, dirty], venue=VENUE, clock=lambda: NOW)
        market.hear(market.worth_asking(), {each[0].public_key: 1_000 for each in (clean, dirty)})
        chosen.append(market.route().legs[0].offer.public_key)
    assert chosen == [dirty[0].public_key, clean[0].public_key]


# Where things are: on processes that run


@dataclass
class World:
    """A ledger and a node as processes, with flags that none of them has by default."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def port(self, name: str) -> int:
        return self.ports.setdefault(name, free_port())

    def make_keys(self, *names: str) -> None:
        store = Keystore(self.folder / "data" / "keys")
        for name in names:
            key = generate()
            store.create(name, key, PASSPHRASE, work_factor=LIGHT)
            self.keys[name] = key.address.hex()

    def start(self, name: str, until: str, *arguments: str) -> None:
        """Run `joule ... run` until it says so; what it says first is kept."""
        process = subprocess.Popen(
            [sys.executable, "-m", "node", *arguments, "--json", "--passphrase-file", str(self.folder / "pass")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
        )  # fmt: skip
        self.running.append(process)
        said = self.told[name] = []
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                said.append(json.loads(line))
                if said[-1].get("event") == until:
                    return
        raise AssertionError(f"{name} ended: {said}")

    def last(self, name: str) -> dict[str, Any]:
        return self.told[name][-1]

    def heard(self, name: str, event: str) -> list[dict[str, Any]]:
        return [each for each in self.told[name] if each.get("event") == event]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    (made.folder / "pass").write_text(PASSPHRASE)
    made.make_keys("operator", "worker", "buyer")
    data = str(made.folder / "data")
    try:
        made.start(
            "ledger", "peer not reached", "ledger", "run", "--host", "127.0.0.2", "--port", str(made.port("http")),
            "--listen", f"/ip4/0.0.0.0/tcp/{made.port('ledger')}", "--announce",
            f"/ip4/127.0.0.1/tcp/{made.port('ledger')}", "--peer", DEAD, "--key", "operator", "--data-dir", data,
        )  # fmt: skip
        made.url = made.heard("ledger", "ledger ready")[0]["url"]
        made.start(
            "node", "node ready", "node", "run", "--model", str(DEMO), "--blocks", "0:6", "--ledger", made.url,
            "--listen", f"/ip4/0.0.0.0/tcp/{made.port('node')}", "--announce",
            f"/ip4/127.0.0.1/tcp/{made.port('node')}", "--peer", DEAD, "--data-host", "127.0.0.2", "--data-port",
            str(made.port("data")), "--data-announce", "node.example.org", "--key", "worker", "--data-dir", data,
        )  # fmt: skip
        yield made
    finally:
        for process in reversed(made.running):
            process.kill()
            process.communicate()


@shows(LedgerConfig, "listen", "announce")
def _(world: World) -> None:
    ready = world.heard("ledger", "ledger ready")[0]
    assert ready["peer"].startswith(f"/ip4/127.0.0.1/tcp/{world.port('ledger')}/p2p/")
    with contextlib.closing(_dial("127.0.0.1", world.port("ledger"))):
        pass


@shows(LedgerConfig, "peers")
def _(world: World) -> None:
    assert world.heard("ledger", "peer not reached")[0]["peer"] == DEAD


@shows(LedgerConfig, "key", "data_dir")
def _(world: World) -> None:
    assert world.heard("ledger", "ledger ready")[0]["operator"].lower() == f"0x{world.keys['operator']}"
    assert (world.folder / "data" / "ledger").is_dir()


@shows(NodeConfig, "ledger")
def _(world: World) -> None:
    assert world.url == f"http://127.0.0.2:{world.port('http')}"
    assert world.heard("node", "starting")[0]["step"].endswith(world.url)


@shows(NodeConfig, "listen", "announce")
def _(world: World) -> None:
    assert world.last("node")["peer"].startswith(f"/ip4/127.0.0.1/tcp/{world.port('node')}/p2p/")
    with contextlib.closing(_dial("127.0.0.1", world.port("node"))):
        pass


@shows(NodeConfig, "peers")
def _(world: World) -> None:
    assert {each["peer"] for each in world.heard("node", "peer not reached")} == {DEAD}


@shows(NodeConfig, "data_host", "data_port", "data_announce")
def _(world: World) -> None:
    assert world.last("node")["data"] == f"/dns4/node.example.org/tcp/{world.port('data')}/tls"
    with contextlib.closing(_dial("127.0.0.2", world.port("data"))):
        pass
    with pytest.raises(ConnectionRefusedError):
        _dial("127.0.0.1", world.port("data"))


@shows(NodeConfig, "key", "data_dir")
def _(world: World) -> None:
    assert world.last("node")["provider"].lower() == f"0x{world.keys['worker']}"
    assert (world.folder / "data" / "model-hashes.json").exists()


def _dial(host: str, port: int) -> Any:
    import socket

    return socket.create_connection((host, port), timeout=5)


@shows(ClientConfig, "ledger", "peers")
def _(world: World) -> None:
    heard: list[Event] = []

    async def look(client: Client) -> None:
        await client.offers(0.0)

    config = load(ClientConfig, flags={"ledger": world.url, "peers": (DEAD,), "data_dir": str(world.folder / "mine")})
    asyncio.run(_with_client(config, heard.append, look))
    assert DEAD in {each.peer for each in heard if isinstance(each, PeerUnreached)}
    nowhere = load(ClientConfig, flags={"ledger": "http://127.0.0.1:9", "data_dir": str(world.folder / "mine")})
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        asyncio.run(_with_client(nowhere, unheard, look))


async def _with_client(config: ClientConfig, events: Callable[[Event], None], use: Callable[[Client], Any]) -> None:
    async with open_client(config, KEY, events) as client:
        await use(client)


@shows(ClientConfig, "key", "data_dir")
def _(world: World) -> None:
    flags = {"key": "buyer", "data_dir": str(world.folder / "data")}
    key = unlocked(load(ClientConfig, flags=flags), world.folder / "pass")
    assert key.address.hex() == world.keys["buyer"]


def metrics_at(config: NodeConfig | LedgerConfig | GatewayConfig | WitnessConfig | AnchorConfig) -> list[str]:
    """Where its figures can be had."""

    async def look() -> list[str]:
        heard: list[Event] = []
        async with open_metrics(config, heard.append):
            return [each.url.partition("//")[0] for each in heard if isinstance(each, MetricsReady)]

    return asyncio.run(look())


for each_cls in (NodeConfig, LedgerConfig, GatewayConfig, WitnessConfig, AnchorConfig):
    differ(each_cls, metrics_at, metrics_port=(None, "0"))


def traced(config: NodeConfig | ClientConfig) -> bool:
    """Whether its events go to a collector, too."""

    async def look() -> bool:
        async with open_traces(config, unheard) as events:
            return events is not unheard

    return asyncio.run(look())


for each_cls in (NodeConfig, ClientConfig):
    differ(each_cls, traced, otlp=(None, "http://127.0.0.1:1/v1/traces"))

differ(
    GatewayConfig,
    settings_of_gateway,
    host=("127.0.0.1", "0.0.0.0"),
    port=("1", "2"),
    names=("a.example", "b.example"),
    origins=("https://a.example", "https://b.example"),
    max_body_kib=("1", "2"),
    connections=("1", "2"),
    moderation=("check one", "https://check.example"),
)


@shows(GatewayConfig, "markets")
def _(world: World) -> None:
    file = world.folder / "cheap.toml"
    file.write_text('[network]\nledger = "http://127.0.0.1:1"\n')
    assert list(markets_of(load(GatewayConfig, flags={"markets": (str(file),)}))) == ["main", "cheap"]


@functools.cache
def edge_of(**given: str) -> Any:
    """What a gateway's own machine answers, and how."""

    async def look() -> Any:
        config, sampling = load(GatewayConfig, flags=given), SamplingTerms(temperature_milli=0, seed=0)
        async with open_edge(config, lambda _: sampling) as edge:
            if edge is None:
                return None
            wanted = Wanted(model="llama-6x192", raw="Tom is", most=100, limits=Limits(places=("DE",)))
            small = await edge.plan_small(wanted)
            try:
                await edge.plan(dataclasses.replace(wanted, most=300))
            except RefusedError:
                return edge.falls_back, edge.why_not(wanted), small is not None, "no room"
            return edge.falls_back, edge.why_not(wanted), small is not None, "room"

    return asyncio.run(look())


@shows(GatewayConfig, "edge_model", "edge_tokens", "edge_fallback", "edge_place", "edge_room")
def _(_world: World) -> None:
    model = {"edge_model": str(DEMO)}
    assert edge_of() is None
    assert edge_of(**model) == (True, "does not say where it stands", True, "room")
    given = {"edge_tokens": "50", "edge_fallback": "no", "edge_place": "DE", "edge_room": "256"}
    assert edge_of(**model, **given) == (False, "", False, "no room")


@contextlib.contextmanager
def root_logging() -> Iterator[None]:
    """Python's logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level


@shows(NodeConfig, "log_format")
@shows(LedgerConfig, "log_format")
@shows(GatewayConfig, "log_format")
@shows(WitnessConfig, "log_format")
@shows(AnchorConfig, "log_format")
def _(_world: World) -> None:
    with root_logging():
        for cls in (NodeConfig, LedgerConfig, GatewayConfig, WitnessConfig, AnchorConfig):
            required = {"model": "m"} if cls is NodeConfig else {}
            for word in ("text", "json"):
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    tell(load(cls, flags={**required, "log_format": word}))(MetricsReady(url="http://x"))
                assert said.getvalue().startswith("{") is (word == "json")


@shows(NodeConfig, "log_level")
@shows(LedgerConfig, "log_level")
@shows(ClientConfig, "log_level")
@shows(WitnessConfig, "log_level")
@shows(AnchorConfig, "log_level")
def _(_world: World) -> None:
    with root_logging():
        for cls in (NodeConfig, LedgerConfig, ClientConfig, WitnessConfig, AnchorConfig):
            required = {"model": "m"} if cls is NodeConfig else {}
            for word in ("debug", "error"):
                assert tell(load(cls, flags={**required, "log_level": word})).level.word == word


CONFIGURATIONS = (NodeConfig, LedgerConfig, ClientConfig, WitnessConfig, AnchorConfig)
ALL = [(cls, each.name) for cls in CONFIGURATIONS for each in declared(cls)]
ALL += [
    (GatewayConfig, each.name)
    for each in declared(GatewayConfig)
    if each.table in ("gateway", "edge") or each.name in ("metrics_port", "log_format")
]
"""The others are a client's."""


@pytest.mark.parametrize(("cls", "name"), ALL, ids=[f"{cls.__name__}-{name}" for cls, name in ALL])
def test_it_changes_what_it_should(cls: type[Any], name: str, world: World) -> None:
    assert (cls, name) in CHECKS, f"nobody shows what {name} changes: add a check"
    CHECKS[cls, name](world)


def test_every_check_is_of_a_setting() -> None:
    assert set(CHECKS) == set(ALL)
