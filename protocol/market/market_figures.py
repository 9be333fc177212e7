"""What a set of offers comes to: capacity of each block, prices by place and class, and how few operators hold it.

All of it is what offers say, by their newest from each key and model. An operator is a key here: who has several keys
looks like several operators, so that concentration is what is seen, or more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TypeVar

from protocol.market.holders import EVEN, holders_of, priced_demand, supply
from protocol.market.offer import Offer
from protocol.units import ceil_div

__all__ = ["Concentration", "MarketFigures", "Prices", "concentration", "figures_of", "market_figures"]

Said = TypeVar("Said", str, int)

SHARES = 10_000
"""A Herfindahl-Hirschman index counts shares in hundredths of a percent of all: one holder alone has 10,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concentration:
    """How a whole is shared out."""

    holders: int
    hhi: int | None
    """Herfindahl-Hirschman index, 0 to 10,000: the sum of squared percent shares; None of nothing."""
    hold_half: int
    """The largest so many hold half of it, or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What some offers ask, as if each were of the whole model: their price by block, times the model's blocks."""

    name: str
    """A place or a class."""
    offers: int
    low_in: int
    """Micro-units per million prompt tokens, the cheapest."""
    median_in: int
    low_out: int
    """Micro-units per million generated tokens, the cheapest."""
    median_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFigures:
    """One model on the market of one ledger."""

    model: bytes
    """Root, 32 bytes."""
    name: str
    """As most of its offers call it."""
    precision: str
    venue: bytes
    """Domain separator of the ledger, 32 bytes."""
    blocks: int
    """As most of its offers say."""
    offers: int
    operators: int
    """Keys; one operator may have several."""
    free_places: int
    """For jobs of clients without history, over all offers."""
    capacity: int
    """What the scarcest block is served with, in a session alone: thousandths of a token per second."""
    supply: tuple[int, ...]
    """The same for each block."""
    demand: tuple[int, ...]
    """What is asked for each block by price and places, 1,000 where it is like the others."""
    uncovered: tuple[int, ...]
    """Blocks that nobody serves: with one of them there is no route."""
    concentration: Concentration
    """Of block-tokens per second among keys."""
    by_place: tuple[Prices, ...]
    """By country, ``ZZ`` where it is not declared."""
    by_class: tuple[Prices, ...]
    """By latency class: offers that could serve it by their compute time alone, if all blocks took as long."""


def concentration(holdings: Iterable[int]) -> Concentration:
    """Of what each holds; those that hold nothing are left out."""
    held = sorted((each for each in holdings if each > 0), reverse=True)
    total = sum(held)
    if not total:
        return Concentration(holders=0, hhi=None, hold_half=0)
    most = count = 0
    while 2 * most < total:
        most += held[count]
        count += 1
    return Concentration(
        holders=len(held), hhi=sum(each * each for each in held) * SHARES // (total * total), hold_half=count
    )


def market_figures(offers: Sequence[Offer], classes: Mapping[str, int]) -> list[MarketFigures]:
    """Of each model and ledger among the offers, the largest by offers first.

    Args:
        classes: most microseconds for one token, by the class's name.
    """
    groups: dict[tuple[bytes, bytes], list[Offer]] = {}
    for offer in offers:
        groups.setdefault((offer.model, offer.venue), []).append(offer)
    found = [figures_of(each, classes) for each in groups.values()]
    return sorted(found, key=lambda each: (-each.offers, each.name, each.model, each.venue))


def figures_of(offers: Sequence[Offer], classes: Mapping[str, int]) -> MarketFigures:
    """Of one model on one ledger; there is at least one offer. Those that say another number of blocks than most do
    are left out.
    """
    blocks, name = _most(offer.blocks for offer in offers), _most(offer.model_name for offer in offers)
    newest = _newest([offer for offer in offers if offer.blocks == blocks])
    holders = holders_of(newest, blocks)
    served = [int(each) for each in supply(holders, [EVEN] * blocks)]
    return MarketFigures(
        model=newest[0].model,
        name=name,
        precision=_most(offer.precision for offer in newest),
        venue=newest[0].venue,
        blocks=blocks,
        offers=len(newest),
        operators=len({offer.public_key for offer in newest}),
        free_places=sum(offer.limits.sessions for offer in newest),
        capacity=min(served),
        supply=tuple(served),
        demand=tuple(priced_demand(newest, blocks)),
        uncovered=tuple(block for block, rate in enumerate(served) if not rate),
        concentration=concentration(holder.rate * holder.length for holder in holders),
        by_place=_prices(newest, lambda offer: [offer.jurisdiction]),
        by_class=_prices(newest, lambda offer: _classes(offer, classes), tuple(classes)),
    )


def _newest(offers: Iterable[Offer]) -> list[Offer]:
    newest: dict[bytes, Offer] = {}
    for offer in offers:
        if offer.public_key not in newest or newest[offer.public_key].sequence < offer.sequence:
            newest[offer.public_key] = offer
    return [newest[key] for key in sorted(newest)]


def _most(values: Iterable[Said]) -> Said:
    counted = Counter(values)
    return max(counted, key=lambda each: (counted[each], str(each)))


def _classes(offer: Offer, classes: Mapping[str, int]) -> list[str]:
    through_all = ceil_div(offer.position_us * offer.blocks, len(offer.span))
    return [name for name, most_us in classes.items() if through_all <= most_us]


def _prices(
    offers: Sequence[Offer], names: Callable[[Offer], Sequence[str]], order: Sequence[str] | None = None
) -> tuple[Prices, ...]:
    groups: dict[str, list[Offer]] = {}
    for offer in offers:
        for name in names(offer):
            groups.setdefault(name, []).append(offer)
    return tuple(_prices_of(name, groups[name]) for name in (order or sorted(groups)) if name in groups)


def _prices_of(name: str, offers: Sequence[Offer]) -> Prices:
    prompt = [ceil_div(offer.rates.price_in * offer.blocks, len(offer.span)) for offer in offers]
    generated = [ceil_div(offer.rates.price_out * offer.blocks, len(offer.span)) for offer in offers]
    return Prices(
        name=name,
        offers=len(offers),
        low_in=min(prompt),
        median_in=median_low(prompt),
        low_out=min(generated),
        median_out=median_low(generated),
    )
