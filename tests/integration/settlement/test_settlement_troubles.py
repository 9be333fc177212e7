"""A contract as a venue where things go wrong: reorganisations, transactions that stick, nodes that die, restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import Chain, why_no_anvil
from chain_venue import ChainMarket
from ledger_world import CLIENT, MILLION, NOW, PROVIDERS, STRANGER, HandClock, discharge_of, make_session, voucher_of
from rpc_door import Answer, door_to

from node.settlement.evm import EvmVenue
from protocol.chain.chain_evidence import ChainProof
from protocol.chain.contract_calls import open_call
from protocol.chain.transaction import Transaction
from protocol.encoding.codec import encode
from protocol.errors import DishonestError, LocalError, RefusedError, RuleError, UnreachableError
from protocol.session.messages import session_id

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]
SESSION = make_session()
CLOCK = HandClock(NOW)


def sent_by(chain: Chain, address: bytes) -> int:
    """Transactions of an account that blocks hold."""
    return int(chain.ask("eth_getTransactionCount", "0x" + address.hex(), "latest"), 16)


async def waits(chain: Chain, *, but: str = "") -> dict[str, Any]:
    """Until a transaction waits for a block, another one than `but`."""
    async with asyncio.timeout(10):
        while True:
            pool = await asyncio.to_thread(chain.ask, "txpool_content")
            found = [each for sender in pool["pending"].values() for each in sender.values() if each["hash"] != but]
            if found:
                return dict(found[0])


async def mined(chain: Chain, count: int) -> None:
    """Until blocks hold so many transactions of the client."""
    async with asyncio.timeout(15):
        while True:
            if await asyncio.to_thread(sent_by, chain, CLIENT.address) >= count:
                return


async def settled(venue: EvmVenue) -> tuple[int, ...]:
    record = await venue.session(session_id(SESSION))
    assert record is not None
    return record.settled


# Reorganisations


async def test_what_a_reorganisation_drops_is_sent_again(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    async with market.venue(tmp_path, CLOCK, confirmations=2, stuck_s=1) as venue:
        chain.ask("evm_mine", {"timestamp": NOW - 50})
        before, first = chain.ask("evm_snapshot"), sent_by(chain, CLIENT.address)
        opening = asyncio.create_task(venue.open(SESSION, CLIENT))
        await mined(chain, first + 1)
        chain.ask("evm_mine")
        assert not opening.done(), "one block on top is less than was asked for"
        assert await venue.session(session_id(SESSION)) is None
        assert chain.ask("evm_revert", before)
        assert sent_by(chain, CLIENT.address) == first
        await mined(chain, first + 1)
        chain.ask("evm_mine")
        chain.ask("evm_mine")
        evidence = await opening
        await venue.check_opened(SESSION, evidence)
    assert sent_by(chain, CLIENT.address) == first + 1


async def test_a_session_counts_only_under_enough_blocks(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    async with market.venue(tmp_path / "client", CLOCK) as client:
        evidence = await client.open(SESSION, CLIENT)
    async with market.venue(tmp_path / "node", CLOCK, confirmations=2) as careful:
        checking = asyncio.create_task(careful.check_opened(SESSION, evidence))
        assert await careful.session(session_id(SESSION)) is None
        chain.ask("evm_mine")
        chain.ask("evm_mine")
        await checking


async def test_evidence_of_what_the_chain_does_not_know_is_refused(
    market: ChainMarket, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.settlement.viewing.OPEN_S", 0.1)
    before = chain.ask("evm_snapshot")
    async with market.venue(tmp_path, CLOCK) as venue:
        evidence = await venue.open(SESSION, CLIENT)
        await venue.check_opened(SESSION, evidence)
        chain.ask("evm_revert", before)
        with pytest.raises(DishonestError, match="not open"):
            await venue.check_opened(SESSION, evidence)


async def test_strangers_words_of_blocks_to_come_are_waited_for_by_few(
    market: ChainMarket, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.settlement.viewing.MOST_WAITING", 1)
    head = int(chain.ask("eth_blockNumber"), 16)
    signed = Transaction(
        chain_id=chain.chain_id, nonce=0, tip=0, max_fee=0, gas=1, to=market.settlement.address, data=open_call(SESSION)
    ).signed(CLIENT)

    def said(block: int) -> bytes:
        return encode(ChainProof(transaction=signed, block=block, block_hash=bytes(32), time=NOW, inclusion=None))

    async with market.venue(tmp_path, CLOCK) as venue:
        for block in (0, head, head + 1_000, 2**63 - 1):
            with pytest.raises(DishonestError, match="not open"):
                await venue.check_opened(SESSION, said(block))
        first = asyncio.create_task(venue.check_opened(SESSION, said(head + 1)))
        await asyncio.wait([first], timeout=0.3)
        with pytest.raises(RefusedError) as refused:
            await venue.check_opened(SESSION, said(head + 1))
        assert refused.value.code == "busy"
        chain.ask("evm_mine")
        with pytest.raises(DishonestError):
            await first


# Transactions that stick


async def test_a_transaction_that_sticks_is_hurried_under_its_number(
    market: ChainMarket, chain: Chain, tmp_path: Path
) -> None:
    chain.ask("evm_setAutomine", False)
    first = sent_by(chain, CLIENT.address)
    async with market.venue(tmp_path, CLOCK, stuck_s=0.3) as venue:
        opening = asyncio.create_task(venue.open(SESSION, CLIENT))
        cheap = await waits(chain)
        dear = await waits(chain, but=str(cheap["hash"]))
        assert dear["nonce"] == cheap["nonce"]
        assert int(dear["maxFeePerGas"], 16) * 8 > int(cheap["maxFeePerGas"], 16) * 9
        chain.ask("evm_mine")
        await venue.check_opened(SESSION, await opening)
    assert sent_by(chain, CLIENT.address) == first + 1


async def test_gas_beyond_the_bound_is_not_paid(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    chain.ask("anvil_setNextBlockBaseFeePerGas", hex(50 * 10**9))
    chain.ask("evm_mine")
    first = sent_by(chain, CLIENT.address)
    async with market.venue(tmp_path, CLOCK, most_gas_price=10**9) as venue:
        with pytest.raises(LocalError, match="gwei") as refused:
            await venue.open(SESSION, CLIENT)
    assert refused.value.code == "gas-price"
    assert sent_by(chain, CLIENT.address) == first


async def test_gas_is_weighed_where_a_coin_has_a_price(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    chain.ask("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    chain.ask("evm_mine")
    async with market.venue(tmp_path, CLOCK) as careless:
        assert (await careless.rules()).cost == 0
    async with market.venue(tmp_path, CLOCK, coin_micro=3_000 * MILLION) as careful:
        rules = await careful.rules()
        assert rules.fee == 0
        assert rules.cost >= 150_000 * 3_000 * MILLION // 10**9


# Nodes of the chain that die, and answers that are lost


async def test_a_node_that_dies_and_comes_back_loses_nothing(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    chain.ask("evm_setAutomine", False)
    first = sent_by(chain, CLIENT.address)
    with door_to(chain.url) as door:
        async with market.venue(tmp_path, CLOCK, url=door.url) as venue:
            opening = asyncio.create_task(venue.open(SESSION, CLIENT))
            await waits(chain)
            door.close()
            chain.ask("evm_mine")
            with pytest.raises(UnreachableError):
                await venue.account(CLIENT.address)
            assert not opening.done()
            door.open()
            await venue.check_opened(SESSION, await opening)
    assert sent_by(chain, CLIENT.address) == first + 1


@pytest.mark.parametrize("automine", [True, False])
async def test_an_answer_that_is_lost_sends_nothing_twice(
    market: ChainMarket, chain: Chain, tmp_path: Path, automine: bool
) -> None:
    chain.ask("evm_setAutomine", automine)
    first, dropped = sent_by(chain, CLIENT.address), []
    with door_to(chain.url) as door:

        def once(method: str) -> bool:
            if method != "eth_sendRawTransaction" or dropped:
                return False
            dropped.append(method)
            return True

        door.drop_after = once
        async with market.venue(tmp_path, CLOCK, url=door.url) as venue:
            opening = asyncio.create_task(venue.open(SESSION, CLIENT))
            if not automine:
                await waits(chain)
                chain.ask("evm_mine")
            await venue.check_opened(SESSION, await opening)
    assert dropped
    assert sent_by(chain, CLIENT.address) == first + 1


@pytest.mark.parametrize("stopped_at", ["eth_sendRawTransaction", "eth_getTransactionReceipt"])
async def test_a_restart_goes_on_with_what_was_sent(
    market: ChainMarket, chain: Chain, tmp_path: Path, stopped_at: str
) -> None:
    """Stopped before the node's answer to what was sent, or while a block is waited for."""
    async with market.venue(tmp_path, CLOCK) as venue:
        await venue.open(SESSION, CLIENT)
    pay, node = voucher_of(venue.domain, SESSION, 10, 20, 30), PROVIDERS[0]
    first = sent_by(chain, node.address)
    chain.ask("evm_setAutomine", False)
    reached, stopped, asked = threading.Event(), threading.Event(), threading.Event()
    with door_to(chain.url) as door:

        def hold(method: str) -> bool:
            if method == stopped_at:
                reached.set()
                stopped.wait(60)
            return method == stopped_at

        def watch(method: str) -> bool:
            if method == "eth_getTransactionReceipt":  # it has found what was sent, and waits for it
                asked.set()
            return False

        door.drop_after = hold
        async with market.venue(tmp_path, CLOCK, url=door.url) as before:
            task = asyncio.create_task(before.settle((pay,), node))
            assert await asyncio.to_thread(reached.wait, 60)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        stopped.set()
        door.drop_after = watch
        async with market.venue(tmp_path, CLOCK, url=door.url) as after:
            task = asyncio.create_task(after.settle((pay,), node))
            assert await asyncio.to_thread(asked.wait, 60)
            chain.ask("evm_mine")
            await task
            assert await settled(after) == (10, 20, 30)
    assert sent_by(chain, node.address) == first + 1


