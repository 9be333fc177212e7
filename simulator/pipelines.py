"""Requests that pass several sites, each of which holds some of the model's blocks (X21).

A stage is a run of blocks that the same sites hold. Each stage is a market of its own: a request takes the cheapest
sites of each, and as many are served as pass the narrowest stage, which is the least cut of the network. A site that
serves a part of its blocks is paid, busy and warm for that part.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from simulator.clearing import MeritOrder, Product, Trades
from simulator.demand import Classes
from simulator.exact import Ints
from simulator.population import Population
from simulator.scenario import Settings

__all__ = ["Stage", "clear_pipelines", "stages_of"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks that are held by just these sites."""

    blocks: int
    holds: np.ndarray[Any, np.dtype[np.bool_]]
    """(N,)"""
    held: Ints
    """(N,) blocks that each site holds in all."""


def stages_of(settings: Settings, population: Population) -> list[Stage]:
    """The stages of a model; none where every site holds all of it."""
    most = settings.run.blocks
    spans = [kind.blocks or (0, most) for kind in settings.hardware.values()]
    used = sorted({spans[kind] for kind in np.unique(population.hardware).tolist()})
    if used == [(0, most)]:
        return []
    start = np.array([span[0] for span in spans], dtype=np.int64)[population.hardware]
    end = np.array([span[1] for span in spans], dtype=np.int64)[population.hardware]
    cuts = sorted({0, most, *(edge for span in used for edge in span)})
    return [
        Stage(blocks=high - low, holds=(start <= low) & (end >= high), held=end - start)
        for low, high in itertools.pairwise(cuts)
    ]


def clear_pipelines(
    classes: Classes,
    stages: list[Stage],
    order: list[int],
    want: Ints,
    left_us: Ints,
    merits: dict[Product, MeritOrder],
) -> Trades:
    """Serve `want` (C, E) requests through all stages; takes the time that they need from `left_us` (E, N).

    In `order`, a class takes what is left of each stage. A site's rate holds at each of its blocks by itself.
    """
    free = [np.where(stage.holds, left_us, 0) for stage in stages]
    found: list[tuple[Ints, ...]] = []
    for c in order:
        merit = merits[_product(classes, merits, c)]
        ladders = [_Ladder(classes, stage, c, merit, free[at]) for at, stage in enumerate(stages)]
        flow = np.minimum(want[c], np.min([each.upto[:, -1] for each in ladders], axis=0))
        flow = _within_cap(flow, ladders, int(classes.most_paid[c]))
        for at, (stage, ladder) in enumerate(zip(stages, ladders, strict=True)):
            row, site, some = ladder.take(flow)
            busy = some * classes.busy_us[c, site]
            free[at][row, site] -= busy
            left_us[row, site] -= -(-busy * stage.blocks // stage.held[site])
            full = np.full(len(row), stage.blocks)
            found.append((np.full(len(row), c), row, site, some, np.full(len(row), at), full, stage.held[site]))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return Trades(*columns)


class _Ladder:
    """The sites of one stage from cheapest to dearest."""

    def __init__(self, classes: Classes, stage: Stage, c: int, merit: MeritOrder, free: Ints) -> None:
        may = stage.holds & classes.lawful[c]
        rows = np.arange(len(free))[:, None]
        quote = -(-merit.quote * stage.blocks // stage.held)
        keep = np.flatnonzero(may)
        self._order = keep[np.argsort(quote[:, keep], axis=1, kind="stable")]
        self._room = (
            free[rows, self._order] // classes.busy_us[c][self._order] if keep.size else np.zeros((len(free), 1))
        )
        self._room = self._room.astype(np.int64)
        self._quote = quote[rows, self._order] if keep.size else np.zeros((len(free), 1), dtype=np.int64)
        self.upto = np.cumsum(self._room, axis=1)

    def dearest(self, flow: Ints) -> Ints:
        """(E,) quote of the last site that so many requests (E,) need."""
        at = np.minimum((self.upto < flow[:, None]).sum(axis=1), self._quote.shape[1] - 1)
        return np.asarray(self._quote[np.arange(len(flow)), at])

    def take(self, flow: Ints) -> tuple[Ints, Ints, Ints]:
        """Epochs, sites and requests that serve so many."""
        taken = np.clip(flow[:, None] - (self.upto - self._room), 0, self._room)
        row, column = np.nonzero(taken)
        return row, self._order[row, column], taken[row, column]


def _within_cap(flow: Ints, ladders: list[_Ladder], most: int) -> Ints:
    """(E,) as many requests as the cap pays the dearest site of each stage for."""
    low, high = np.zeros_like(flow), flow + 1
    for _ in range(int(flow.max()).bit_length() + 1):
        middle = (low + high) // 2
        fits = sum(each.dearest(middle) for each in ladders) <= most
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(low > 0, low, 0) if flow.max() > 0 else flow


def _product(classes: Classes, merits: dict[Product, MeritOrder], c: int) -> Product:
    size = int(classes.tokens_in[c]), int(classes.tokens_out[c])
    alike = [product for product in merits if product[:2] == size]
    way = classes.rank_extra[c]
    return next(each for each in alike if np.array_equal(classes.rank_extra[each[2]], way))
