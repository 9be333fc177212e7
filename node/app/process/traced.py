"""A process whose jobs can be followed through all that take part, where its settings name a collector of traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from node.config import ClientConfig, GatewayConfig, NodeConfig
from node.events import Events

__all__ = ["open_traces"]


@asynccontextmanager
async def open_traces(config: ClientConfig | NodeConfig, events: Events) -> AsyncIterator[Events]:
    """Whom to tell instead of `events`, so that traces are made and sent; the same where nobody collects them."""
    if config.otlp is None:
        yield events
        return
    from node.metrics.tracing import sending_traces

    services = ((NodeConfig, "node"), (GatewayConfig, "gateway"), (ClientConfig, "client"))
    service = next(name for kind, name in services if isinstance(config, kind))
    async with sending_traces(service, config.otlp, events) as traces:
        yield traces
