"""What shows that a block of a real chain holds a transaction, and what does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import Chain, why_no_anvil
from chain_venue import ChainMarket
from ledger_world import CLIENT, NOW, STRANGER, HandClock, make_session
from rpc_door import door_to

from protocol.chain.chain_evidence import ChainProof, Inclusion, check_chain_proof
from protocol.chain.rlp import read_rlp, rlp
from protocol.encoding.codec import decode, encode
from protocol.errors import PeerError
from protocol.identity.ids import keccak256

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]


async def test_a_block_shows_what_it_holds(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    contract, session = market.address.contract, make_session(salt=7)
    async with market.venue(tmp_path, HandClock(NOW)) as venue:
        await venue.connect()
        chain.ask("evm_setAutomine", False)
        for number in range(18):  # more than one level of a trie
            chain.submit(STRANGER.address, market.token.address, market.token.abi.call("mint", bytes(20), number))
        opening = asyncio.create_task(venue.open(session, CLIENT))
        while int(chain.ask("txpool_status")["pending"], 16) < 19:  # noqa: ASYNC110 - in the chain's process
            await asyncio.sleep(0.02)
        chain.ask("evm_mine")
        bare = await opening
        assert decode(bare, ChainProof).inclusion is None
        whole = await venue.whole(bare)
        proof = decode(whole, ChainProof)
        shown = proof.inclusion
        assert shown is not None
        assert len(shown.transactions) > 1
        check_chain_proof(proof, contract)
        assert (await venue.whole(whole)) == whole
        await venue.check_opened(session, whole)

        other = next(each for each in chain.ask("eth_getBlockReceipts", hex(proof.block)) if each["status"] == "0x1")
        assert other["blockHash"] == "0x" + proof.block_hash.hex()
        header = read_rlp(shown.header)
        assert isinstance(header, list)
        later = rlp([*header[:11], int.from_bytes(header[11], "big") + 1, *header[12:]])
        wrong: list[tuple[Inclusion, dict[str, Any]]] = [
            (shown.replace(number=shown.number + 1 if shown.number < 18 else 0), {}),
            (shown.replace(transactions=shown.transactions[:-1]), {}),
            (shown.replace(receipts=shown.transactions), {}),
            (shown.replace(transactions=shown.receipts), {}),
            (shown.replace(header=later), {}),
            (shown.replace(header=later), {"block_hash": keccak256(later)}),
            (shown, {"time": proof.time + 1}),
            (shown, {"block": proof.block + 1}),
            (shown, {"block_hash": b"\7" * 32}),
        ]
        for inclusion, changes in wrong:
            with pytest.raises(PeerError):
                check_chain_proof(proof.replace(inclusion=inclusion, **changes), contract)


async def test_a_refused_transaction_is_shown_to_be_refused(market: ChainMarket, chain: Chain, tmp_path: Path) -> None:
    contract, session = market.address.contract, make_session(salt=8)
    async with market.venue(tmp_path, HandClock(NOW)) as venue:
        proof = decode(await venue.whole(await venue.open(session, CLIENT)), ChainProof)
        shown = proof.inclusion
        assert shown is not None
        leaf = read_rlp(shown.receipts[-1])
        assert isinstance(leaf, list)
        value = read_rlp(leaf[1][1:])
        assert isinstance(value, list)
        refused = rlp([leaf[0], leaf[1][:1] + rlp([b"", *value[1:]])])
        header = read_rlp(shown.header)
        assert isinstance(header, list)
        changed = rlp([*header[:5], keccak256(refused), *header[6:]])
        lie = shown.replace(header=changed, receipts=(refused,))
        with pytest.raises(PeerError, match="refused"):
            check_chain_proof(proof.replace(block_hash=keccak256(changed), inclusion=lie), contract)


async def test_a_node_that_shows_something_else_shows_nothing(market: ChainMarket, tmp_path: Path) -> None:
    session = make_session(salt=9)
    with door_to(market.chain.url) as door:
        async with market.venue(tmp_path, HandClock(NOW), url=door.url) as venue:
            bare = await venue.open(session, CLIENT)
            for spoilt in (None, [], {}, [{"type": "0x2"}], "0x", [None]):

                def other(method: str, _params: Any, said: dict[str, Any], spoilt: Any = spoilt) -> dict[str, Any]:
                    return {**said, "result": spoilt} if method == "eth_getBlockReceipts" else said

                door.lie = other
                assert await venue.whole(bare) == bare
            door.lie = lambda _method, _params, said: said
            assert await venue.whole(bare) != bare
            assert encode(decode(bare, ChainProof)) == bare
