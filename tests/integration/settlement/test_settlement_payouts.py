"""A node's earnings leave a contract for a cold address: once for what is free, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from anvil_chain import Chain, why_no_anvil
from chain_venue import ChainMarket
from ledger_world import CLIENT, MILLION, NOW, HandClock
from rpc_door import door_to

from node.app.settlement.payout import AGAIN_S, PAUSE_S, Destination, Payouts
from node.earnings import JournalTables, open_journal
from node.events import Event, PaidOut, PayoutFailed
from node.worker import ThreadWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]
COLD = b"\x5a" * 20
KEPT = 4 * MILLION
WANTED = Destination(to="0x" + COLD.hex(), above=KEPT, fee_share_ppm=50_000)


async def test_what_is_free_above_is_sent_once(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    events: list[Event] = []
    clock = HandClock(NOW)
    path = tmp_path / "earnings.sqlite"
    with door_to(chain.url) as door:
        async with AsyncExitStack() as stack:
            worker = ThreadWorker("journal")
            stack.callback(worker.close)
            journal = await stack.enter_async_context(open_journal(path, worker, clock, events.append))
            venue = await stack.enter_async_context(market.venue(tmp_path, clock, url=door.url, patience_s=0.5))
            free = (await venue.account(CLIENT.address)).free
            payouts = Payouts(venue, CLIENT, journal, WANTED, clock, events.append)
            chain.ask("evm_setAutomine", False)
            await payouts.look()
            assert [type(each) for each in events] == [PayoutFailed], "no block has taken it yet"
            chain.ask("evm_mine")
            clock.now += AGAIN_S
            await payouts.look()
            assert market.tokens_of(COLD) == free - KEPT
            assert (await venue.account(CLIENT.address)).free == KEPT
            chain.ask("evm_setAutomine", True)
            clock.now += PAUSE_S
            await payouts.look()
            await asyncio.to_thread(market.token.send, CLIENT.address, "mint", CLIENT.address, MILLION)
            await venue.deposit(MILLION, CLIENT)
            await payouts.look()
            assert [each.amount_micro for each in events if isinstance(each, PaidOut)] == [MILLION]
    assert market.tokens_of(COLD) == free - KEPT + MILLION
    written = JournalTables(path).read().payouts
    assert [each.amount for each in written] == [free - KEPT, MILLION]
    assert written[1].entry is not None
    assert written[1].entry.startswith("0x")
    assert written[1].fee == 0, "a chain without a price of gas"
