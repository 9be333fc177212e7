"""What a client that answers for others may go on from: sequences that providers may still hold, by whose they are.

A caller sends a whole conversation each time. What is written so far is looked for among what was answered before: a
prompt that begins with the very text of one takes its token ids, which an encoding anew need not give, and its session.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from node.app.buying.continuing import Earlier

__all__ = ["Held", "Warm", "without_stop"]

MOST = 2_048
"""Sequences that are remembered; what was answered longest ago is forgotten first."""
MOST_OF_ONE = 64
"""Likewise of one owner and model."""
LEAST_ALIKE = 64
"""Characters that a prompt has to share with one that it does not go on from, to be preferred to beginning anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A sequence that is over, or about to be."""

    written: str
    """The text that it stands for, prompt and answer."""
    ids: tuple[int, ...]
    """Its tokens, without a stop token at the end."""
    earlier: asyncio.Future[Earlier | None]
    """Its session, once that is over; None where nobody holds anything."""


class Warm:
    """Belongs to one event loop. What is taken is gone: providers let one session go on from another once."""

    def __init__(self) -> None:
        self._number = count()
        self._of: dict[tuple[str, bytes], OrderedDict[int, Held]] = {}
        self._oldest: OrderedDict[int, tuple[str, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._oldest)

    def put(self, owner: str, model: bytes, held: Held) -> None:
        """Remember one more."""
        number, place = next(self._number), (owner, model)
        mine = self._of.setdefault(place, OrderedDict())
        mine[number] = held
        self._oldest[number] = place
        if len(mine) > MOST_OF_ONE:
            self._drop(next(iter(mine)), place)
        elif len(self._oldest) > MOST:
            self._drop(*next(iter(self._oldest.items())))

    def take(self, owner: str, model: bytes, written: str) -> Held | None:
        """The one that a prompt's text shares most with; None where that is too little to matter."""
        place = (owner, model)
        best, most = None, 0
        for number, held in self._of.get(place, {}).items():
            same = _same(held.written, written)
            if same > most and (same == len(held.written) or same >= LEAST_ALIKE):
                best, most = number, same
        return None if best is None else self._drop(best, place)

    def _drop(self, number: int, place: tuple[str, bytes]) -> Held:
        mine = self._of[place]
        held = mine.pop(number)
        if not mine:
            del self._of[place]
        del self._oldest[number]
        return held


def _same(one: str, other: str) -> int:
    """Characters that two texts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # comparing texts is quick, comparing characters is not
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def without_stop(tokens: Sequence[int], stop_tokens: Sequence[int]) -> tuple[int, ...]:
    """An answer's tokens without what ended it."""
    kept = list(tokens)
    while kept and kept[-1] in stop_tokens:
        kept.pop()
    return tuple(kept)
