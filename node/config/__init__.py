"""Every setting of node, ledger, client, witness and anchor: what it means, its unit, its bounds and its default.

Money is held in micro-units, fractions in thousandths, energy in millijoules, and the fields say so: the file and the
flags take the decimal numbers that people write, under names without the unit. What `reloadable` settings say is taken
over by a node that runs, on SIGHUP. `node.settings` reads and writes these declarations.
"""

from __future__ import annotations

from node.config.anchor import AnchorConfig
from node.config.client import ClientConfig
from node.config.gateway import GatewayConfig
from node.config.ledger import LedgerConfig
from node.config.market import MarketConfig, markets_of
from node.config.provider import NodeConfig
from node.config.shared import default_data_dir
from node.config.witness import WitnessConfig

__all__ = [
    "AnchorConfig",
    "ClientConfig",
    "GatewayConfig",
    "LedgerConfig",
    "MarketConfig",
    "NodeConfig",
    "WitnessConfig",
    "default_data_dir",
    "markets_of",
]
