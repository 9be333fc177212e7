"""What convicts on a chain: a leg's two receipts and a signer's two checkpoints, brought by whoever has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import why_no_anvil
from chain_venue import ChainMarket
from ledger_world import CLIENT, MILLION, NOW, PROVIDERS, STRANGER, HandClock, checkpoint_of, make_session, receipt_of

from node.app.buying.accusing import accuse
from node.settlement.evm import EvmVenue
from protocol.errors import ConfigurationError, MalformedError, RuleError
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Checkpoint, operator_line, sign_checkpoint
from protocol.log.fork import ForkProof
from protocol.log.note import NoteKey
from protocol.receipts.double_receipt import DoubleReceipt
from protocol.settlement import Account, ledger_domain
from protocol.settlement.accusing import accuse_leg, accuse_operator

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]
SESSION = make_session()


@dataclass(frozen=True, slots=True)
class Accuser:
    """As much of a client as brings a proof."""

    ledger: EvmVenue
    key: SigningKey

    async def balance(self, address: bytes) -> Account:
        return await self.ledger.account(address)


async def test_two_receipts_cost_a_legs_stake(market: ChainMarket, tmp_path: Path) -> None:
    provider = PROVIDERS[0]
    market.endow(provider, 3)
    async with market.venue(tmp_path, HandClock(NOW)) as venue:
        await venue.deposit(3, provider)
        await venue.stake(3, provider)
        client: Any = Accuser(venue, STRANGER)
        one, two = (receipt_of(venue.domain, SESSION, rows=rows) for rows in (13, 14))
        proof = DoubleReceipt(venue=venue.verifier_key, session=SESSION, first=one, second=two)
        with pytest.raises(RuleError) as unknown:
            await accuse(client, proof)
        assert unknown.value.code == "unknown-session"
        await venue.open(SESSION, CLIENT)
        with pytest.raises(ConfigurationError):
            await accuse(client, DoubleReceipt(venue="evm:1:0x" + "11" * 20, session=SESSION, first=one, second=two))
        with pytest.raises(MalformedError):
            await accuse(client, DoubleReceipt(venue=venue.verifier_key, session=SESSION, first=one, second=one))
        done = await accuse(client, proof)
        assert (done.accused, done.reward, done.burned) == (provider.address, 1, 2)
        assert (await venue.account(provider.address)).bond == 0
        assert (await venue.account(STRANGER.address)).free == 1
        assert market.settlement.ask("burned") == (2,)
        with pytest.raises(RuleError) as again:
            await venue.slash(SESSION, accuse_leg(two, one), STRANGER)
        assert again.value.code == "nothing-staked"


async def test_two_histories_of_a_ledger_cost_its_operators_stake_on_a_chain(
    market: ChainMarket, tmp_path: Path
) -> None:
    """With the very lines that a ledger's checkpoints carry: its own writer could leave the proof out."""
    operator, log = PROVIDERS[1], NoteKey("ledger.example/forked", b"\x05" * 32)
    ledger = ledger_domain(str(log.verifier))
    market.endow(operator, MILLION)

    def note(root: int, *keys: SigningKey) -> bytes:
        checkpoint = Checkpoint(log.verifier.name, 5, bytes([root]) * 32)
        return sign_checkpoint(checkpoint, log, *(operator_line(ledger, checkpoint, key) for key in keys))

    def proof(older: bytes, newer: bytes) -> ForkProof:
        key = str(log.verifier)
        return ForkProof(verifier_key=key, older=older, newer=newer, root=b"\2" * 32, consistency=())

    async with market.venue(tmp_path, HandClock(NOW)) as venue:
        await venue.deposit(MILLION, operator)
        await venue.stake(MILLION, operator)
        client: Any = Accuser(venue, STRANGER)
        elsewhere = (checkpoint_of(venue.domain, operator, root=bytes([root]) * 32) for root in (1, 2))
        with pytest.raises(RuleError) as unsigned:
            await venue.equivocation(accuse_operator(ledger, *elsewhere), STRANGER)
        assert unsigned.value.code == "bad-signature"
        for older in (note(1), note(1, STRANGER)):
            with pytest.raises(MalformedError):
                await accuse(client, proof(older, note(2, operator)))
        done = await accuse(client, proof(note(1, operator), note(2, STRANGER, operator)))
        assert (done.accused, done.reward, done.burned) == (operator.address, MILLION // 2, MILLION // 2)
        assert (await venue.account(operator.address)).bond == 0
        assert (await venue.account(STRANGER.address)).free == MILLION // 2
