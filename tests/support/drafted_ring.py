"""A ring of counting engines whose first node drafts, and what it has to answer."""

from __future__ import annotations

from collections.abc import Sequence

from counting_engine import next_token
from small_market import SmallMarket

from node.ports import Drafter


def following(tokens: Sequence[int]) -> int:
    return next_token(tokens[-1], len(tokens) - 1)


def expected_tokens(prompt: Sequence[int], most: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(most):
        tokens.append(following(tokens))
    return tokens[len(prompt) :]


def drafting(market: SmallMarket, drafter: Drafter, *, depth: int = 4) -> SmallMarket:
    """Before it starts: the first node drafts, and all verify."""
    market.nodes[0].drafter = drafter
    for node in market.nodes:
        node.draft_depth = depth
    return market
