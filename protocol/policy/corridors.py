"""Where data may go: from where they come, and from leg to leg (docs/spec/market.md, clause M74).

Data stay in a country, go home, or follow a corridor that is open for what they are used for. Corridors are not joined:
what may go from A to B, and from B to C, may not therefore go from A to C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from protocol.encoding.codec import Message, TextSize, message
from protocol.geography.blocs import BLOCS_NOW
from protocol.geography.jurisdictions import UNDECLARED, country_of, is_in
from protocol.identity.ids import U40, Name

__all__ = ["Area", "Corridor", "lawful_hop"]

Area = Annotated[str, TextSize(16)]
"""A country, a part of one, or a bloc (`blocs.BLOCS`)."""


@message()
class Corridor(Message):
    """Leave for data to go from one area to another."""

    source: Area
    to: Area
    purpose: Name
    """What the data may be used for there; it counts for jobs of this very purpose."""
    expires_at: U40
    """Unix seconds; it must last as long as the session."""


def lawful_hop(
    corridors: Sequence[Corridor],
    source: Sequence[str],
    to: Sequence[str],
    *,
    purpose: str,
    home: str,
    until: int,
    blocs: str = BLOCS_NOW,
) -> bool:
    """Whether data may go from machines in all of `source` to machines in all of `to`.

    Args:
        source, to: countries or parts of them; a leg may stand in several.
        home: where the data come from.
        until: unix seconds; a corridor that ends before is none.
        blocs: the table that areas are read by.
    """
    open_now = [each for each in corridors if each.purpose == purpose and each.expires_at >= until]
    return all(_may(open_now, one, other, home, blocs) for one in source for other in to)


def _may(corridors: Sequence[Corridor], source: str, to: str, home: str, blocs: str) -> bool:
    if UNDECLARED in (source, to):
        return False
    if country_of(to) in (country_of(source), country_of(home)):
        return True
    return any(is_in(source, each.source, blocs) and is_in(to, each.to, blocs) for each in corridors)
