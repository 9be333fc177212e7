"""Who may serve a model's first and last blocks, where token ids are seen (docs/spec/market.md, clause M79).

Whom a client trusts with what it writes is its own affair: it stands in no terms, and no leg learns it. It is kept by
what the client routes, and by the blocks for which it lets those stand by whom it does not trust.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.errors import InvalidError
from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer

__all__ = ["TrustedEnds", "opened"]


@dataclass(frozen=True, slots=True)
class TrustedEnds:
    """Some providers, and the blocks that nobody else may serve. Raises InvalidError for less than one block."""

    keys: frozenset[bytes]
    """Public keys of those who are trusted."""
    depth: int = 1
    """So many of the first blocks, and so many of the last."""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise InvalidError(f"{self.depth} first and last blocks; there is one of each at least")

    def between(self, blocks: int) -> tuple[int, int]:
        """The first block that is open to all, and the end of these blocks, of a model of so many; equal for none."""
        start = min(self.depth, blocks)
        return start, max(start, blocks - self.depth)

    def open_to(self, key: bytes, span: BlockSpan, blocks: int) -> BlockSpan | None:
        """What a provider may serve of a span; None where that is nothing.

        Args:
            key: its public key.
            blocks: of the whole model.
        """
        if key in self.keys:
            return span
        first, end = self.between(blocks)
        first, end = max(first, span.start), min(end, span.end)
        return BlockSpan(start=first, end=end) if first < end else None


def opened(ends: TrustedEnds | None, offers: Iterable[Offer], blocks: int) -> list[tuple[Offer, BlockSpan]]:
    """Offers that may be used for anything, each with the blocks that it may be used for.

    Args:
        ends: None where anybody may serve any block.
        blocks: of the whole model.
    """
    if ends is None:
        return [(offer, offer.span) for offer in offers]
    each = ((offer, ends.open_to(offer.public_key, offer.span, blocks)) for offer in offers)
    return [(offer, span) for offer, span in each if span is not None]
