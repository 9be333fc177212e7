"""What the gateway asks of a market: which models there are, and answers that are planned, read and paid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from node.gateway.saying import Piece
from node.gateway.tools import ToolStyle
from node.gateway.wanted import Wanted

__all__ = ["HERE", "Answer", "Costs", "Market", "OfferedModel"]

HERE = "here"
"""Where an answer was made that no market sold: on the gateway's machine. It has no receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModel:
    """A model that can be asked for, with what the best route costs now."""

    name: str
    root: str
    """What offers name it by, in hex."""
    license: str
    """As its manifest names it; empty where it is not said."""
    precision: str
    places: tuple[str, ...]
    """Where the machines of the route stand, in its order, as their operators say."""
    price_in_micro: int
    """Micro-units per million prompt tokens."""
    price_out_micro: int
    """Micro-units per million generated tokens."""
    millijoules_per_token: int | None
    """For one generated token over all legs, by their offers; None where one of them does not say."""
    heard_at: int
    """When the newest of its offers was made, Unix seconds."""
    market: str
    """Where it is sold, or `HERE`."""
    elsewhere: tuple[OfferedModel, ...] = ()
    """The same at the other markets that have it, the cheapest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one answer came to, once it is over."""

    tokens_in: int
    tokens_held: int
    """Of them, those that providers still held from before."""
    tokens_out: int
    micro: int
    """Micro-units: to providers and to the ledger, what providers may still redeem, the fee of having back the rest."""
    receipts: tuple[Path, ...]
    """Of its sessions, in order."""


class Answer(Protocol):
    """One answer: planned when it is made, and paid as it is read. Used once.

    Iterating gives a piece for each token, with what is said of it where the request asks for that. What ends an
    answer before its time is raised (JoulemeshError), after all that came.
    """

    @property
    def id(self) -> str:
        """Of its receipt: hex digits."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def made(self) -> str:
        """At which market, or `HERE`; known for certain once the first token came."""

    @property
    def tokens_in(self) -> int:
        """Prompt tokens."""

    @property
    def tokens_held(self) -> int:
        """Of them, those that every provider still holds; known once the first token came."""

    @property
    def tokens_out(self) -> int:
        """Generated tokens that came so far."""

    @property
    def reserved_micro(self) -> int:
        """Micro-units: the most that it can cost."""

    @property
    def tool_style(self) -> ToolStyle | None:
        """How its model writes calls of tools; None where none were offered."""

    @property
    def finished(self) -> str:
        """Why it ended: ``stop`` where the model says so, else ``length``."""

    def __aiter__(self) -> AsyncIterator[Piece]: ...

    async def close(self) -> Costs:
        """Stop it where it is not over, pay for what came, and keep the receipt. It takes a moment, and is bounded."""


class Market(Protocol):
    """Where answers come from."""

    async def models(self) -> Sequence[OfferedModel]:
        """Those with a way through all blocks now. Raises JoulemeshError."""

    async def plan(self, wanted: Wanted, *, owner: str) -> Answer:
        """An answer that nothing is paid for yet.

        Args:
            owner: whose it is. Answers go on from what providers hold of the same owner's others, and of no one else's.

        Raises JoulemeshError for all that can be known to stand against it.
        """

    def receipt(self, identity: str) -> Path:
        """Where the receipt of an answer is kept; it need not be there."""
