"""A chain's node that lies, or answers with what is nothing: told as somebody else's fault, bounded, not believed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import Chain, why_no_anvil
from chain_venue import ChainMarket
from ledger_world import CLIENT, NOW, PROVIDERS, STRANGER, HandClock, make_session, voucher_of
from rpc_door import Answer, RpcDoor, door_to

from node.settlement.evm import ChainSettings, EvmVenue
from node.venue_address import VenueAddress
from protocol.chain.contract import Contract
from protocol.errors import DishonestError, JoulemeshError, MalformedError, RuleError
from protocol.identity.ids import Address
from protocol.session.messages import session_id

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]
SESSION = make_session()
CLOCK = HandClock(NOW)
Act = Callable[[EvmVenue], Coroutine[Any, Any, object]]
NOTHING: list[object] = [None, {}, [{}], "0x", "0x" + "f" * 64, "0x" + "ff" * 200]
NO_ANSWERS = [
    *(b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"result": ' + b"9" * 9_000 + b"}", b" " * (5 << 20)),
    *(b"\xff\xfe{}", b'{"error": 5}', b'{"result": 1, "error": {"data": "0x"}}'),
]


def says(result: object) -> Answer:
    return {"jsonrpc": "2.0", "id": 1, "result": result}


async def read_all(venue: EvmVenue) -> None:
    await venue.account(CLIENT.address)
    await venue.latest(session_id(SESSION))


async def settle(venue: EvmVenue) -> None:
    await venue.settle((voucher_of(venue.domain, SESSION, 1, 2, 3),), PROVIDERS[0])


async def asked_in(market: ChainMarket, door: RpcDoor, folder: Path, act: Act) -> list[str]:
    """What an honest node is asked for it, each method once."""
    async with market.venue(folder, CLOCK, url=door.url) as venue:
        door.asked.clear()
        await act(venue)
    return list(dict.fromkeys(door.asked))


@pytest.mark.slow
@pytest.mark.parametrize("act", [read_all, settle], ids=["reading", "settling"])
async def test_whatever_a_node_says_instead_is_its_fault(market: ChainMarket, tmp_path: Path, act: Act) -> None:
    async with market.venue(tmp_path / "client", CLOCK) as client:
        await client.open(SESSION, CLIENT)
    before = market.chain.ask("evm_snapshot")
    with door_to(market.chain.url) as door:
        methods = await asked_in(market, door, tmp_path / "honest", act)
        assert len(methods) >= 4
        for turn, method in enumerate(methods):
            for number in range(2):
                lie = NOTHING[(2 * turn + number) % len(NOTHING)]
                market.chain.ask("evm_revert", before)
                before = market.chain.ask("evm_snapshot")
                door.lie = lambda asked, _params, said, method=method, lie=lie: says(lie) if asked == method else said
                folder = tmp_path / f"{turn}-{number}"
                async with market.venue(folder, CLOCK, url=door.url, patience_s=0.1) as venue:
                    with contextlib.suppress(JoulemeshError):
                        await act(venue)


@pytest.mark.parametrize("said", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
async def test_what_is_no_answer_is_not_read(market: ChainMarket, tmp_path: Path, said: bytes) -> None:
    with door_to(market.chain.url) as door:
        door.lie = lambda _method, _params, _said: said
        async with market.venue(tmp_path, CLOCK, url=door.url) as venue:
            with pytest.raises(MalformedError):
                await venue.account(CLIENT.address)


async def test_marks_and_sessions_cannot_be_made_up(market: ChainMarket, tmp_path: Path) -> None:
    async with market.venue(tmp_path / "client", CLOCK) as client:
        await client.open(SESSION, CLIENT)
        await settle(client)
    with door_to(market.chain.url) as door:

        def other_marks(method: str, params: Any, said: Answer) -> Answer:
            if method == "eth_getLogs" and len(params[0]["topics"][0]) == 1:
                for event in said["result"]:
                    if len(event["data"]) > 2:
                        event["data"] = event["data"][:31] + "7" + event["data"][32:]  # of the first ceiling
            return said

        door.lie = other_marks
        async with market.venue(tmp_path / "node", CLOCK, url=door.url) as node:
            with pytest.raises(DishonestError, match="marks"):
                await node.session(session_id(SESSION))

        def another_opening(method: str, _params: Any, said: Answer) -> Answer:
            if method == "eth_getTransactionByHash":
                said["result"]["input"] = said["result"]["input"][:-2] + "01"
            return said

        door.lie = another_opening
        async with market.venue(tmp_path / "other", CLOCK, url=door.url) as node:
            with pytest.raises(DishonestError, match="opened"):
                await node.session(session_id(SESSION))


async def test_events_of_others_are_not_taken(market: ChainMarket, tmp_path: Path) -> None:
    other = make_session(salt=4)
    async with market.venue(tmp_path / "client", CLOCK) as client:
        await client.open(SESSION, CLIENT)
        await client.open(other, CLIENT)
    with door_to(market.chain.url) as door:

        def all_events(method: str, params: Any, said: Answer) -> Answer:
            if method != "eth_getLogs":
                return said
            return says(market.chain.ask("eth_getLogs", {**params[0], "topics": []}))

        door.lie = all_events
        async with market.venue(tmp_path / "node", CLOCK, url=door.url) as node:
            with pytest.raises(MalformedError):
                await node.session(session_id(other))


async def test_without_events_what_is_known_is_redeemed_all_the_same(market: ChainMarket, tmp_path: Path) -> None:
    """And a session that is not known is not taken for one that was never opened."""
    with door_to(market.chain.url) as door:
        async with market.venue(tmp_path / "node", CLOCK, url=door.url) as node:
            await node.open(SESSION, CLIENT)
            door.lie = lambda method, _params, said: says([]) if method == "eth_getLogs" else said
            found = await node.latest(session_id(SESSION))
            assert found is not None
            assert found[0].settled == (0, 0, 0)
            await settle(node)
            for folder in ("node", "other"):
                async with market.venue(tmp_path / folder, CLOCK, url=door.url) as again:
                    with pytest.raises(DishonestError, match="does not show"):
                        await again.latest(session_id(SESSION))
            door.lie = None
            record = await node.session(session_id(SESSION))
            assert record is not None
            assert record.settled == (1, 2, 3)


async def test_a_node_that_shows_few_blocks_at_once_is_asked_for_fewer(market: ChainMarket, tmp_path: Path) -> None:
    async with market.venue(tmp_path / "client", CLOCK) as client:
        await client.open(SESSION, CLIENT)
    for _ in range(300):
        market.chain.ask("evm_mine")
    with door_to(market.chain.url) as door:

        def short(method: str, params: Any, said: Answer) -> Answer:
            if method == "eth_getLogs":
                wide = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16)
                if wide > 100:
                    return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "range too large"}}
            return said

        door.lie = short
        async with market.venue(tmp_path / "node", CLOCK, url=door.url) as node:
            record = await node.session(session_id(SESSION))
            assert record is not None
            assert record.session == SESSION


async def test_another_chain_or_contract_is_refused(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    right = market.address.contract
    for contract, code in (
        (Contract(right.chain_id + 1, right.address), "other-chain"),
        (Contract(right.chain_id, Address(b"\x11" * 20)), "no-contract"),
        (Contract(right.chain_id, Address(market.token.address)), "other-contract"),
    ):
        venue = EvmVenue(
            VenueAddress(contract, chain.url), folder=tmp_path, clock=CLOCK, settings=ChainSettings(confirmations=0)
        )
        async with venue:
            with pytest.raises(DishonestError) as refused:
                await venue.account(CLIENT.address)
            assert refused.value.code == code


async def test_a_chain_that_began_anew_is_not_taken_for_the_old_one(market: ChainMarket, tmp_path: Path) -> None:
    async with market.venue(tmp_path, CLOCK) as venue:
        await venue.connect()
    with door_to(market.chain.url) as door:

        def another_beginning(method: str, params: Any, said: Answer) -> Answer:
            if method == "eth_getBlockByNumber" and params[0] == "0x0":
                said["result"]["hash"] = "0x" + "22" * 32
            return said

        door.lie = another_beginning
        async with market.venue(tmp_path, CLOCK, url=door.url) as venue:
            with pytest.raises(DishonestError, match="another chain than before"):
                await venue.account(CLIENT.address)


async def test_the_contracts_refusals_have_the_codes_of_the_rules(market: ChainMarket, tmp_path: Path) -> None:
    poor, unknown = make_session(client=STRANGER), make_session(salt=7)
    async with market.venue(tmp_path, CLOCK) as venue:
        await venue.open(SESSION, CLIENT)
        early = venue.close(session_id(SESSION), STRANGER)
        beyond = venue.settle((voucher_of(venue.domain, SESSION, SESSION.legs[0].cap + 1, 0, 0),), STRANGER)
        for doing, code in (
            (venue.open(SESSION, CLIENT), "exists"),
            (venue.open(poor, STRANGER), "balance"),
            (venue.settle((voucher_of(venue.domain, unknown, 1, 1, 1),), STRANGER), "unknown-session"),
            (beyond, "cap"),
            (early, "early"),
            (venue.stake(1, STRANGER), "balance"),
            (venue.unstake(1, STRANGER), "bond"),
            (venue.unbond(STRANGER), "amount"),
        ):
            with pytest.raises(RuleError) as refused:
                await doing
            assert refused.value.code == code


async def test_what_is_told_of_a_node_keeps_its_secret() -> None:
    place = VenueAddress(Contract(1, Address(bytes(20))), "https://user:word@rpc.example.org:8545/v2/SECRET?key=SECRET")
    venue = EvmVenue(place, folder=Path("nowhere"), clock=CLOCK)
    assert venue.url == "https://rpc.example.org:8545"
    assert "SECRET" not in json.dumps([venue.url, venue.verifier_key])
