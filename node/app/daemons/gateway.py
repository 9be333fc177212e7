"""The gateway process: a client at each of its markets, whose money buys answers for whoever asks over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from node.app.buying.bought import BoughtAnswers
from node.app.buying.carrier import Carrier
from node.app.buying.edge import open_edge
from node.app.buying.markets import keep_markets, open_clients
from node.app.process.clock import clock
from node.app.process.measured import open_metrics
from node.app.process.services import shown_here
from node.config import ClientConfig, GatewayConfig, markets_of
from node.events import Events
from node.gateway import Limits, ServiceSettings, serving
from node.gateway.keys import Keys, open_keys
from node.tasks import owned_tasks
from protocol.identity.signing import SigningKey

__all__ = ["bounds_of", "gateway_keys", "run_gateway", "settings_of"]


async def run_gateway(config: GatewayConfig, key: SigningKey, events: Events) -> None:
    """Run a gateway until cancelled.

    Raises:
        ListenError, ConfigurationError, ModelError, LocalError: it cannot start.
        UnreachableError, RoutingError: no market's ledger or network answers, and this machine answers nothing itself.
        FundsError: the balance buys nothing at all.
    """
    markets = markets_of(config)
    async with AsyncExitStack() as stack:
        events = stack.enter_context(shown_here(config.data_dir, "gateway", events, ledger=config.ledger))
        events = await stack.enter_async_context(open_metrics(config, events))
        with suppress(OSError):  # it is for those who look
            keep_markets(markets, config.data_dir)
        clients = await open_clients(markets, key, events, stack, needed=config.edge_model is None)
        receipts = config.data_dir / "receipts"
        sold = [BoughtAnswers(client, receipts, name=name) for name, client in clients.items()]
        edge = await stack.enter_async_context(open_edge(config, sold[0].sampling))
        market = Carrier(sold, edge, events)
        stack.push_async_callback(market.close)
        keys = await stack.enter_async_context(gateway_keys(config.data_dir))
        await keys.begin()
        tasks = await stack.enter_async_context(owned_tasks())
        service = serving(market, keys, settings_of(config), tasks=tasks, clock=clock, events=events)
        await stack.enter_async_context(service)
        await tasks.watch()


@asynccontextmanager
async def gateway_keys(data_dir: Path) -> AsyncIterator[Keys]:
    """The API keys of the gateway with this data directory. Raises LocalError."""
    async with open_keys(data_dir / "gateway" / "keys.sqlite3", clock) as keys:
        yield keys


def settings_of(config: GatewayConfig) -> ServiceSettings:
    """How the settings say that it serves."""
    return ServiceSettings(
        folder=config.data_dir / "gateway" / "files",
        host=config.host,
        port=config.port,
        names=config.names,
        origins=config.origins,
        most_body=config.max_body_kib * 1024,
        most_connections=config.connections,
        moderation=config.moderation,
        bounds=bounds_of(config),
    )


def bounds_of(config: ClientConfig) -> Limits:
    """What holds for every request: nobody's key or request may be wider. A class is a wish, and may be another."""
    return Limits(
        places=config.allow,
        deny=config.deny,
        max_price_in=config.max_price_in_micro,
        max_price_out=config.max_price_out_micro,
        evidence=config.min_evidence,
        precision=config.precision,
        trusted_ends=config.trusted_ends,
        end_blocks=config.end_blocks,
    )
