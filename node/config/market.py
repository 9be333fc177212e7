"""What a gateway settles for each further market that it buys at: where that is, and nothing of its policy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from node.config import shared
from node.config.client import ClientConfig
from node.config.gateway import GatewayConfig
from node.settings import load, setting
from node.settings.places import VenuePlace
from protocol.errors import ConfigurationError

__all__ = ["MarketConfig", "markets_of"]

MAIN = "main"
"""The market of the gateway's own settings."""
RESERVED = "here"
"""What answers of this machine itself are said to be made at."""
MOST_MARKETS = 8

Buyer = TypeVar("Buyer", bound=ClientConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketConfig:
    """Settings of one market (a file of `joule gateway run --market`): tables of the same names as a client's."""

    ledger: str = setting(
        VenuePlace(),
        table="network",
        about="Where jobs of this market are settled: a ledger, or a contract on a chain.",
        example='"https://ledger.example.org"',
    )
    peers: tuple[str, ...] = shared.peers()
    witnesses: tuple[str, ...] = shared.witnesses()
    min_witnesses: int = shared.min_witnesses()
    max_checkpoint_age_s: int = shared.max_checkpoint_age_s()
    confirmations: int = shared.confirmations()
    max_gas_price_wei: int = shared.max_gas_price_wei()
    coin_price_micro: int = shared.coin_price_micro()

    def of(self, name: str, config: Buyer) -> Buyer:
        """A gateway's settings, or a client's of its data directory, for a market of this name."""
        where = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        folder = config.data_dir if name == MAIN else config.data_dir / "markets" / name
        return dataclasses.replace(config, **where, data_dir=folder)

    @classmethod
    def at(cls, config: ClientConfig) -> MarketConfig:
        """Where a client's settings say that its market is."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


def markets_of(config: GatewayConfig) -> dict[str, GatewayConfig]:
    """The gateway's settings for each of its markets, by name, its own first: they differ in where, and in that alone.

    A further one is named as its file, and keeps what is its own in a folder of that name.

    Raises ConfigurationError: a file that says something else, two of one name, or one market twice.
    """
    if len(config.markets) >= MOST_MARKETS:
        raise ConfigurationError(f"more than {MOST_MARKETS} markets", hint="name fewer with --market")
    found = {MAIN: config}
    for each in map(Path, config.markets):
        name = each.stem
        if name in found or name == RESERVED or not name.replace("-", "").replace("_", "").isalnum():
            hint = f"name each file differently, by letters and digits, and not {RESERVED} or {MAIN}"
            raise ConfigurationError(f"{each} cannot give a market its name", hint=hint)
        found[name] = load(MarketConfig, file=each).of(name, config)
    places = [each.ledger for each in found.values()]
    if len(set(places)) < len(places):
        raise ConfigurationError("two markets settle at one ledger", hint="each file of --market names another ledger")
    return found
