"""What commands need, imported: by the process from which others are forked (`forked`), before it forks any."""

from __future__ import annotations

import importlib
from contextlib import suppress

from node.importing import UNUSED, importing, put_off

MODULES = (
    *("node.cli", "node.cli.output", "node.cli.provider", "node.cli.running", "node.app.client", "node.app.ledger"),
    *("node.app.provider", "node.engine.engine", "libp2p"),
)

put_off(*UNUSED)
with importing():
    for name in MODULES:
        with suppress(ImportError):  # a client has no engine
            importlib.import_module(name)
