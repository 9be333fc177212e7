"""What a person asks a contract for is sent once, wherever the process that was asked dies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import Chain, why_no_anvil
from chain_venue import ChainMarket
from ledger_world import CLIENT, MILLION, NOW, PROVIDERS, HandClock
from rpc_door import door_to

from node.settlement.evm import EvmVenue, Moved
from node.settlement.kept import ChainFile
from node.settlement.sending import Sender
from protocol.errors import RuleError, UnreachableError

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())]
SOMEBODY = PROVIDERS[0]


class Killed(BaseException):
    """Nothing of the process goes on after it."""


BOUNDARIES: tuple[tuple[type, str, bool], ...] = (
    (ChainFile, "put", False),
    (ChainFile, "put", True),
    (Sender, "_hand_in", True),
    (Sender, "_see_through", True),
    (EvmVenue, "_moved", True),
    (ChainFile, "told", False),
)


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

    patch.setattr(owner, name, kept if owner is ChainFile else asked)


async def deposit(market: ChainMarket, folder: Path, **changes: Any) -> Moved:
    """As a process does it."""
    async with market.venue(folder, HandClock(NOW), **changes) as venue:
        moved = await venue.deposit(7, SOMEBODY, once=True)
        venue.told(moved.place, SOMEBODY)
        return moved


async def test_a_deposit_that_is_repeated_after_a_kill_is_sent_once(market: ChainMarket, tmp_path: Path) -> None:
    market.endow(SOMEBODY, MILLION)
    for count, (owner, name, after) in enumerate(BOUNDARIES, 1):
        for is_allowed in (False, True):  # killed at the approval, then at the deposit itself
            with pytest.MonkeyPatch.context() as patch:
                if is_allowed:
                    async with market.venue(tmp_path, HandClock(NOW)) as venue:
                        await venue._allow(await venue.connect(), 7, SOMEBODY)
                kill_at(owner, name, after, patch)
                with pytest.raises(Killed):
                    await deposit(market, tmp_path)
        again = await deposit(market, tmp_path)
        assert again.earlier == (count > 1), (owner, name, after)
        assert again.account.free == 7 * count, (owner, name, after)
        assert market.tokens_of(SOMEBODY.address) == MILLION - 7 * count
    more = await deposit(market, tmp_path)
    assert not more.earlier
    assert more.account.free == 7 * (len(BOUNDARIES) + 1)


async def test_a_block_that_came_while_nobody_waited_is_found(
    market: ChainMarket, chain: Chain, tmp_path: Path
) -> None:
    free = CLIENT.address
    with door_to(chain.url) as door:
        async with market.venue(tmp_path, HandClock(NOW), url=door.url, patience_s=0.3) as venue:
            had = (await venue.account(free)).free
            chain.ask("evm_setAutomine", False)
            with pytest.raises(UnreachableError):
                await venue.stake(5, CLIENT, once=True)
        chain.ask("evm_mine")
        chain.ask("evm_setAutomine", True)
        async with market.venue(tmp_path, HandClock(NOW), url=door.url) as venue:
            moved = await venue.stake(5, CLIENT, once=True)
            assert moved.earlier
            assert (moved.account.free, moved.account.bond) == (had - 5, 5)
            other = await venue.stake(6, CLIENT, once=True)
            assert (other.earlier, other.account.bond) == (False, 11)
            venue.told(moved.place, CLIENT)
            assert (await venue.stake(5, CLIENT, once=True)).account.bond == 16
            with pytest.raises(RuleError):
                await venue.unstake(17, CLIENT, once=True)
            assert (await venue.unstake(16, CLIENT, once=True)).account.bond == 0
