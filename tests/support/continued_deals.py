"""Deals of the small market that go on from others, over nodes of one's choice."""

from __future__ import annotations

import random
from collections.abc import Sequence

from counting_engine import next_token
from small_market import MANIFEST, POLICY, SmallMarket

from node.app.buying.continuing import Earlier
from node.pipeline.buying.job import Deal, make_deal
from protocol.identity.signing import SigningKey, seal
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen
from protocol.session.shaping import Shaping
from protocol.session.terms import Plan, SamplingTerms


def expected_tokens(prompt: Sequence[int], most: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(most):
        tokens.append(next_token(tokens[-1], len(tokens) - 1))
    return tokens[len(prompt) :]


def deal_on(
    market: SmallMarket,
    prompt: Sequence[int],
    most: int = 10,
    *,
    earlier: Earlier | None = None,
    nodes: Sequence[int] = (0, 1, 2),
    standbys: Sequence[int] = (),
    client: SigningKey | None = None,
    window: int = 4,
    chunk: int = 8,
    shaping: Shaping | None = None,
    logprobs: int | None = None,
) -> Deal:
    """A deal over the whole spans of these nodes."""
    route = []
    for number in (*nodes, *standbys):
        node = market.nodes[number]
        offer = node.offer()
        leg = RouteLeg(offer, node.span, price_in=offer.rates.price_in, price_out=offer.rates.price_out)
        route.append(Chosen(leg, seal(offer, node.key)))
    return make_deal(
        route[: len(nodes)],
        standbys=route[len(nodes) :],
        manifest=MANIFEST,
        venue=market.ledger.domain.separator,
        policy=POLICY,
        plan=Plan(prompt=len(prompt), most=most, chunk=chunk, window=window),
        sampling=SamplingTerms(temperature_milli=0, seed=0, shaping=shaping, logprobs=logprobs),
        prompt=prompt,
        client=(client or market.client_key).address,
        expiry=market.now + 600,
        randomness=random.Random(market.now + len(prompt) * 100 + most).randbytes,
        continues=None if earlier is None else earlier.continued_by(prompt),
    )
