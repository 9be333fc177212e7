"""What an anchor does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event

__all__ = ["AnchorReady", "Timed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorReady(Event):
    """An anchor times whoever asks."""

    name: ClassVar[str] = "anchor ready"
    anchor: str
    """Address that its statements are signed by."""
    peer: str
    """Multiaddr that nodes name it by."""

    def sentence(self) -> str:
        return f"the anchor {self.anchor} is ready at {self.peer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed(Event):
    """An anchor has timed a node, and signed for it."""

    name: ClassVar[str] = "node timed"
    node: str
    """Its address."""
    us: int
    """Microseconds that it took to answer at best."""

    def sentence(self) -> str:
        return f"{self.node} answered in {self.us / 1000:.3f} ms"
