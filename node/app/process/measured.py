"""A process whose events are counted for whoever collects its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from node.config import AnchorConfig, GatewayConfig, LedgerConfig, NodeConfig, WitnessConfig
from node.events import Events, MetricsReady
from node.metrics import Metrics, serving_metrics

__all__ = ["open_metrics"]


@asynccontextmanager
async def open_metrics(
    config: AnchorConfig | GatewayConfig | LedgerConfig | NodeConfig | WitnessConfig, events: Events
) -> AsyncIterator[Metrics]:
    """Counts what it is told, and tells it on; serves the figures where the settings say so. Raises ListenError."""
    metrics = Metrics(events)
    async with serving_metrics(metrics, config.metrics_port) as url:
        if url:
            events(MetricsReady(url=url))
        yield metrics
