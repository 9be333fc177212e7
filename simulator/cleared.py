"""What came of clearing some epochs, and of parts of a day that were cleared one after another."""

from __future__ import annotations

import dataclasses

import numpy as np

from simulator.clearing import Trades
from simulator.exact import Ints
from simulator.sold import Served
from simulator.zones import Worth

__all__ = ["Cleared", "joined"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """Of E epochs."""

    want: Ints
    """(C, E) what was wanted, with what has waited."""
    trades: Trades
    left_us: Ints
    """(E, N) time that sites have left."""
    fixed: Ints | None = None
    """(E,) the price, where one is known."""
    arrived: Ints | None = None
    """(C, E) what came anew, where classes may wait."""
    measured: Served | None = None
    """By the event engine."""


def joined(parts: list[tuple[Cleared, Worth, Ints]]) -> tuple[Cleared, Worth, Ints]:
    """Parts that follow one another, with what capacity was worth and what each trade earned, as one."""
    if len(parts) == 1:
        return parts[0]
    cleared, worths, earned = zip(*parts, strict=True)
    served = [each.measured for each in cleared if each.measured is not None]
    arrived = [each.arrived for each in cleared if each.arrived is not None]
    whole = Cleared(
        want=np.concatenate([each.want for each in cleared], axis=1),
        trades=_trades([each.trades for each in cleared], [each.want.shape[1] for each in cleared]),
        left_us=np.concatenate([each.left_us for each in cleared]),
        arrived=np.concatenate(arrived, axis=1) if arrived else None,
        measured=_served(served) if served else None,
    )
    priced = [_with_fixed(worth, each.fixed) for worth, each in zip(worths, cleared, strict=True)]
    return whole, _worth(priced), np.concatenate(earned)


def _trades(parts: list[Trades], lengths: list[int]) -> Trades:
    starts = np.cumsum([0, *lengths[:-1]])
    moved = [dataclasses.replace(part, epoch=part.epoch + start) for part, start in zip(parts, starts, strict=True)]
    columns: dict[str, Ints] = {}
    for field in dataclasses.fields(Trades):
        column = [getattr(part, field.name) for part in moved]
        if column[0] is not None:
            columns[field.name] = np.concatenate(column)
    return Trades(**columns)


def _served(parts: list[Served]) -> Served:
    want, wait_us, latency_us, late = (
        np.concatenate([getattr(part, name) for part in parts], axis=1)
        for name in ("want", "wait_us", "latency_us", "late")
    )
    busy_us = np.concatenate([part.busy_us for part in parts])
    return Served(want, parts[-1].trades, wait_us, latency_us, late, busy_us)


def _with_fixed(worth: Worth, fixed: Ints | None) -> Worth:
    if fixed is None:
        return worth
    return dataclasses.replace(worth, price=np.broadcast_to(fixed[:, None], worth.price.shape))


def _worth(parts: list[Worth]) -> Worth:
    """Zones differ from part to part: they are as many as in the part with most, and mean nothing any more."""
    most = max(part.scarcity.shape[1] for part in parts)

    def wide(figure: Ints) -> Ints:
        missing = most - figure.shape[-1]
        return np.concatenate([figure, np.zeros((*figure.shape[:-1], missing), dtype=np.int64)], axis=-1)

    return Worth(
        price=np.concatenate([wide(part.price) for part in parts], axis=1),
        short=np.concatenate([part.short for part in parts], axis=1),
        scarcity=np.concatenate([wide(part.scarcity) for part in parts]),
    )
