"""A provider's blocks, where the market says which: how it chose them, and why it goes elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level

__all__ = ["BlocksChosen", "BlocksKept", "BlocksMoving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksChosen(Event):
    """A node that starts has chosen the blocks that the market lacks most."""

    name: ClassVar[str] = "blocks chosen"
    blocks: str
    """``START:END`` that it loads."""
    of: int
    """Blocks of the whole model."""
    offers: int
    """Of this model that it had heard by then."""
    uncovered: int
    """Blocks of the model that nobody held."""
    scarcest: int
    """Supply of the scarcest of the chosen blocks: thousandths of a token per second, by what is asked for it."""

    def sentence(self) -> str:
        if not self.offers:
            return f"chose blocks {self.blocks} of {self.of}: nobody offers this model yet"
        served = f"the scarcest of them is served with {self.scarcest / 1000:g} tokens/s"
        why = served if self.scarcest else "nobody serves some of them"
        return f"chose blocks {self.blocks} of {self.of}: {why} ({self.offers} offers heard)"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksKept(Event):
    """A node looked at the plan, and stays for now."""

    name: ClassVar[str] = "blocks kept"
    level: ClassVar[Level] = Level.DEBUG
    epoch: int
    """Number of the epoch that the plan is of."""
    capacity: int
    """Thousandths of a token per second that the scarcest block of the model is served with."""
    planned: int
    """And after the plan's moves."""
    moves: int
    """Of other nodes, that are due in this epoch."""

    def sentence(self) -> str:
        return (
            f"keeps its blocks: the model is served with {self.capacity / 1000:g} tokens/s, in the best plan with "
            f"{self.planned / 1000:g}; {self.moves} others move"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksMoving(Event):
    """A node leaves its blocks for others: it takes no more orders, ends its jobs, and loads."""

    name: ClassVar[str] = "blocks moving"
    epoch: int
    """Number of the epoch that the plan is of."""
    blocks: str
    """``START:END`` that it leaves."""
    to: str
    """``START:END`` that it will serve."""
    capacity: int
    """Thousandths of a token per second that the scarcest block of the model is served with."""
    planned: int
    """And after all moves of the plan."""
    reload_s: int
    """Seconds that loading took before."""

    def sentence(self) -> str:
        return (
            f"leaves blocks {self.blocks} for {self.to}: the scarcest block of all is served with "
            f"{self.capacity / 1000:g} tokens/s, and in the plan with {self.planned / 1000:g}; "
            f"loading takes about {self.reload_s} s"
        )
