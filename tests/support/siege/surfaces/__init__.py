"""The attacks, by what they are made on; `load` puts all of them on the list."""

from __future__ import annotations

from importlib import import_module

__all__ = ["load"]

MODULES = {
    "data": "data_port",
    "libp2p": "libp2p_port",
    "gossip": "gossip_storms",
    "ledger": "ledger_port",
    "checkpoints": "ledger_port",
    "offers": "offer_flood",
    "orders": "order_places",
    "providers": "bad_providers",
}
"""By the first word of the names of their attacks."""


def load(name: str | None = None) -> None:
    """Fill `attack.ATTACKS`: with all, or with those beside the one of this name."""
    wanted = set(MODULES.values()) if name is None else {MODULES[name.partition("-")[0]]}
    for module in MODULES.values():
        if module in wanted:
            import_module(f"siege.surfaces.{module}")
