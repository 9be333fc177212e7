"""What a client wants of a route besides its policy, and the offers that may be in it as candidates for a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from protocol.energy.tariff import MAX_CARBON_PRICE, MAX_PRICE
from protocol.errors import ConfigurationError
from protocol.identity.ids import BlockSpan
from protocol.market.carbon import carbon_extras
from protocol.policy.ends import TrustedEnds
from protocol.policy.policy import Reason
from protocol.routing.candidates import MAX_LATENCY_WEIGHT, Candidates
from protocol.routing.cells import Bools, Ints
from protocol.routing.columns import Column, Columns
from protocol.routing.judging import Judge
from protocol.routing.ways import Ways

__all__ = ["Wish", "candidates_of", "of_any"]

_MOST_PROMPT_US = 10**10
"""Of any offer: nobody waits hours for a first token."""
_FEW_REGIONS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client prefers, besides what its policy asks. Raises ConfigurationError for what is out of range."""

    latency_weight: int
    """Micro-units per million tokens that a millisecond less per token is worth; 0 for price alone."""
    prompt_milli: int = 500
    """Thousandths of the job's tokens that are prompt; weighs `price_in` against `price_out`."""
    prompt: int = 0
    """Tokens of the prompt; 0 where the time to the first token is not to be limited."""
    standbys: int = 0
    """Offers that are named for each leg to take its place."""
    without: Mapping[bytes, Reason] = field(default_factory=lambda: MappingProxyType({}))
    """Providers that are not used, whatever they offer, by public key."""
    kept: Mapping[bytes, BlockSpan] = field(default_factory=lambda: MappingProxyType({}))
    """By public key: blocks that this provider runs, and nobody else; none overlaps another."""
    backups: int = 0
    """Further routes that share no provider with the best one, nor with one another."""
    most_blocks: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}))
    """By public key: blocks that a leg of a provider may have at most, where that is less than its span."""
    ends: TrustedEnds | None = None
    """Who may serve the first and the last blocks; None for whoever offers them."""
    carbon_price: int = 0
    """Micro-units that a tonne of CO2 equivalent is taken to cost: it counts beside prices, and nobody is paid it."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("latency weight", self.latency_weight, MAX_LATENCY_WEIGHT),
            ("carbon price", self.carbon_price, MAX_CARBON_PRICE),
            ("prompt share", self.prompt_milli, 1000),
        ):
            if not 0 <= value <= most:
                raise ConfigurationError(f"{name} {value} is outside 0 to {most}")


def of_any(columns: Columns, keys: Iterable[bytes]) -> Bools:
    """(rows,) whether an offer is of one of these providers."""
    named = np.zeros(max(1, columns.providers), dtype=bool)
    for key in keys:
        provider = columns.provider(key)
        if provider >= 0:
            named[provider] = True
    of: Bools = named[columns.at(Column.PROVIDER)]
    return of


def candidates_of(judge: Judge, ways: Ways, wish: Wish, usable: Bools) -> tuple[Candidates, Ints]:
    """The offers that may be used as candidates, and their rows.

    Args:
        usable: (rows,) which these are.
    """
    columns = judge.columns
    rows = _in_order(columns, ways, np.flatnonzero(usable))

    def column(which: Column) -> Ints:
        return columns.at(which)[rows]

    kept = [(columns.provider(key), span.start, span.end) for key, span in wish.kept.items()]
    price_in, price_out = _counted(columns, wish, rows)
    candidates = Candidates(
        provider=column(Column.PROVIDER),
        start=column(Column.START),
        end=column(Column.END),
        price_in=price_in,
        price_out=price_out,
        position_us=column(Column.POSITION_US),
        prompt_us=np.minimum(column(Column.PROMPT_US) * min(wish.prompt, 2**24), _MOST_PROMPT_US),
        access_us=ways.access_us[rows],
        region=ways.region[rows],
        between_us=ways.between_us,
        blocks=judge.blocks,
        most=_most(columns, wish, rows, judge.blocks),
        barred=ways.barred,
        kept=np.array(kept, dtype=np.int64) if kept else None,
        opened=_opened(judge, wish.ends, rows),
    )
    return candidates, rows


def _opened(judge: Judge, ends: TrustedEnds | None, rows: Ints) -> tuple[Ints, Ints] | None:
    """First blocks and ends of what each may serve: those who are not trusted what lies between the ends."""
    if ends is None:
        return None
    columns, (first, end) = judge.columns, ends.between(judge.blocks)
    trusted = of_any(columns, ends.keys)[rows]
    starts, stops = columns.at(Column.START)[rows], columns.at(Column.END)[rows]
    starts = np.where(trusted, starts, np.maximum(starts, first))
    return starts, np.maximum(starts, np.where(trusted, stops, np.minimum(stops, end)))


def _counted(columns: Columns, wish: Wish, rows: Ints) -> tuple[Ints, Ints]:
    """Prices of prompt and generated tokens, with what their carbon counts as."""
    prices = columns.at(Column.PRICE_IN)[rows], columns.at(Column.PRICE_OUT)[rows]
    if not wish.carbon_price:
        return prices
    extras = carbon_extras([columns.offer(row) for row in rows.tolist()], wish.carbon_price)
    beside = np.array(extras, dtype=np.int64).reshape(-1, 2)
    return np.minimum(prices[0] + beside[:, 0], MAX_PRICE), np.minimum(prices[1] + beside[:, 1], MAX_PRICE)


def _most(columns: Columns, wish: Wish, rows: Ints, blocks: int) -> Ints | None:
    if not wish.most_blocks:
        return None
    by_provider = np.full(max(1, columns.providers), blocks, dtype=np.int64)
    for key, most in wish.most_blocks.items():
        provider = columns.provider(key)
        if provider >= 0:
            by_provider[provider] = max(1, most)
    most_of: Ints = by_provider[columns.at(Column.PROVIDER)[rows]]
    return most_of if bool((most_of < blocks).any()) else None


def _in_order(columns: Columns, ways: Ways, rows: Ints) -> Ints:
    """Rows by region, then by public key, then by blocks."""
    region, key = ways.region[rows], columns.at(Column.ORDER)[rows]
    if len(ways.between_us) <= _FEW_REGIONS:
        both = (region << 56) | key
        order = both.argsort()
        if bool((both[order][1:] != both[order][:-1]).all()):
            ordered: Ints = rows[order]
            return ordered
    by = np.lexsort((columns.at(Column.END)[rows], columns.at(Column.START)[rows], key, region))
    in_order: Ints = rows[by]
    return in_order
