"""A node's power, joined: what it costs, what is asked for work by it, and whether there is work at all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node.app.process.clock import clock
from node.app.selling.asks import Asks
from node.app.selling.holding import Holding
from node.app.selling.provider_settings import hold_back, pace_of, pricing_of, supply_of
from node.config import NodeConfig
from node.events import Events
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.provider import Provider
from node.tariff import FollowedSignal, FollowedSupply, KeptFeeds
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.market.comparing import comparable
from protocol.market.offer import Offer
from protocol.market.pricing import Comparable

if TYPE_CHECKING:
    from node.energy import Energy

__all__ = ["FollowedPower", "asks_of", "holding_of", "power_of"]


@dataclass(frozen=True, slots=True)
class FollowedPower:
    """What is followed from outside."""

    supply: FollowedSupply
    signal: FollowedSignal | None

    def work(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What runs for as long as the node does, by name."""
        yield "power", self.supply.run()
        if self.signal is not None:
            yield "signal", self.signal.run()


def power_of(config: NodeConfig, events: Events) -> FollowedPower:
    """As the settings and the tariff say. Raises ConfigurationError where they are wrong, or do not fit together."""
    kept = KeptFeeds(config.data_dir / "feeds")
    supply = FollowedSupply(config.tariff, supply_of(config), clock=clock, events=events, kept=kept)
    asked = None if supply.tariff is None else supply.tariff.curtailment
    signal = None if asked is None else FollowedSignal(asked, clock=clock, events=events)
    pricing_of(config).per_kwh(supply.supply)
    return FollowedPower(supply, signal)


def asks_of(
    config: NodeConfig,
    power: FollowedPower,
    heard: Callable[[], list[Offer]],
    own: bytes,
    manifest: ModelManifest,
    span: BlockSpan,
) -> Asks:
    """What the node asks.

    Args:
        heard: the offers that are in force.
        own: the node's public key.
    """

    def others() -> Comparable | None:
        return comparable(heard(), own=own, model=manifest.root, span=span)

    return Asks(pricing=pricing_of(config), power=power.supply, pace=pace_of(config), others=others)


def holding_of(
    config: NodeConfig,
    power: FollowedPower,
    provider: Provider,
    limits: ProviderLimits,
    energy: Energy,
    position_us: int,
    *,
    renew: Callable[[], None],
    events: Events,
) -> Holding:
    """Whether the node takes work, as things are now."""

    def of_a_session() -> tuple[int, int, int] | None:
        figure = energy.offered()
        return None if figure is None else (figure.millijoules_out, position_us, power.supply.supply.pue_milli)

    holding = Holding(
        power.supply,
        power.signal,
        limits,
        session_w=of_a_session,
        active=lambda: provider.active,
        shed=provider.shed,
        renew=renew,
        events=events,
    )
    hold_back(holding, config)
    holding.look()
    return holding
