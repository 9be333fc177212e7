"""After many sessions on the same nodes, with all that can go wrong in them, everything is back at zero.

JOULE_SOAK_SESSIONS says how many.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest
from disturbed_market import DisturbedMarket, Trouble, answer

from node.pipeline.serving import pages
from protocol.errors import RefusedError

SESSIONS = int(os.environ.get("JOULE_SOAK_SESSIONS", "60"))
AT_ONCE = 6
PROMPT = (3, 1, 4, 1, 5, 9, 2, 6)

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300 + SESSIONS)]


@pytest.mark.parametrize("room", [1_000_000, 100], ids=["room enough", "more promised than there is"])
async def test_everything_returns_to_zero(tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the sessions where all fit in, and half where they take pages by and by, and give way to one another."""
    monkeypatch.setattr(pages, "LEAST", 2)
    chance = Random(room)
    before = asyncio.all_tasks()
    spans, spares = ((0, 2), (2, 4), (4, 6)), ((0, 6), (0, 6), (2, 4), (0, 4))
    overcommit = 100 if room > 100 else 400
    market = DisturbedMarket(
        tmp_path, chance, clients=AT_ONCE, spans=spans, spares=spares, room=room, overcommit=overcommit
    )
    async with market:
        left = SESSIONS // 2

        async def sessions(number: int) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await session(market, chance, number)

        await asyncio.gather(*(sessions(number) for number in range(AT_ONCE)))
        await market.calm()
        market.check_zero()
        market.check_money()
    await asyncio.sleep(10)
    assert asyncio.all_tasks() == before


async def session(market: DisturbedMarket, chance: Random, number: int) -> None:
    most = chance.randint(1, 24)
    node = chance.randrange(len(market.nodes))
    deal = market.deal(
        PROMPT,
        most,
        window=chance.randint(2, 6),
        chunk=chance.randint(2, 8),
        ahead=chance.randint(1, 4),
        client=market.keys[1 + number],
    )
    kind = chance.choice((None, None, "kill", "mute", "stick", "cut", "leave", "die", "full", "no place", "refuse"))
    troubles = []
    if kind == "refuse":
        market.nodes[node].refuse_all = RefusedError("not now", code="busy")
    elif kind is not None:
        at = {"tokens": chance.randint(0, most), "frames": chance.randint(0, 40)}
        troubles.append(Trouble(kind=kind, node=node, other=chance.randrange(len(market.nodes)), **at))
    outcome = await market.disturbed(deal, troubles, key=market.keys[1 + number])
    assert outcome.tokens == answer(PROMPT, most)[: len(outcome.tokens)]
    await market.mend(node)
