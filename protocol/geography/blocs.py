"""Names that law uses for several countries, as they stood at a date. A policy says by which table it is to be read.

A table is never changed once it is out: where law changes there is a new one beside it, so that a receipt of last year
means what it meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["BLOCS", "BLOCS_NOW", "Bloc"]


@dataclass(frozen=True, slots=True)
class Bloc:
    """Several countries under one name."""

    members: frozenset[str]
    """ISO 3166-1 alpha-2."""
    source: str
    """What makes them members, for people."""


def _bloc(members: str, source: str) -> Bloc:
    return Bloc(frozenset(members.split()), source)


_EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"

BLOCS_NOW = "2025-01-01"
"""The table that new policies are read by: law as it stood on that day."""

BLOCS = MappingProxyType(
    {
        "2025-01-01": MappingProxyType(
            {
                "EU": _bloc(_EU, "Treaty on European Union, article 52; without the United Kingdom since 2020-02-01"),
                "EEA": _bloc(f"{_EU} IS LI NO", "Agreement on the European Economic Area, articles 2 and 126"),
                "EFTA": _bloc("CH IS LI NO", "Convention establishing the European Free Trade Association"),
                "EU-ADEQUACY": _bloc(
                    "AD AR CA CH FO GB GG IL IM JE JP KR NZ UY",
                    "Commission decisions under Regulation (EU) 2016/679, article 45. In CA for commercial "
                    "organisations; without US, where a decision covers only those who certified themselves",
                ),
                "FIVE-EYES": _bloc("AU CA GB NZ US", "UKUSA Agreement"),
            }
        ),
    }
)
"""By table and name. No machine stands in a bloc: an offer names a country."""
