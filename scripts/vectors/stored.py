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

from node.app.buying.audit import BUNDLED_MODEL
from node.demo.run import DEFAULT_PROMPT
from node.earnings import Work, open_journal
from node.events import unheard
from node.pipeline.vouchers import stored_voucher
from node.worker import InlineWorker
from protocol.encoding.codec import encode

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
        "slots.voucher": "node0/vouchers/*/*.voucher",
        "remembered.json": "client/ledgers/*.json",
        "log.key": "ledger/**/log.key",
    }.items():
        newest = max(home.glob(pattern), key=lambda path: path.stat().st_mtime)
        shutil.copyfile(newest, FOLDER / kind)
    for kind in ("journal.voucher", "leg.voucher"):  # as nodes wrote them once, and watchtowers are given them
        path = FOLDER / kind
        path.write_bytes(encode(stored_voucher(path.read_bytes())))
    (database,) = home.glob("ledger/**/ledger.sqlite3")
    with sqlite3.connect(database) as source:
        source.execute("VACUUM")
        with sqlite3.connect(FOLDER / "ledger.sqlite3") as copy:
            source.backup(copy)


async def write_journal() -> None:
    """A job that was served and paid by the node's own operation, one that a crash has cut off, one that runs; a payout
    that was taken, and one without an answer.
    """
    now, worker = [1_900_000_000], InlineWorker()
    (FOLDER / "earnings.sqlite").unlink(missing_ok=True)
    async with open_journal(FOLDER / "earnings.sqlite", worker, lambda: now[0], unheard) as journal:
        journal.serve(Work(model=b"m" * 32, model_name="llama-6x192", blocks="0:3", power=lambda: (310_000, 1_200)))
        served, cut, running = (bytes([number]) * 32 for number in (1, 2, 3))
        journal.begun(served, client=b"c" * 20, leg=0, blocks="0:3")
        now[0] += 7
        journal.ended(
            served, outcome="served", tokens_in=16, tokens_out=7, rows=22, millijoules=63_000, source="rapl", earned=150
        )
        journal.paid(served, amount=150, fee=1, entry="17")
        journal.closed(served)
        journal.left(cut, client=b"d" * 20, leg=1, begun_at=now[0] - 60, tokens_in=9, tokens_out=40, earned=80)
        journal.payout_sent(after=3, amount=100, fee=1, to="0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
        journal.payout_taken(after=3, entry="18")
        journal.payout_sent(after=4, amount=50, fee=1, to="0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
        journal.begun(running, client=b"c" * 20, leg=0, blocks="0:3")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(write())
    asyncio.run(write_journal())
    print(f"wrote {FOLDER}")
