"""Write tests/vectors/stored/: every kind of file that Joulemesh keeps, as a real run leaves it.

    PYTHONPATH=.:tests/support python -m scripts.vectors.stored

Run it when a stored kind gets a new version, and keep the old files beside the new ones: what was written once is to be
read for good. The keys are made for this and hold nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from pathlib import Path

from local_network import LocalNetwork, voucher_beyond

from node.app.audit import BUNDLED_MODEL
from node.demo.run import DEFAULT_PROMPT

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "stored"
PROMPT = "Anna has a red ball. Tom went to the kitchen. Where is Tom?"


async def write() -> None:
    """One job that is settled, and one whose client and provider both die in the middle."""
    with tempfile.TemporaryDirectory() as folder:
        async with LocalNetwork(Path(folder)) as network:
            await network.start_ledger()
            await network.start_nodes(BUNDLED_MODEL, "0:3", "3:6")
            await network.joule("faucet", "1")
            receipt = Path(folder) / "receipt.json"
            await network.joule("run", PROMPT, "--max-tokens", "12", "--window", "4", "--receipt", str(receipt))
            client = await network.spawn("run", DEFAULT_PROMPT, "--max-tokens", "400", "--verbose", "--json")
            await voucher_beyond(client, 20)
            client.kill()
            for node in network.nodes.values():
                node.process.kill()
            await client.wait()
            if network.ledger is not None:
                await network.ledger.stop()
            _copy(network.home, receipt)


def _copy(home: Path, receipt: Path) -> None:
    shutil.copy(receipt, FOLDER / "receipt.json")
    for kind, pattern in {
        "key.json": "client/keys/*.json",
        "journal.voucher": "client/sessions/*/*.voucher",
        "leg.voucher": "node0/vouchers/*/*.voucher",
        "remembered.json": "client/ledgers/*.json",
        "log.key": "ledger/**/log.key",
    }.items():
        newest = max(home.glob(pattern), key=lambda path: path.stat().st_mtime)
        shutil.copyfile(newest, FOLDER / kind)
    (database,) = home.glob("ledger/**/ledger.sqlite3")
    with sqlite3.connect(database) as source:
        source.execute("VACUUM")
        with sqlite3.connect(FOLDER / "ledger.sqlite3") as copy:
            source.backup(copy)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(write())
    print(f"wrote {FOLDER}")
