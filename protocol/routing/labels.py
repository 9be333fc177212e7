"""Label setting: the cheapest paths within a time through a few cells, each a chain of labels of cost and time.

A label is (place, ring, cost, time, entry, legs, been). The place is a candidate, or the region that was left; a ring
is known by its number among those that are looked at. The cost has the ring's multiplier for what the time is above the
limit: it is a path's own cost where the time is the limit. An entry is how it came into its candidate; `been` has a bit
for each provider that is watched and was a leg already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from protocol.routing.cells import INFINITE, Bools, Ints
from protocol.routing.lattice import PathLeg
from protocol.routing.rings import Rings
from protocol.routing.routes import MAX_LEGS

__all__ = ["MOST_ONCE", "Labels"]

APART = 2**36
"""Microseconds beyond any path's."""
MOST_ONCE = 7
"""Providers that may be watched for coming twice."""
FEW = 48
"""Labels that are not worth looking through for better ones."""
MOST_TRIED = 64
"""Whole paths that are handed out, the cheapest first."""


@dataclass(slots=True)
class Labels:
    """Pushes labels through the rings over some cells, once."""

    rings: Rings
    below: int
    """Only cheaper paths are looked for."""
    most: int
    """Labels that are kept at one block."""
    bits: Ints
    """(N,) a bit for each provider that must not come twice; 0 for those that are not watched."""
    counts_legs: bool
    dropped: int = 4 * INFINITE
    """No path that costs less than this was dropped for want of room."""
    _parents: list[Ints] = field(default_factory=list)
    _entered: list[tuple[int, Ints]] = field(default_factory=list)
    """For each block the number of entries before it, and their candidates."""
    _count: int = 0

    def run(self) -> list[tuple[int, tuple[PathLeg, ...]]]:
        """Paths with their costs, the cheapest first, by their counted times within the limit."""
        rings = self.rings
        inside = hub = np.zeros((7, 0), dtype=np.int64)
        for block in range(rings.costs.cells.blocks):
            left = rings.left(block)
            inside = self._staying(inside, left)
            entering = self._entering(hub, left, block)
            if entering is not None:
                inside = np.concatenate((inside, entering), axis=1)
                inside = self._best(inside[:, self._undominated(inside)], left)
            hub = self._leaving(inside, block)
        whole = hub[2:4] + rings.ways[:, hub[1], hub[0], rings.first[hub[1]]]
        cost = whole[0] - rings.multiplier[hub[1]] * (whole[1] - rings.time_us)
        order = np.flatnonzero((whole[1] <= rings.time_us) & (cost < self.below))
        order = order[np.argsort(cost[order], kind="stable")]
        return [(int(cost[at]), self._legs(int(hub[4, at]))) for at in order[:MOST_TRIED]]

    def _worth(self, spent: Ints, left: Ints) -> Bools:
        """Whether something can come of what costs and takes so much, with so much left at least to the ring's end."""
        whole = spent + left
        kept: Bools = whole[0] < self.below
        kept &= whole[1] <= self.rings.time_us
        return kept

    def _staying(self, inside: Ints, left: Ints) -> Ints:
        """Labels that go on in their candidate, with this block done; less those that are bound to break a limit."""
        if not inside.shape[1]:
            return inside
        place, ring = inside[0], inside[1]
        spent = inside[2:4] + self.rings.block[:, ring, place]
        kept = self._worth(spent, left[:, ring, place])
        stays = inside[:, kept]
        stays[2:4] = spent[:, kept]
        return stays

    def _leaving(self, inside: Ints, block: int) -> Ints:
        """Labels that leave their candidates, at the region that they leave."""
        place, ring = inside[0], inside[1]
        region = self.rings.costs.region[place]
        spent = inside[2:4] + self.rings.access[:, ring, place]
        kept = self._worth(spent, self.rings.left_from_hub(block)[:, ring, region])
        hub = inside[:, kept]
        if self.bits.any():
            hub[6] |= self.bits[hub[0]]
        hub[0], hub[2:4] = region[kept], spent[:, kept]
        return hub[:, self._undominated(hub)] if hub.shape[1] > FEW else hub

    def _entering(self, hub: Ints, left: Ints, block: int) -> Ints | None:
        """Every label that has left some region, in every candidate of this block, with it done; None where none is."""
        rings = self.rings
        who = rings.costs.cells.at(block)
        if block == 0:
            hub = np.zeros((7, rings.count), dtype=np.int64)
            hub[0], hub[1], hub[4] = rings.first, np.arange(rings.count), -1
            hub[2] = -rings.multiplier * rings.time_us
            # A ring begins in its own region, wherever else it goes.
            spent = np.where(rings.first[:, None] == rings.costs.region[who], 0, INFINITE)[None]
        elif hub.shape[1]:
            spent = rings.ways[:, hub[1][:, None], hub[0][:, None], rings.costs.region[who]]
        else:
            self._enter(hub[4], who[:0])
            return None
        ring = hub[1][:, None]
        spent = spent + hub[2:4, :, None] + rings.entering[:, ring, who]
        worth = self._worth(spent, left[:, ring, who])
        if self.counts_legs:
            worth &= (hub[5] < MAX_LEGS)[:, None]
        if self.bits.any():
            worth &= (hub[6][:, None] & self.bits[who]) == 0
        label, place = np.nonzero(worth)
        numbers = self._enter(hub[4][label], who[place])
        if not len(label):
            return None
        entered = hub[:, label]
        entered[0], entered[2:4], entered[4] = who[place], spent[:, label, place], numbers
        entered[5] += 1
        return entered

    def _enter(self, parents: Ints, who: Ints) -> Ints:
        """Note entries; their numbers."""
        self._parents.append(parents)
        self._entered.append((self._count, who))
        numbers = np.arange(self._count, self._count + len(who))
        self._count += len(who)
        return numbers

    def _best(self, inside: Ints, left: Ints) -> Ints:
        """As many as may be kept, by their bounds."""
        if inside.shape[1] <= self.most:
            return inside
        bound = inside[2] + left[0, inside[1], inside[0]]
        order = np.argsort(bound, kind="stable")
        self.dropped = min(self.dropped, int(bound[order[self.most]]))
        return inside[:, np.sort(order[: self.most])]

    def _undominated(self, labels: Ints) -> Ints:
        """Which labels have no other of their place and ring that costs no more and is no later; one of equals."""
        group = labels[0] * self.rings.count + labels[1]
        if self.bits.any():
            group = group * 2**MOST_ONCE + labels[6]
        if self.counts_legs:
            group = group * (MAX_LEGS + 1) + labels[5]
        order = np.lexsort((labels[2] - self.rings.multiplier[labels[1]] * labels[3], group))
        group = group[order]
        new = np.ones(len(order), dtype=np.int64)
        np.not_equal(group[1:], group[:-1], out=new[1:], casting="unsafe")
        # Times of each group lie below all of the groups before: a running minimum begins anew with it.
        times = labels[3][order] - APART * new.cumsum()
        kept = np.ones(len(order), dtype=bool)
        np.less(times[1:], np.minimum.accumulate(times)[:-1], out=kept[1:])
        found = order[kept]
        found.sort()
        return found

    def _legs(self, entry: int) -> tuple[PathLeg, ...]:
        legs: list[PathLeg] = []
        end = block = self.rings.costs.cells.blocks
        while entry >= 0:
            block -= 1
            while self._entered[block][0] > entry:
                block -= 1
            at = entry - self._entered[block][0]
            legs.append((int(self._entered[block][1][at]), block, end))
            entry, end = int(self._parents[block][at]), block
        return tuple(reversed(legs))
