"""What a search for a route ends with: a route, or why there is none; and for each offer why it is not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from protocol.errors import RoutingError
from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer
from protocol.policy.policy import Reason

__all__ = ["MAX_LEGS", "Explained", "Explanations", "NoRouteError", "Route", "RouteLeg"]

Explained = tuple[Offer, Reason]

MAX_LEGS = 16
"""Of a session: its route and its standbys."""


class Explanations(Sequence[Explained]):
    """Offers with the reason why they are not used; sentences are written when they are read."""

    def __init__(self, count: int, explain: Callable[[int], Explained]) -> None:
        self._count = count
        self._explain = explain

    @overload
    def __getitem__(self, at: int) -> Explained: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Explained]: ...
    def __getitem__(self, at: int | slice) -> Explained | Sequence[Explained]:
        numbers = range(self._count)[at]
        return [self._explain(each) for each in numbers] if isinstance(numbers, range) else self._explain(numbers)

    def __iter__(self) -> Iterator[Explained]:
        return map(self._explain, range(self._count))

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]


class NoRouteError(RoutingError):
    """No route. `code` is one of no-offers, unreachable, all-excluded, gap, untrusted, no-corridor, price-cap,
    too-slow, busy, no-route."""

    def __init__(self, message: str, *, code: str, hint: str = "", explanations: Sequence[Explained] = ()) -> None:
        super().__init__(message, code=code, hint=hint)
        self.explanations = explanations
        """Why each offer cannot be used, in the order that the offers came in; those that could be are not here."""


@dataclass(frozen=True, slots=True)
class RouteLeg:
    """One provider's part."""

    offer: Offer
    span: BlockSpan
    """Within the offer's."""
    price_in: int
    """Micro-units per million prompt tokens for these blocks."""
    price_out: int
    """Micro-units per million generated tokens for these blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A chain of legs over all blocks."""

    legs: tuple[RouteLeg, ...]
    price_in: int
    """Micro-units per million prompt tokens, all legs."""
    price_out: int
    """Micro-units per million generated tokens, all legs."""
    latency_us: int
    """Expected microseconds for one token round the ring."""
    gap: int
    """No route within the limits is cheaper by more than this (micro-units per million tokens, time included)."""
    explanations: Sequence[Explained]
    """Why each other offer is not in it, in the order that the offers came in."""
    first_us: int | None = None
    """Microseconds to the first token at most, as far as the offers' own figures go; None where no prompt was named."""
    standbys: tuple[tuple[RouteLeg, ...], ...] = ()
    """For each leg the best offers that could take its place, no provider twice; empty where none were asked for."""
    backups: tuple[Route, ...] = ()
    """The best routes that have no provider of this one, nor of one another; empty where none were asked for."""
