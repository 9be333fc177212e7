"""Rows that wait for their turn or their payment, and what a pass leaves to be sent."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from node.ports import Activations
from protocol.drafting.drafts import ID_BYTES

__all__ = ["Arrived", "Known", "Onward", "Share", "Waiting"]


@dataclass(slots=True)
class Share:
    """What a session has of its leg's attention cache."""

    paged: int = sys.maxsize
    """Positions that it has pages for."""
    gone: bool = False
    """All that it held was given up: it begins anew on the next route."""
    aside: bool = False
    """There is no room for it yet, and its client has not been told."""


class Known(NamedTuple):
    """Generated tokens that stand already: a reroute brings them to the first and the last leg."""

    tokens: tuple[int, ...] = ()
    """From the base on, or from the end of the prompt."""
    said: tuple[bytes, ...] = ()
    """To the last leg: by token, its log probabilities, where the terms ask for them."""


class Onward(NamedTuple):
    """What a pass leaves to be sent: rows to the leg after this one, or tokens that were drawn and stand."""

    position: int
    """Of the first row; where there is none, one past the last."""
    rows: bytes
    """As they go over the wire; empty at the last leg, and where the next one needs none of them."""
    length: int
    certain: int
    """Rows below are of tokens that stand."""
    flight: int
    drafts: bytes
    tokens: tuple[int, ...]
    """Drawn here: the last of them stands at `position`."""
    said: tuple[bytes, ...] = ()
    """By token, its log probabilities, where the terms ask for them."""


class Arrived(NamedTuple):
    """Some rows of one session, in order. Made by `of`."""

    position: int
    """Of the first one."""
    end: int
    """One past the position of the last one."""
    first_draft: int
    """Position of the first row whose token is not certain; one past the last where all are."""
    data: tuple[int, ...] | Activations
    certain: int
    """Rows below are of tokens that stand."""
    flight: int
    drafts: bytes
    """Ids of the tokens of the other rows, each masked by itself."""
    at_us: int

    @classmethod
    def of(
        cls, position: int, data: tuple[int, ...] | Activations, certain: int, flight: int, drafts: bytes, at_us: int
    ) -> Arrived:
        """Rows from a position on."""
        end = position + len(data)
        first_draft = min(max(certain, position), end)
        return cls(position, end, first_draft, data, certain, flight, drafts, at_us)

    def part(self, start: int, end: int) -> Arrived:
        """The rows at positions ``[start, end)``."""
        if start == self.position and end == self.end:
            return self
        first_draft = self.first_draft
        drafts = self.drafts[ID_BYTES * max(0, start - first_draft) : ID_BYTES * max(0, end - first_draft)]
        data = self.data[start - self.position : end - self.position]
        return Arrived.of(start, data, self.certain, self.flight, drafts, self.at_us)


class Waiting:
    """Rows in the order of their positions, without gaps.

    Args:
        arrived: position that comes next.
    """

    def __init__(self, arrived: int = 0) -> None:
        self.arrived = arrived
        """One past the last row that came in."""
        self.first: Arrived | None = None
        """The rows that run next; asked for many times for each."""
        self._queue: deque[Arrived] = deque()

    def put(self, arrived: Arrived) -> None:
        """They begin at `self.arrived`."""
        self._queue.append(arrived)
        self.first, self.arrived = self._queue[0], arrived.end

    def take(self, rows: int) -> Arrived:
        """So many of the first ones."""
        first = self._queue.popleft()
        cut = first.position + rows
        if cut < first.end:
            self._queue.appendleft(first.part(cut, first.end))
        self._look()
        return first.part(first.position, cut)

    def cut(self, position: int) -> None:
        """Forget all from a position on: it comes next."""
        while self._queue and self._queue[-1].end > position:
            last = self._queue.pop()
            if last.position < position:
                self._queue.append(last.part(last.position, position))
        self.arrived = min(self.arrived, position)
        self._look()

    def clear(self) -> None:
        """Forget all that waits; what comes next is not taken in any more."""
        self._queue.clear()
        self._look()

    def _look(self) -> None:
        self.first = self._queue[0] if self._queue else None
