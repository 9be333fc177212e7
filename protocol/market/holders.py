"""Who holds which blocks of a model, how well each block is served by that, and how much it is asked for.

All of it is what offers say, which is their nodes' own word: `holders_of` bounds what one of them can claim
(docs/spec/market.md, clauses M85 and M86).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import numpy as np

from protocol.market.offer import Offer

__all__ = ["EVEN", "Holder", "Ints", "by_demand", "capacity", "holders_of", "priced_demand", "supply"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

MOST_TIMES = 4
"""The median of a model's offers: what one of them says beyond is not believed."""
MOST_RATE = 10**8
"""Thousandths of a token per second; with it sums over all offers of a book stay in 64 bits."""
EVEN = 1_000
"""Demand for a block that is asked for like any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A node in a plan: a window of blocks, as long as its memory is."""

    node: bytes
    """Public key."""
    start: int
    length: int
    """Blocks that it holds."""
    rate: int
    """Thousandths of a token per second through all of them, in a session alone; at least 1."""
    reload_s: int | None
    """How long it takes to hold others instead; None where it stays."""

    @property
    def end(self) -> int:
        """One past its last block."""
        return self.start + self.length


def holders_of(offers: Iterable[Offer], blocks: int) -> list[Holder]:
    """The nodes behind offers of one model, each by its newest offer, in the order of their keys.

    Args:
        blocks: of the model; offers that say another number are passed over.
    """
    newest = _newest(offers, blocks)
    rates = {node: max(1, 10**9 // offer.position_us) for node, offer in newest.items()}
    most = min(MOST_RATE, MOST_TIMES * median_low(rates.values())) if rates else 1
    return [
        Holder(
            node=node,
            start=offer.span.start,
            length=len(offer.span),
            rate=min(rates[node], most),
            reload_s=offer.reload_s,
        )
        for node, offer in sorted(newest.items())
    ]


def _newest(offers: Iterable[Offer], blocks: int) -> dict[bytes, Offer]:
    newest: dict[bytes, Offer] = {}
    for offer in offers:
        known = newest.get(offer.public_key)
        if offer.blocks == blocks and (known is None or known.sequence < offer.sequence):
            newest[offer.public_key] = offer
    return newest


def supply(holders: Sequence[Holder], demand: Sequence[int]) -> Ints:
    """For each block the thousandths of a token per second that its holders serve, by what is asked for it."""
    rates = np.zeros(len(demand), dtype=np.int64)
    for holder in holders:
        rates[holder.start : holder.end] += holder.rate
    return by_demand(rates, demand)


def by_demand(rates: Ints, demand: Sequence[int]) -> Ints:
    """Rates in thousandths of a token per second, by block, by what is asked for each."""
    scaled: Ints = rates * EVEN // np.maximum(1, np.asarray(demand, dtype=np.int64))
    return scaled


def capacity(holders: Sequence[Holder], demand: Sequence[int]) -> int:
    """What the scarcest block is served with: no more can pass through the whole model."""
    return int(supply(holders, demand).min())


def priced_demand(offers: Sequence[Offer], blocks: int) -> list[int]:
    """What is asked for each block, `EVEN` where it is like the others (clause M86).

    Where all offers of a block have no place left it counts twice; where its blocks are dearer than elsewhere, by as
    much, from half to twice. A node that refuses jobs says so in its own offer: it has no place, and asks more.
    """
    by_node = _newest(offers, blocks)
    rates, full, paid = (np.zeros(blocks, dtype=np.int64) for _ in range(3))
    for holder in holders_of(offers, blocks):
        offer, window, weight = by_node[holder.node], slice(holder.start, holder.end), max(1, holder.rate // 1000)
        rates[window] += weight
        full[window] += 0 if offer.limits.sessions else weight
        paid[window] += weight * _price_of_block(offer)
    covered = rates > 0
    if not covered.any():
        return [EVEN] * blocks
    price = paid // np.maximum(1, rates)
    mean = max(1, int(price[covered].sum()) // int(covered.sum()))
    dear = np.clip(price * EVEN // mean, EVEN // 2, 2 * EVEN)
    busy = EVEN + full * EVEN // np.maximum(1, rates)
    asked = np.where(covered, dear * busy // EVEN, EVEN)
    return [int(each) for each in asked]


def _price_of_block(offer: Offer) -> int:
    """Micro-units for a million generated tokens, bounded so that sums stay in 64 bits."""
    return min(offer.rates.price_out // len(offer.span), 1 << 24)
