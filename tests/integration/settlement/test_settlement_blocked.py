"""A token whose issuer stops it, or blocks an account, in the middle of a session: sessions go on, and money waits."""

from __future__ import annotations

from pathlib import Path

import pytest
from anvil_chain import Chain, why_no_anvil
from chain_venue import make_market
from ledger_world import CLIENT, MILLION, NOW, PROVIDERS, STRANGER, HandClock, discharge_of, make_session, voucher_of

from protocol.errors import RuleError

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]
GRACE_S = 60
CLOCK = HandClock(NOW)


@pytest.mark.parametrize("stopped", ["paused", "contract", "client", "provider"])
async def test_a_token_that_is_stopped_holds_up_nothing_but_its_own_moves(
    chain: Chain, tmp_path: Path, stopped: str
) -> None:
    market = make_market(chain, grace_s=GRACE_S, kind="BlockingToken")
    first, other = PROVIDERS[:2]
    for key in (CLIENT, first, other, STRANGER):
        market.endow(key, 10 * MILLION if key is CLIENT else 0)
    who = {"contract": market.settlement.address, "client": CLIENT.address, "provider": first.address}.get(stopped)

    def stop(value: bool) -> None:
        name, values = ("setPaused", (value,)) if who is None else ("setBlocked", (who, value))
        assert market.token.send(STRANGER.address, name, *values)["status"] == "0x1"

    async with market.venue(tmp_path, CLOCK) as venue:
        await venue.deposit(10 * MILLION, CLIENT)
        one, two = make_session(salt=1), make_session(salt=2)
        await venue.open(one, CLIENT)
        stop(True)
        await venue.open(two, CLIENT)
        await venue.settle([voucher_of(venue.domain, each, 30, 20, 10) for each in (one, two)], first)
        await venue.release([discharge_of(venue.domain, one, leg, 0) for leg in range(3)], CLIENT)
        assert [(await venue.account(key.address)).free for key in (first, other)] == [60, 40]
        for key in {"client": (CLIENT,), "provider": (first,)}.get(stopped, (CLIENT, first, other)):
            before = await venue.account(key.address)
            with pytest.raises(RuleError) as refused:
                await venue.withdraw(1, "0x" + key.address.hex(), key, seen=before)
            assert refused.value.code == "reverted"
            assert (await venue.account(key.address)).free == before.free, "what did not move is still there"
        if stopped in ("client", "provider"):  # what one may not have does not keep the others from theirs
            await venue.withdrawn(40, "", other)
            assert market.tokens_of(other.address) == 40
        stop(False)
        await venue.withdrawn(60, "", first)
        assert market.tokens_of(first.address) == 60