async def test_without_its_disk_a_restart_pays_nothing_twice(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    async with market.venue(tmp_path / "before", CLOCK) as venue:
        await venue.open(SESSION, CLIENT)
        pay, node = voucher_of(venue.domain, SESSION, 10, 20, 30), PROVIDERS[0]
        await venue.settle((pay,), node)
    async with market.venue(tmp_path / "after", CLOCK) as anew:
        with pytest.raises(RuleError) as refused:
            await anew.settle((pay,), node)
        assert refused.value.code == "settled"
        assert await settled(anew) == (10, 20, 30)
        assert (await anew.account(node.address)).free == 10


# One key in several processes, and several parties at one session


@pytest.mark.parametrize("folders", ["shared", "apart"])
async def test_processes_of_one_key_do_not_take_each_others_numbers(
    market: ChainMarket, chain: Chain, tmp_path: Path, folders: str
) -> None:
    first = sent_by(chain, CLIENT.address)
    places = [tmp_path, tmp_path if folders == "shared" else tmp_path / "other"]
    async with market.venue(places[0], CLOCK) as one, market.venue(places[1], CLOCK) as other:
        opened = await asyncio.gather(
            *(venue.open(make_session(salt=salt), CLIENT) for salt, venue in enumerate([one, other] * 3))
        )
        for salt, evidence in enumerate(opened):
            await one.check_opened(make_session(salt=salt), evidence)
    assert sent_by(chain, CLIENT.address) == first + 6


async def test_a_number_that_nobody_used_holds_up_no_other(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    """The node has counted too many once; the same is left by another machine whose transactions were lost."""
    first, lied = sent_by(chain, CLIENT.address), []
    with door_to(chain.url) as door:

        def miscounts(method: str, params: Any, said: Answer) -> Answer:
            if method == "eth_getTransactionCount" and params[1] == "pending" and not lied:
                lied.append(method)
                said["result"] = hex(int(said["result"], 16) + 2)
            return said

        door.lie = miscounts
        async with market.venue(tmp_path, CLOCK, url=door.url, stuck_s=0.3) as venue:
            await venue.check_opened(SESSION, await venue.open(SESSION, CLIENT))
    assert lied
    assert sent_by(chain, CLIENT.address) == first + 3


async def test_what_a_deeper_reorganisation_drops_is_done_again_when_it_is_asked_for(
    market: ChainMarket, chain: Chain, tmp_path: Path
) -> None:
    """Deeper than was waited for: what counted is gone, and nothing that is kept of it stands in the way."""
    before = chain.ask("evm_snapshot")
    async with market.venue(tmp_path, CLOCK) as venue:
        pay = voucher_of(venue.domain, SESSION, 10, 20, 30)
        for _ in range(2):
            await venue.open(SESSION, CLIENT)
            await venue.settle((pay,), PROVIDERS[0])
            assert await settled(venue) == (10, 20, 30)
            await venue.release([discharge_of(venue.domain, SESSION, leg, 0) for leg in range(3)], CLIENT)
            record = await venue.session(session_id(SESSION))
            assert record is not None
            assert record.closed
            assert chain.ask("evm_revert", before)
            before = chain.ask("evm_snapshot")
            assert await venue.session(session_id(SESSION)) is None
            assert await venue.latest(session_id(SESSION)) is None


async def test_two_who_claim_at_once_are_both_paid(market: ChainMarket, tmp_path: Path) -> None:
    async with market.venue(tmp_path / "0", CLOCK) as one, market.venue(tmp_path / "1", CLOCK) as other:
        await one.open(SESSION, CLIENT)
        claims: list[Awaitable[bytes]] = [
            one.settle((voucher_of(one.domain, SESSION, 10, 0, 0),), PROVIDERS[0]),
            other.settle((voucher_of(one.domain, SESSION, 0, 20, 0),), PROVIDERS[1]),
            other.release((discharge_of(one.domain, SESSION, 2, 5),), STRANGER),
        ]
        await asyncio.gather(*claims)
        record = await other.session(session_id(SESSION))
        assert record is not None
        assert (record.settled, record.ceilings) == ((10, 20, 0), (MILLION, MILLION, 5))


async def test_a_withdrawal_is_taken_once_for_one_state_of_an_account(
    market: ChainMarket, chain: Chain, tmp_path: Path
) -> None:
    cold = "0x" + "11" * 20
    async with market.venue(tmp_path, CLOCK) as venue:
        seen = await venue.account(CLIENT.address)
        taken = await venue.withdraw(7, cold, CLIENT, seen=seen)
        assert taken.actor == CLIENT.address
        with pytest.raises(RuleError) as refused:
            await venue.withdraw(7, cold, CLIENT, seen=seen)
        assert refused.value.code == "nonce"
        assert market.tokens_of(b"\x11" * 20) == 7
        chain.ask("evm_setAutomine", False)
        seen = await venue.account(CLIENT.address)
        sending = asyncio.create_task(venue.withdraw(8, cold, CLIENT, seen=seen))
        await waits(chain)
        with pytest.raises(UnreachableError):
            await venue.withdraw(9, cold, CLIENT, seen=seen)
        chain.ask("evm_mine")
        await sending
    assert market.tokens_of(b"\x11" * 20) == 15


async def test_evidence_of_who_was_quicker_is_waited_for(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    async with (
        market.venue(tmp_path / "0", CLOCK) as quick,
        market.venue(tmp_path / "1", CLOCK, confirmations=2) as slow,
    ):
        await quick.open(SESSION, CLIENT)
        chain.ask("evm_mine")
        chain.ask("evm_mine")
        pay = voucher_of(quick.domain, SESSION, 10, 20, 30)
        await quick.settle((pay,), PROVIDERS[0])
        with pytest.raises(RuleError) as refused:
            await slow.settle((pay,), CLIENT)
        assert refused.value.code == "settled"
        asking = asyncio.create_task(slow.evidence(session_id(SESSION)))
        await asyncio.wait([asking], timeout=0.5)
        assert not asking.done()
        chain.ask("evm_mine")
        chain.ask("evm_mine")
        record = slow.shown(SESSION, await asking)
        assert record is not None
        assert record.settled == (10, 20, 30)


# Found again


async def test_sessions_are_found_again_from_the_chain_alone(market: ChainMarket, tmp_path: Path) -> None:
    words = tuple(discharge_of(market.address.contract.domain, SESSION, leg, 40) for leg in range(3))
    async with market.venue(tmp_path / "one", CLOCK) as one:
        domain = one.domain
        await one.open(SESSION, CLIENT)
        await one.settle((voucher_of(domain, SESSION, 10, 20, 30),), PROVIDERS[2])
        async with market.venue(tmp_path / "two", CLOCK) as two:
            found = await two.latest(session_id(SESSION))
            assert found is not None
            record, taken = found
            assert (record.session, record.settled) == (SESSION, (10, 20, 30))
            assert (taken.actor, taken.sessions) == (PROVIDERS[2].address, (session_id(SESSION),))
            await two.settle((voucher_of(domain, SESSION, 11, 20, 30),), PROVIDERS[1])
            await two.release(words, STRANGER)
        await one.settle((voucher_of(domain, SESSION, 40, 40, 40),), STRANGER)
    async with market.venue(tmp_path / "three", CLOCK) as three:
        closed = await three.latest(session_id(SESSION))
        assert closed is not None
        assert closed[0].closed
        assert closed[0].settled == (40, 40, 40)
        shown = three.shown(SESSION, await three.evidence(session_id(SESSION)))
        assert shown == closed[0]
        assert await three.session(session_id(make_session(salt=9))) is None
