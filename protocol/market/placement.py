"""Which blocks of a model nodes should hold, so that its scarcest block is as well served as it can be.

There is no centre: whoever has the same offers computes the same plan, by integers and in an order that does not depend
on how the offers came in. A node that starts joins where the market lacks most (`lightest`). Once an epoch each node
makes the plan (`plan`), and those whose turn it is move (`turn`). An epoch's number seeds the order among equals, so
that the same tie is not broken the same way for ever (docs/spec/market.md, clauses M85 to M89).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocol.market.holders import Holder, Ints, by_demand, capacity, supply

__all__ = [
    "HORIZON_S",
    "Move",
    "Plan",
    "lightest",
    "plan",
    "turn",
]

HORIZON_S = 3_600
"""For so long blocks are expected to be held: what a move brings in this time has to be more than it costs."""
LEAST_GAIN = 40
"""A plan that raises the capacity by less than one part in so many is not worth the noise in what offers say."""
DRAWS = 3
"""Orders that are drawn for one plan."""
EPOCHS = 16
"""For which the same orders are drawn."""
MOST_STEPS = 32
"""Of one search."""
MOST_CELLS = 16_000_000
"""Placements times blocks that are compared for one move of two together; beyond, nodes move one by one."""
MOST_WINDOWS = 400_000
"""Windows times nodes in a market where searches begin anew; and windows that one search looks at, five times over."""


@dataclass(frozen=True, slots=True)
class Move:
    """One node goes elsewhere."""

    node: bytes
    start: int
    """The first block that it holds then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where nodes should be, what it brings and what it costs."""

    moves: tuple[Move, ...]
    """In order of their keys."""
    before: int
    """Thousandths of a token per second that the scarcest block is served with now."""
    after: int
    """And then."""
    cost: int
    """Thousandths of a token that are not served while they load."""

    @property
    def net(self) -> int:
        """Thousandths of a token that are served more while the blocks are held, beyond the cost."""
        return (self.after - self.before) * HORIZON_S - self.cost


def lightest(
    holders: Sequence[Holder], length: int, demand: Sequence[int], *, node: bytes, here: Sequence[int] | None = None
) -> int | None:
    """Where a node that holds `length` blocks should join (clause M87); None where it has no such window.

    Of all windows the one whose scarcest block is scarcest, then its next one, and so on; of equal ones that whose ends
    are ends of others, so that routes need few hops; and of these the node's own key says which, so that nodes that
    start together do not all go to the same place.

    Args:
        here: first blocks of the windows that the node could hold; all of them where None.
    """
    light, ends = supply(holders, demand), {0, len(demand)}
    ends |= {edge for holder in holders for edge in (holder.start, holder.end)}
    windows = range(len(demand) - length + 1) if here is None else here
    if not windows:
        return None

    def scarcity(start: int) -> tuple[list[int], int, bytes]:
        aligned = (start in ends) + (start + length in ends)
        return sorted(map(int, light[start : start + length])), -aligned, _lot(0, node, start)

    return min(windows, key=scarcity)


def plan(holders: Sequence[Holder], demand: Sequence[int], *, epoch: int) -> Plan:
    """Where all of them should be (clause M88): the most that comes of several searches, beyond what moving costs.

    One search begins where they are. The others begin anew with those that may move, placed one by one where they are
    lacking most: the fastest first, then in orders that are drawn for `EPOCHS` epochs, so that the same place is aimed
    at until it is reached. The same holders in any order, the same demand and epoch make the same plan.
    """
    now = sorted(holders, key=lambda each: each.node)
    before = capacity(now, demand)
    best = Plan(moves=(), before=before, after=before, cost=0)
    for begun in _beginnings(now, demand, epoch):
        wanted = _spared(now, _searched(begun, demand, epoch), demand)
        moves = tuple(Move(new.node, new.start) for new, old in zip(wanted, now, strict=True) if new.start != old.start)
        found = Plan(moves=moves, before=before, after=capacity(wanted, demand), cost=_cost(now, moves, demand))
        if found.net > best.net:
            best = found
    return best


def turn(holders: Sequence[Holder], demand: Sequence[int], wanted: Plan) -> tuple[Move, ...]:
    """Those moves of a plan that are made in this epoch (clause M89); none where it is not worth it.

    As many at once as leave half of the capacity, and at least one, the most useful first: the others follow when these
    hold their new blocks.
    """
    if wanted.net <= 0 or (wanted.after - wanted.before) * LEAST_GAIN < wanted.before:
        return ()
    left, now, chosen = list(wanted.moves), list(holders), list[Move]()
    while left:
        best = max(left, key=lambda move: (sorted(supply(_moved(now, (move,)), demand).tolist()), move.node))
        away = {move.node for move in (*chosen, best)}
        if chosen and 2 * capacity([each for each in holders if each.node not in away], demand) < wanted.before:
            break
        chosen.append(best)
        left.remove(best)
        now = _moved(now, (best,))
    return tuple(chosen)


def _beginnings(now: list[Holder], demand: Sequence[int], epoch: int) -> Iterator[list[Holder]]:
    yield now
    movable = list(_movable(now))
    if sum(len(demand) - each.length + 1 for each in movable) * len(movable) > MOST_WINDOWS:
        return  # in a large market moves one by one come as far
    yield _spread(now, sorted(movable, key=lambda each: (-each.rate, each.node)), demand)
    for draw in range(DRAWS):
        number = epoch // EPOCHS * DRAWS + draw
        yield _spread(now, sorted(movable, key=lambda each: _lot(number, each.node, 0)), demand)


def _spread(now: Sequence[Holder], order: Sequence[Holder], demand: Sequence[int]) -> list[Holder]:
    """All of them, those in `order` placed anew, one after the other."""
    placed = [each for each in now if each.reload_s is None]
    for holder in order:
        start = lightest(placed, holder.length, demand, node=holder.node)
        placed.append(holder if start is None else replace(holder, start=start))
    return sorted(placed, key=lambda each: each.node)


def _searched(now: list[Holder], demand: Sequence[int], epoch: int) -> list[Holder]:
    """One move, or two together, as long as the sorted supply of all blocks gets better by it."""
    windows = sum(len(demand) - each.length + 1 for each in _movable(now))
    for _ in range(max(1, min(MOST_STEPS, 5 * MOST_WINDOWS // max(1, windows)))):
        moves = _best(now, demand, epoch)
        if not moves:
            break
        now = _moved(now, moves)
    return now


def _spared(now: Sequence[Holder], wanted: list[Holder], demand: Sequence[int]) -> list[Holder]:
    """The same capacity with fewer moves: whoever can as well stay where it is does."""
    least = capacity(wanted, demand)
    for at, old in enumerate(now):
        stayed = [*wanted[:at], old, *wanted[at + 1 :]]
        if wanted[at] != old and capacity(stayed, demand) >= least:
            wanted = stayed
    return wanted


def _cost(holders: Sequence[Holder], moves: Sequence[Move], demand: Sequence[int]) -> int:
    """What the whole market loses while they load, all at once; at least what they serve themselves."""
    away = {move.node for move in moves}
    moving = [holder for holder in holders if holder.node in away]
    lost = capacity(holders, demand) - capacity([each for each in holders if each.node not in away], demand)
    own = sum(holder.rate * holder.length // len(demand) for holder in moving)
    return max(lost, own) * max((holder.reload_s or 0 for holder in moving), default=0)


def _moved(holders: Sequence[Holder], moves: Sequence[Move]) -> list[Holder]:
    starts = {move.node: move.start for move in moves}
    return [replace(each, start=starts.get(each.node, each.start)) for each in holders]


@dataclass(frozen=True, slots=True)
class _Found:
    """Some placements that differ from what is, and what each would make of the supply."""

    sorted_supply: Ints
    """(rows, blocks) of each placement, the scarcest block first."""
    moves: Callable[[int], tuple[Move, ...]]
    """Of a row."""


def _best(holders: Sequence[Holder], demand: Sequence[int], epoch: int) -> tuple[Move, ...]:
    """The step that improves most; of one node where that is possible, else of two. Empty where there is none."""
    now = np.sort(supply(holders, demand))
    best = _best_of(_singles(holders, demand), now, epoch)
    return best or _best_of(_pairs(holders, demand), now, epoch)


def _best_of(found: Iterator[_Found], now: Ints, epoch: int) -> tuple[Move, ...]:
    best: Ints = now
    moves: tuple[Move, ...] = ()
    for each in found:
        row, rows = _greatest(each.sorted_supply)
        better = _compare(row, best)
        if better < 0 or (better == 0 and not moves):
            continue
        drawn = min((each.moves(int(index)) for index in rows), key=lambda some: _lots(epoch, some))
        if better > 0 or _lots(epoch, drawn) < _lots(epoch, moves):
            best, moves = row, drawn
    return moves


def _singles(holders: Sequence[Holder], demand: Sequence[int]) -> Iterator[_Found]:
    rates = _rates(holders, len(demand))
    for holder in _movable(holders):
        placed = rates - _window(holder, len(demand)) + _everywhere(holder, len(demand))

        def moves(row: int, node: bytes = holder.node) -> tuple[Move, ...]:
            return (Move(node, row),)

        yield _Found(np.sort(by_demand(placed, demand), axis=-1), moves)


def _pairs(holders: Sequence[Holder], demand: Sequence[int]) -> Iterator[_Found]:
    blocks, movable = len(demand), list(_movable(holders))
    rates = _rates(holders, blocks)
    windows = [blocks - holder.length + 1 for holder in movable]
    together = sum(windows[at] * sum(windows[:at]) for at in range(len(movable)))
    if together * blocks > MOST_CELLS:
        return
    for at, second in enumerate(movable):
        for first in movable[:at]:
            left = rates - _window(first, blocks) - _window(second, blocks)
            placed = left + _everywhere(first, blocks)[:, None, :] + _everywhere(second, blocks)[None, :, :]
            rows = placed.reshape(-1, blocks)
            across = blocks - second.length + 1

            def moves(row: int, one: Holder = first, two: Holder = second, across: int = across) -> tuple[Move, ...]:
                both = Move(one.node, row // across), Move(two.node, row % across)
                return tuple(move for move, was in zip(both, (one, two), strict=True) if move.start != was.start)

            yield _Found(np.sort(by_demand(rows, demand), axis=-1), moves)


def _movable(holders: Sequence[Holder]) -> Iterator[Holder]:
    return (holder for holder in holders if holder.reload_s is not None)


def _rates(holders: Sequence[Holder], blocks: int) -> Ints:
    rates = np.zeros(blocks, dtype=np.int64)
    for holder in holders:
        rates[holder.start : holder.end] += holder.rate
    return rates


def _window(holder: Holder, blocks: int) -> Ints:
    rates = np.zeros(blocks, dtype=np.int64)
    rates[holder.start : holder.end] = holder.rate
    return rates


def _everywhere(holder: Holder, blocks: int) -> Ints:
    """(windows, blocks) what it would serve of each block, in each of its windows."""
    starts = np.arange(blocks - holder.length + 1)[:, None]
    at = np.arange(blocks)[None, :]
    inside: Ints = ((at >= starts) & (at < starts + holder.length)) * np.int64(holder.rate)
    return inside


def _greatest(rows: Ints) -> tuple[Ints, Ints]:
    """The lexicographically greatest row, and where it stands."""
    left = np.arange(len(rows))
    for column in range(rows.shape[1]):
        values = rows[left, column]
        left = left[values == values.max()]
        if len(left) == 1:
            break
    return rows[left[0]], left


def _compare(one: Ints, other: Ints) -> int:
    """Above 0 where the first is lexicographically greater, below 0 where the second is."""
    differing = np.flatnonzero(one != other)
    return 0 if not len(differing) else int(np.sign(one[differing[0]] - other[differing[0]]))


def _lots(epoch: int, moves: Sequence[Move]) -> list[bytes]:
    return [_lot(epoch, move.node, move.start) for move in moves]


def _lot(epoch: int, node: bytes, start: int) -> bytes:
    """Drawn for everybody alike."""
    return hashlib.sha256(b"placement" + epoch.to_bytes(8, "big") + start.to_bytes(4, "big") + node).digest()
