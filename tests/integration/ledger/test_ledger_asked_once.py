"""What a person asks for is done once, wherever the process that was asked dies, and however often it is asked."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ledger_world import CLIENT, FEE, MILLION, OPERATOR, HandClock, ledger_settings, lying_ledger, stake, withdraw

from node.ledger import LedgerClient, Proven, RunningLedger, run_ledger
from node.ledger.asked import AskedFile
from node.ledger.log_source import HttpLog
from protocol.errors import DishonestError, LocalError, RuleError
from protocol.settlement.operations import Action

pytestmark = pytest.mark.asyncio


class Killed(BaseException):
    """Nothing of the process goes on after it."""


BOUNDARIES: tuple[tuple[type, str, bool], ...] = (
    (AskedFile, "keep", False),
    (AskedFile, "keep", True),
    (HttpLog, "post", False),
    (HttpLog, "post", True),
    (LedgerClient, "submit", True),
    (LedgerClient, "submit_once", True),
    (AskedFile, "forget", False),
)
"""Before or after a call; after it is before the next one."""


def kill_at(owner: type, name: str, after: bool, patch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(real)
    async def asked(self: object, *given: object, **named: object) -> None:
        if after:
            await real(self, *given, **named)
        raise Killed

    @functools.wraps(real)
    def kept(self: object, *given: object) -> None:
        if after:
            real(self, *given)
        raise Killed

    patch.setattr(owner, name, kept if owner is AskedFile else asked)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[RunningLedger]:
    async with run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger:
        async with LedgerClient(ledger.url) as client:
            await client.faucet(CLIENT.address, MILLION)
        yield ledger


async def command(ledger: RunningLedger, folder: Path, action: Action) -> Proven:
    """As a process does it."""
    async with LedgerClient(ledger.url, remembered=folder / "ledger.json") as client:
        proven = await client.submit_once(action, CLIENT)
        client.told(proven.wish)
        return proven


async def free(ledger: RunningLedger) -> int:
    async with LedgerClient(ledger.url) as client:
        return (await client.account(CLIENT.address)).free


async def test_a_command_that_is_repeated_after_a_kill_is_done_once(ledger: RunningLedger, tmp_path: Path) -> None:
    had = MILLION
    for owner, name, after in BOUNDARIES:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(owner, name, after, patch)
            with pytest.raises(Killed):
                await command(ledger, tmp_path, withdraw(5))
        again = await command(ledger, tmp_path, withdraw(5))
        assert again.earlier == ((owner, name, after) != BOUNDARIES[0]), (owner, name, after)
        had -= 5 + FEE
        assert await free(ledger) == had, (owner, name, after)
        more = await command(ledger, tmp_path, withdraw(5))  # who was told, and asks again, wants more
        assert not more.earlier
        had -= 5 + FEE
        assert await free(ledger) == had


async def test_others_of_the_same_account_are_not_taken_for_it(ledger: RunningLedger, tmp_path: Path) -> None:
    for owner, name in ((AskedFile, "keep"), (HttpLog, "post")):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(owner, name, True, patch)
            with pytest.raises(Killed):
                await command(ledger, tmp_path, withdraw(5))
        assert not (await command(ledger, tmp_path, stake(7))).earlier
        before = await free(ledger)
        assert (await command(ledger, tmp_path, withdraw(5))).earlier == (owner is HttpLog)
        assert before - await free(ledger) == (0 if owner is HttpLog else 5 + FEE)
        assert not (await command(ledger, tmp_path, withdraw(6))).earlier


async def test_what_is_refused_is_asked_for_anew(ledger: RunningLedger, tmp_path: Path) -> None:
    with pytest.raises(RuleError) as refused:
        await command(ledger, tmp_path, withdraw(2 * MILLION))
    assert refused.value.code == "balance"
    async with LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 2 * MILLION)
    assert not (await command(ledger, tmp_path, withdraw(2 * MILLION))).earlier


async def test_a_spoiled_file_is_told_before_anything_is_sent(ledger: RunningLedger, tmp_path: Path) -> None:
    (tmp_path / "ledger.asked.sqlite").write_bytes(b"x" * 5_000)
    with pytest.raises(LocalError) as spoiled:
        await command(ledger, tmp_path, withdraw(5))
    assert spoiled.value.code == "asked-file"
    assert await free(ledger) == MILLION


async def lost(ledger: RunningLedger, folder: Path) -> None:
    """A withdrawal that was taken, and whose answer nobody has read."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(HttpLog, "post", True, patch)
        with pytest.raises(Killed):
            await command(ledger, folder, withdraw(5))


def blank(bundle: bytes) -> bytes:
    """As many entries of as many bytes, with nothing in them."""
    place, parts = 0, []
    while place < len(bundle):
        length = int.from_bytes(bundle[place : place + 2], "big")
        parts.append(bundle[place : place + 2] + bytes(length))
        place += 2 + length
    return b"".join(parts)


async def test_a_relay_has_nothing_done_twice_by_keeping_entries_back(ledger: RunningLedger, tmp_path: Path) -> None:
    """What it passes on of the log is not proven; what it says of the account is."""
    await lost(ledger, tmp_path)
    lies = {"/tile/entries": blank}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url, remembered=tmp_path / "ledger.json") as client:
        assert (await client.submit_once(withdraw(5), CLIENT)).earlier
    assert await free(ledger) == MILLION - 5 - FEE


async def test_a_number_that_is_free_is_not_believed_to_be_used(ledger: RunningLedger, tmp_path: Path) -> None:
    async def refuse(_log: HttpLog, path: str, *_: object) -> None:
        assert path.startswith("ops")
        raise RuleError("it is used", code="nonce")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpLog, "post", refuse)
        with pytest.raises(DishonestError, match="its own entries"):
            await command(ledger, tmp_path, withdraw(5))
    assert (await command(ledger, tmp_path, withdraw(5))).earlier
    assert await free(ledger) == MILLION - 5 - FEE


async def test_whoever_writes_ones_signature_into_its_own_entry_is_not_believed(
    ledger: RunningLedger, tmp_path: Path
) -> None:
    """A name that holds the bytes is no operation of this account's."""
    await lost(ledger, tmp_path)
    async with LedgerClient(ledger.url) as other:
        entry = (await other.entry(2)).entry
        await other.submit(withdraw(1), CLIENT)  # the account's newest entry is another one by now

    def copied(bundle: bytes) -> bytes:
        """The entry before it, with the signature in it."""
        first = 2 + int.from_bytes(bundle[:2], "big")
        return bundle[: first - 64] + entry.op.signature + bundle[first:]

    lies = {"/tile/entries": copied}
    async with lying_ledger(ledger.url, lies) as url, LedgerClient(url, remembered=tmp_path / "ledger.json") as client:
        found = await client.submit_once(withdraw(5), CLIENT)
        assert (found.index, found.earlier) == (2, True)
    assert await free(ledger) == MILLION - 6 - 2 * FEE
