"""A leg that sheds a class of jobs ends them and no others; their answers go on elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_market import SmallMarket

from node.events import JobFailed
from protocol.policy.policy import LatencyClass

pytestmark = pytest.mark.asyncio
PROMPT = (1, 2, 3, 4, 5)


async def answered(market: SmallMarket, shed: LatencyClass) -> tuple[list[int], tuple[int, ...]]:
    """The tokens of a chat job whose middle leg sheds a class after four of them, and which legs it went on without."""
    tokens: list[int] = []
    async with market.client.start(market.deal(PROMPT, 20)) as job:
        async for token in job:
            tokens.append(token)
            if len(tokens) == 4:
                market.nodes[1].provider.shed(lambda each: each is not shed, "evening peak")
    assert job.result.error is None
    return tokens, tuple(leg for each in job.result.healed for leg in each.gone)


async def test_what_is_shed_goes_on_elsewhere_and_the_rest_stays(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((0, 6),)) as market:
        whole, gone = await answered(market, LatencyClass.BATCH)
        assert gone == ()
        again, gone = await answered(market, LatencyClass.CHAT)
        assert gone == (1,)
        assert again == whole
        (failed,) = market.nodes[1].events_of(JobFailed)
        assert isinstance(failed, JobFailed)
        assert (failed.code, failed.reason) == ("paused", "this node holds back: evening peak")
