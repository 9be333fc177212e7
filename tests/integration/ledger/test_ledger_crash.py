"""Killing the ledger in the middle of its work: nothing that it acknowledged is lost, and what it left verifies."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from ledger_process import spawn_ledger
from ledger_world import OPERATOR, ledger_settings

from node.demo.forked import Forked
from node.ledger import LedgerClient, run_ledger, verify_database
from protocol.errors import UnreachableError
from protocol.identity.signing import SigningKey

KEYS = [SigningKey(number.to_bytes(32, "big")) for number in range(1, 13)]


async def start(folder: Path) -> tuple[Forked, str]:
    ledger = await spawn_ledger(folder)
    return ledger.process, ledger.url


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [1, 40, 90])
async def test_killed_in_mid_load(tmp_path: Path, after: int) -> None:
    """Each submitter goes on until the ledger is gone: killed once `after` operations are acknowledged."""
    process, url = await start(tmp_path)
    acknowledged: dict[int, tuple[bytes, int]] = {}
    enough = asyncio.Event()

    async def submit(client: LedgerClient, key: SigningKey, number: int) -> None:
        amount = 1 + number * 1_000_000
        while True:
            proven = await client.faucet(key.address, amount)
            acknowledged[proven.index] = (key.address, amount)
            amount += 1
            if len(acknowledged) >= after:
                enough.set()

    async with LedgerClient(url, remembered=tmp_path / "remembered.json") as client:
        tasks = [asyncio.create_task(submit(client, key, number)) for number, key in enumerate(KEYS)]
        async with asyncio.timeout(60):
            await enough.wait()
            process.send_signal(signal.SIGKILL)
            await process.wait()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, UnreachableError) for end in ends)
    assert "joule ledger run" in ends[0].hint  # type: ignore[union-attr]

    report = await verify_database(tmp_path / "ledger.sqlite3")
    assert report.fault is None
    assert report.entries > max(acknowledged)
    # Its memory of the ledger before the crash lets the client go on: the log continues what was shown.
    async with (
        run_ledger(ledger_settings(tmp_path), OPERATOR, lambda: int(time.time())) as ledger,
        LedgerClient(ledger.url, remembered=tmp_path / "remembered.json") as client,
    ):
        for index, (address, _) in acknowledged.items():
            proven = await client.entry(index)
            effects = {effect.account: effect.free for effect in proven.entry.accounts}
            earlier = sum(amount for i, (who, amount) in acknowledged.items() if who == address and i <= index)
            assert effects[address] == earlier
        await client.faucet(KEYS[0].address, 1)


@pytest.mark.asyncio
async def test_killed_as_soon_as_it_serves(tmp_path: Path) -> None:
    process, _ = await start(tmp_path)
    process.kill()
    await process.wait()
    process, url = await start(tmp_path)
    async with LedgerClient(url) as client:
        assert (await client.checkpoint()).size == 1
    process.terminate()
    await process.wait()
