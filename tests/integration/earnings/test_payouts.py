"""Earnings go to a cold destination: once for what is free, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from bank import Bank
from ledger_world import FEE, MILLION, OPERATOR, PROVIDERS, deposit, lying_ledger, withdraw

from node.app.settlement.payout import AGAIN_S, PAUSE_S, Destination, Payouts
from node.earnings import JournalTables, StoredJournal, open_journal
from node.events import Event, PaidOut, PayoutFailed
from node.ledger import LedgerClient
from node.worker import ThreadWorker
from protocol.serving.earnings import PayoutRecord
from protocol.settlement import Account
from protocol.settlement.operations import Withdraw

pytestmark = pytest.mark.asyncio

NODE = PROVIDERS[0]
COLD = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
KEPT = 4 * MILLION
WANTED = Destination(to=COLD, above=KEPT, fee_share_ppm=50_000)


@asynccontextmanager
async def journal_of(folder: Path, bank: Bank, events: list[Event]) -> AsyncIterator[StoredJournal]:
    async with AsyncExitStack() as stack:
        worker = ThreadWorker("journal")
        stack.callback(worker.close)
        path = folder / "earnings.sqlite"
        yield await stack.enter_async_context(open_journal(path, worker, bank.clock, events.append))


def payouts_in(folder: Path) -> tuple[PayoutRecord, ...]:
    return JournalTables(folder / "earnings.sqlite").read().payouts


async def sent(bank: Bank) -> list[Withdraw]:
    """What the ledger's log says was taken out."""
    found = []
    for index in range(await bank.size()):
        action = (await bank.client.entry(index)).entry.op.read()
        if isinstance(action, Withdraw):
            found.append(action)
    return found


async def test_what_is_free_above_is_sent_once_and_again_after_an_hour(bank: Bank, tmp_path: Path) -> None:
    events: list[Event] = []
    async with journal_of(tmp_path, bank, events) as journal:
        payouts = Payouts(bank.client, NODE, journal, WANTED, bank.clock, events.append)
        for _ in range(3):
            await payouts.look()
        assert await bank.free(NODE.address) == KEPT
        await bank.client.submit(deposit(NODE, MILLION), OPERATOR)
        bank.clock.now += PAUSE_S - 1
        await payouts.look()
        assert len(await sent(bank)) == 1
        bank.clock.now += 1
        await payouts.look()
    assert await bank.free(NODE.address) == KEPT
    assert [(each.amount, each.reference) for each in await sent(bank)] == [
        (6 * MILLION - FEE, COLD),
        (MILLION - FEE, COLD),
    ]
    assert [each.amount_micro for each in events if isinstance(each, PaidOut)] == [6 * MILLION - FEE, MILLION - FEE]
    assert [(each.amount, each.fee, each.to) for each in payouts_in(tmp_path)] == [
        (6 * MILLION - FEE, FEE, COLD),
        (MILLION - FEE, FEE, COLD),
    ]
    assert all(each.entry is not None for each in payouts_in(tmp_path))


@pytest.mark.parametrize(("above", "pays"), [(10 * MILLION - 21 * FEE, True), (10 * MILLION - 20 * FEE, False)])
async def test_what_its_fee_would_eat_up_stays(bank: Bank, tmp_path: Path, above: int, pays: bool) -> None:
    events: list[Event] = []
    wanted = Destination(to=COLD, above=above, fee_share_ppm=50_000)
    async with journal_of(tmp_path, bank, events) as journal:
        await Payouts(bank.client, NODE, journal, wanted, bank.clock, events.append).look()
    assert bool(await sent(bank)) is pays


async def test_an_answer_that_is_lost_sends_nothing_twice(bank: Bank, tmp_path: Path) -> None:
    events: list[Event] = []
    lies = {"/ops": lambda _body: b"{}"}
    async with (
        journal_of(tmp_path, bank, events) as journal,
        lying_ledger(bank.url, lies) as url,
        LedgerClient(url) as client,
    ):
        payouts = Payouts(client, NODE, journal, WANTED, bank.clock, events.append)
        await payouts.look()
        assert [type(event) for event in events] == [PayoutFailed]
        lies.clear()
        for _ in range(3):
            bank.clock.now += AGAIN_S
            await payouts.look()
    assert len(await sent(bank)) == 1
    assert await bank.free(NODE.address) == KEPT
    (unsure,) = payouts_in(tmp_path)
    assert (unsure.amount, unsure.entry) == (6 * MILLION - FEE, None)


async def test_an_operation_that_is_lost_is_tried_again(bank: Bank, tmp_path: Path) -> None:
    """The neighbour: it never reached the ledger, and is in the journal once."""
    events: list[Event] = []
    async with journal_of(tmp_path, bank, events) as journal:
        gone = Gone(bank.client, reaches=False)
        payouts = Payouts(gone, NODE, journal, WANTED, bank.clock, events.append)
        await payouts.look()
        bank.clock.now += AGAIN_S
        gone.reaches = True
        await payouts.look()
    assert len(await sent(bank)) == 1
    (record,) = payouts_in(tmp_path)
    assert record.entry is not None


async def test_two_processes_of_one_key_send_once(bank: Bank, tmp_path: Path) -> None:
    """Another one takes money out between the look at the account and the operation: only one of the two counts."""
    events: list[Event] = []

    async def meanwhile() -> None:
        async with LedgerClient(bank.url) as other:
            await other.submit(withdraw(MILLION), NODE)

    async with journal_of(tmp_path, bank, events) as journal:
        hurried = Gone(bank.client, meanwhile=meanwhile)
        payouts = Payouts(hurried, NODE, journal, WANTED, bank.clock, events.append)
        await payouts.look()
        assert [each.amount for each in await sent(bank)] == [MILLION]
        await payouts.look()
    assert [each.amount for each in await sent(bank)] == [MILLION, 5 * MILLION - 2 * FEE]
    assert await bank.free(NODE.address) == KEPT
    assert len(payouts_in(tmp_path)) == 1


async def test_a_restart_keeps_the_pace(bank: Bank, tmp_path: Path) -> None:
    events: list[Event] = []
    async with journal_of(tmp_path, bank, events) as journal:
        await Payouts(bank.client, NODE, journal, WANTED, bank.clock, events.append).look()
    await bank.client.submit(deposit(NODE, MILLION), OPERATOR)
    for seconds, count in ((PAUSE_S - 1, 1), (1, 2)):
        bank.clock.now += seconds
        async with journal_of(tmp_path, bank, events) as journal:
            await Payouts(bank.client, NODE, journal, WANTED, bank.clock, events.append).look()
        assert len(await sent(bank)) == count


class Gone:
    """A ledger's client through which an operation may not get, or before which something else does."""

    def __init__(self, client: LedgerClient, *, reaches: bool = True, meanwhile: object = None) -> None:
        self._client = client
        self.reaches = reaches
        self._meanwhile = meanwhile
        self.rules, self.account = client.rules, client.account

    async def withdraw(self, amount: int, to: str, key: object, *, seen: Account) -> object:
        from protocol.errors import UnreachableError

        if not self.reaches:
            raise UnreachableError("no way there")
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()  # type: ignore[operator]
        return await self._client.withdraw(amount, to, key, seen=seen)  # type: ignore[arg-type]
