"""Files that an earlier run has left are read for good, each kind as written once (scripts/vectors/stored.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.earnings import JournalTables
from node.keystore import Keystore
from node.ledger.log_key import read_log_key
from node.ledger.remembered import Memory
from node.ledger.verify import verify_database
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.worker import InlineWorker
from protocol.errors import JoulemeshError, LocalError
from protocol.identity.eip712 import recover_typed
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import dump_bundle, load_bundle
from protocol.serving.earnings import Grouping, books_of
from protocol.session.messages import session_id
from protocol.settlement import ledger_domain

STORED = Path(__file__).with_name("stored")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A copy, which readers may lock or set aside; what is secret is only its owner's to read, as it was written."""
    copy = shutil.copytree(STORED, tmp_path / "stored")
    for path in copy.iterdir():
        path.chmod(0o600)
    return copy


def verifier_key(stored: Path) -> str:
    return str(Memory.load(stored / "remembered.json").verifier)


def test_a_key_opens_with_its_passphrase(stored: Path) -> None:
    key = Keystore(stored).find("key").unlock("correct horse")
    assert key.address == load_bundle((stored / "receipt.json").read_bytes()).session.client


def test_what_is_remembered_of_a_ledger_is_its_checkpoint(stored: Path) -> None:
    checkpoint = Memory.load(stored / "remembered.json").checkpoint
    assert checkpoint is not None
    assert checkpoint.size >= 4


def test_a_log_key_is_its_ledgers(stored: Path) -> None:
    assert str(read_log_key(stored / "log.key").verifier) == verifier_key(stored)


async def read(stored: Path, name: str) -> StoredVoucher:
    """Through the store, under the name that it gives."""
    folder = stored / name
    store = VoucherStore(folder, InlineWorker())
    shutil.copy(stored / f"{name}.voucher", folder / f"{'0' * 64}.voucher")
    (found,) = (await store.all()).values()
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "leg"), [("journal", None), ("leg", 0), ("slots", 0)])
async def test_a_voucher_is_its_clients_and_its_sessions(stored: Path, name: str, leg: int | None) -> None:
    found = await read(stored, name)
    assert found.leg == leg
    assert found.pay is not None
    assert found.pay.voucher.session == session_id(found.session)
    signer = recover_typed(ledger_domain(verifier_key(stored)), found.pay.voucher, found.pay.signature)
    assert signer == found.session.client
    assert all(0 < paid <= each.cap for paid, each in zip(found.pay.voucher.amounts, found.session.legs, strict=True))


@pytest.mark.asyncio
async def test_a_ledgers_entries_replay_to_its_state(stored: Path) -> None:
    report = await verify_database(stored / "ledger.sqlite3")
    assert report.fault is None
    assert report.verifier_key == verifier_key(stored)
    assert report.entries >= 5


def test_a_receipt_verifies_and_is_written_the_same_again(stored: Path) -> None:
    data = (stored / "receipt.json").read_bytes()
    bundle = load_bundle(data)
    verified = verify_bundle(bundle)
    assert verified.checkpoint.size >= 4
    assert bundle.verifier_key == verifier_key(stored)
    assert dump_bundle(bundle).encode() == data


def test_a_journal_of_jobs_has_what_each_brought_and_took(stored: Path) -> None:
    kept = JournalTables(stored / "earnings.sqlite").read()
    cut, served, running = kept.jobs
    assert (served.outcome, served.leg, served.blocks, served.rows) == ("served", 0, "0:3", 22)
    assert (served.millijoules, served.source, served.energy_price, served.pue_milli) == (
        63_000,
        "rapl",
        310_000,
        1_200,
    )
    assert (served.gross, served.paid, served.fees, served.entry, served.closed) == (150, 150, 1, "17", True)
    assert served.ended_at == served.begun_at + 7
    assert (cut.outcome, cut.tokens_out, cut.gross, cut.paid, cut.millijoules) == ("cut", 40, 80, 0, None)
    assert (running.outcome, running.ended_at, running.gross) == ("running", None, 0)
    assert [(each.amount, each.entry) for each in kept.payouts] == [(100, "18"), (50, None)]
    total = books_of(kept.jobs, kept.payouts, by=Grouping.CLIENT, day_name=str).total
    # 63 J at a PUE of 1.2 and $0.31 a kWh: 6.51 millionths of a dollar.
    assert (total.gross, total.fees, total.measured_power_cost, total.net) == (230, 2, 7, None)


def test_a_journal_of_another_version_is_told(stored: Path) -> None:
    path = stored / "earnings.sqlite"
    data = bytearray(path.read_bytes())
    data[63] += 1  # the last byte of the version that SQLite's header keeps for its user
    path.write_bytes(bytes(data))
    with pytest.raises(LocalError, match="version 2"):
        JournalTables(path).read()


def test_each_kind_with_a_byte_lost_is_told_and_not_misread(stored: Path) -> None:
    """The invalid neighbour of all of them."""
    for name in ("key.json", "remembered.json", "log.key", "receipt.json"):
        path = stored / name
        path.write_bytes(path.read_bytes()[:-20])
    for read_it in (
        lambda: Keystore(stored).find("key"),
        lambda: Memory.load(stored / "remembered.json"),
        lambda: read_log_key(stored / "log.key"),
        lambda: load_bundle((stored / "receipt.json").read_bytes()),
    ):
        with pytest.raises(JoulemeshError):
            read_it()


@pytest.mark.asyncio
async def test_a_voucher_whose_last_write_was_cut_short_is_the_one_before(stored: Path) -> None:
    path, newest = stored / "slots.voucher", await read(stored, "slots")
    data = bytearray(path.read_bytes())
    data[data.index(b"JMSLOT1\n", 1) + 100] ^= 1  # of the second slot, which has the newer one here
    path.write_bytes(data)
    older = await read(stored, "slots")
    assert older.session == newest.session
    assert older != newest


@pytest.mark.asyncio
async def test_a_voucher_with_a_byte_lost_is_set_aside(stored: Path) -> None:
    path = stored / "leg.voucher"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not enough values"):
        await read(stored, "leg")
    assert list((stored / "leg").glob("*.bad"))
