"""What may come on a link, as its peer's sessions begin and end."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from counting_engine import WIDTH
from hand_client import STRANGER as STRANGER_KEY
from hand_client import Hand, expect, send, serves
from small_market import SmallMarket

from node.pipeline.serving import parts
from node.pipeline.serving.parts import CLIENT_BYTES, HEADER_BYTES, LINGER_S, Parts
from node.ports import STRANGER, Allowance, LinkRank
from protocol.errors import LostPeerError
from protocol.identity.signing import SigningKey
from protocol.session.frames import Attach, Failed
from protocol.session.terms import Plan

pytestmark = pytest.mark.asyncio


@pytest.fixture
def _small_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the rows of a narrow model are more than they."""
    monkeypatch.setattr(parts, "CLIENT_BYTES", 64)


class Served:
    """The parts of a leg in the middle of a route, and of a job that it serves."""

    def __init__(self, market: SmallMarket, **plan: int) -> None:
        self.now = 1000.0
        self.parts = Parts(WIDTH, lambda: self.now)
        self.market = market
        self.plan = plan

    async def job(self, node: int = 1) -> object:
        hand = Hand(self.market, **self.plan)
        await hand.accepted(node)
        served = self.market.nodes[node].provider._places.get(hand.session)
        assert served is not None
        return served.job

    def may(self, key: SigningKey) -> Allowance:
        return self.parts.allowance(key.public_key)


@pytest.mark.usefixtures("_small_prompts")
async def test_a_neighbour_may_send_the_rows_of_its_plan_and_a_client_part_of_a_prompt(market: SmallMarket) -> None:
    served = Served(market, most=9, chunk=2, window=64)
    job = await served.job()
    client, before = market.client_key, market.nodes[0].key
    assert served.may(client) == served.may(before) == STRANGER
    served.parts.begin(job)  # type: ignore[arg-type]
    assert served.may(client) == Allowance(HEADER_BYTES, 64, LinkRank.BUSY)
    assert served.may(before) == Allowance(HEADER_BYTES, 64 * 4 * WIDTH, LinkRank.BUSY)
    assert served.may(STRANGER_KEY) == STRANGER


@pytest.mark.usefixtures("_small_prompts")
async def test_what_was_on_its_way_may_still_come_and_then_no_more(market: SmallMarket) -> None:
    served = Served(market, most=9, chunk=2, window=64)
    job = await served.job()
    before = market.nodes[0].key
    served.parts.begin(job)  # type: ignore[arg-type]
    most = served.may(before).payload
    served.parts.end(job)  # type: ignore[arg-type]
    served.now += LINGER_S - 1
    assert served.may(before) == Allowance(HEADER_BYTES, most, LinkRank.KNOWN)
    served.now += 2
    assert served.may(before) == Allowance(STRANGER.header, STRANGER.payload, LinkRank.KNOWN)


@pytest.mark.usefixtures("_small_prompts")
async def test_the_sessions_of_one_neighbour_count_together(market: SmallMarket) -> None:
    served = Served(market, most=9, chunk=2, window=64)
    first, second = await served.job(), await served.job()
    before = market.nodes[0].key
    served.parts.begin(first)  # type: ignore[arg-type]
    one = served.may(before).payload
    served.parts.begin(second)  # type: ignore[arg-type]
    assert served.may(before).payload == 2 * one
    served.parts.end(first)  # type: ignore[arg-type]
    assert served.may(before).rank is LinkRank.BUSY
    served.now += LINGER_S + 1
    assert served.may(before).payload == one


async def test_those_who_were_here_long_ago_are_strangers_again(
    market: SmallMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_KNOWN", 1)
    served = Served(market)
    job = await served.job()
    served.parts.begin(job)  # type: ignore[arg-type]
    served.parts.end(job)  # type: ignore[arg-type]
    known = [served.may(key).rank for key in (market.client_key, market.nodes[0].key)]
    assert sorted(known) == [LinkRank.STRANGER, LinkRank.KNOWN]


async def test_a_provider_knows_its_clients_for_as_long_as_their_jobs_run(market: SmallMarket) -> None:
    key = market.client_key.public_key
    nodes = [node.provider for node in market.nodes]
    assert {provider.allowance(key).rank for provider in nodes} == {LinkRank.STRANGER}
    await Hand(market).accepted()
    assert nodes[0].allowance(key).rank is LinkRank.BUSY
    await serves(market)
    assert nodes[1].allowance(key).rank is LinkRank.KNOWN


async def test_a_client_cannot_send_as_much_as_a_neighbour(market: SmallMarket) -> None:
    """The link ends before the bytes are taken in; its job ends with it."""
    hand = Hand(market)
    link = await hand.accepted()
    await send(link, Attach(session=hand.session), os.urandom(CLIENT_BYTES + 1))
    with pytest.raises(LostPeerError):
        await expect(link, Failed)
    await serves(market)


async def test_a_client_may_name_the_tokens_of_long_windows(market: SmallMarket) -> None:
    """A reroute hands over what stands beyond its base: with windows of thousands, more than a part of a prompt."""
    served, order = Served(market), SimpleNamespace(session=SimpleNamespace(client=market.client_key.address))
    for plan, known in (((9000, 4096, 2), 9000), ((100_000, 4096, 2), 3 * 4096 + 1), ((10**6, 10**6, 8), 1 << 16)):
        named = Plan(prompt=5, most=plan[0], chunk=8, window=plan[1], ahead=plan[2])
        terms = SimpleNamespace(sampling=SimpleNamespace(logprobs=None))
        job = SimpleNamespace(order=order, plan=named, place=None, terms=terms)
        served.parts.begin(job)  # type: ignore[arg-type]
        assert served.may(market.client_key) == Allowance(HEADER_BYTES, 4 * known, LinkRank.BUSY)
        served.parts.end(job)  # type: ignore[arg-type]
