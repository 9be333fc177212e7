"""What the base install must do without."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_ENGINE = """
import sys
for name in ("torch", "safetensors", "matplotlib", "pyarrow", "asyncpg", "zeus"):
    sys.modules[name] = None  # an import of it raises
import node.app.buying.client
import node.app.daemons.ledger
import node.app.network.membership
import node.app.daemons.provider
import node.app.models.obtaining
import node.cli.buying.run
import node.cli.buying.offers
import node.cli.accounts.money
import node.cli.buying.receipt
import node.cli.buying.audit
import node.cli.ledgers.ledger
import node.ledger.ledger, node.ledger.verify, protocol.receipts.bundle
"""

WITHOUT_NETWORK = """
import node.app.buying.client, node.cli.accounts.money, node.cli.buying.receipt, sys
loaded = {"libp2p", "trio", "sqlalchemy", "torch"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("code", [WITHOUT_ENGINE, WITHOUT_NETWORK], ids=["no extras", "a balance needs no network"])
def test_modules_load_without_what_they_do_not_need(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
