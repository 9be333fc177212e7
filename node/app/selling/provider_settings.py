"""What a node's settings say of its offer and its limits."""

from __future__ import annotations

from collections.abc import Sequence

from node.app.selling.holding import Holding
from node.app.selling.terms import Site, Terms
from node.app.settlement.payout import Destination
from node.config import NodeConfig
from node.engine.device import Device
from node.market import Advertiser
from node.pipeline.serving.limits import ProviderLimits
from protocol.errors import ConfigurationError
from protocol.geography.jurisdictions import UNDECLARED
from protocol.market.offer import MAX_PLACES, Hardware, HardwareKind
from protocol.market.pricing import MarginPolicy, Pricing, Supply
from protocol.market.requoting import Pace
from protocol.units import MICRO

__all__ = [
    "destination_of",
    "hold_back",
    "limits_of",
    "pace_of",
    "pricing_of",
    "site_of",
    "supply_of",
    "take_over",
]


def site_of(config: NodeConfig, device: Device, addresses: Sequence[str], data_at: str) -> Site:
    """What the settings say of the place, and what is known of the machine.

    Raises ConfigurationError for places that nobody would believe together.
    """
    _require_told(config)
    hardware = Hardware(
        device=HardwareKind(device.kind),
        name=device.name[:96],
        count=device.count,
        memory_mib=device.memory_bytes >> 20,
        category=config.hardware_category,
    )
    return Site(
        jurisdiction=config.jurisdiction,
        region=config.region or "",
        places=config.places,
        retention_s=config.retention_s,
        trains=config.trains == "yes",
        hardware=hardware,
        addresses=addresses,
        data_addresses=(data_at,),
    )


def _require_told(config: NodeConfig) -> None:
    if config.trains == "yes" and not config.retention_s:
        hint = "say for how long with --retention-s"
        raise ConfigurationError("models are trained on prompts, and no prompts are kept", hint=hint)
    named = (config.region or config.jurisdiction, *config.places)
    if len(set(named)) != len(named):
        raise ConfigurationError("a place is named twice", hint="--place is for where machines stand besides")
    if config.places and config.jurisdiction == UNDECLARED:
        raise ConfigurationError("further places, and the first is not declared", hint="add --jurisdiction CODE")
    if config.places[MAX_PLACES:]:
        raise ConfigurationError(f"more than {MAX_PLACES} places", hint="run a node for each part of them")


def limits_of(config: NodeConfig) -> ProviderLimits:
    """What the settings say of the risk that is taken."""
    return ProviderLimits(
        max_sessions=config.max_sessions,
        max_window=config.window,
        max_chunk=config.chunk,
        stretch=config.stretch,
        wait_s=config.wait_ms / 1000,
        draft_depth=config.draft_depth,
        credit=min(config.credit_tokens, config.window),
        warm_s=config.warm_s,
        overcommit=config.overcommit_percent,
    )


def pricing_of(config: NodeConfig) -> Pricing:
    """What the settings say of prices. Raises ConfigurationError for values out of range."""
    return Pricing(
        overhead=config.overhead_price_micro,
        margin_ppm=config.margin_percent * (MICRO // 100),
        policy=MarginPolicy(config.margin_policy),
        undercut_ppm=config.undercut_ppm,
        hardware=config.hardware_price_micro,
        target_ppm=config.target_use_percent * (MICRO // 100),
        carbon=config.carbon_price_micro,
        capital=config.capital_price_micro,
        opening=config.opening_price_micro,
        cached_ppm=config.cached_price_percent * (MICRO // 100),
        late_discount_ppm=config.late_discount_percent * (MICRO // 100),
    )


def supply_of(config: NodeConfig) -> Supply:
    """What the settings say of power. Raises ConfigurationError for values out of range."""
    return Supply(config.energy_price_micro_per_kwh, config.pue_milli, config.carbon_g_per_kwh)


def pace_of(config: NodeConfig) -> Pace:
    """How often asks may change."""
    return Pace(least_s=config.requote_s, least_ppm=config.requote_above_ppm)


def hold_back(holding: Holding, config: NodeConfig) -> None:
    """Take over from which price on, and above which power, the node holds back."""
    holding.ceiling, holding.cap_w = config.pause_above_micro_per_kwh, config.power_cap_w
    holding.most_sessions = config.max_sessions


def destination_of(config: NodeConfig) -> Destination | None:
    """Where earnings go; None where they stay."""
    if config.payout is None:
        return None
    return Destination(to=config.payout, above=config.payout_above_micro, fee_share_ppm=config.settle_fee_share_ppm)


def take_over(terms: Terms, limits: ProviderLimits, advertiser: Advertiser, config: NodeConfig) -> None:
    """Take over settings that were read again: the next offer has them, and older ones are honoured."""
    pricing, supply = pricing_of(config), supply_of(config)
    power = terms.asks.power
    pricing.per_kwh(power.series().at(power.now, supply))
    terms.asks.reprice(pricing, pace_of(config))
    power.settle(supply)
    wanted = limits_of(config)
    limits.max_sessions, limits.max_window, limits.credit = wanted.max_sessions, wanted.max_window, wanted.credit
    limits.draft_depth = wanted.draft_depth
    limits.stretch, limits.wait_s, limits.warm_s = wanted.stretch, wanted.wait_s, wanted.warm_s
    advertiser.renew()
