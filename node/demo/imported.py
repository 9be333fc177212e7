"""What commands need, imported: by the process from which others are forked (`forked`), before it forks any."""

from __future__ import annotations

import importlib
from contextlib import suppress

from node.importing import UNUSED, importing, put_off

MODULES = (
    *(
        "node.cli",
        "node.cli.terminal.output",
        "node.cli.selling.provider",
        "node.cli.terminal.running",
        "node.app.buying.client",
        "node.app.daemons.ledger",
    ),
    *("node.app.daemons.provider", "node.engine.engine", "libp2p"),
)

put_off(*UNUSED)
with importing():
    for name in MODULES:
        with suppress(ImportError):  # a client has no engine
            importlib.import_module(name)
