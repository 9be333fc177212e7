"""Where a machine may stand: ISO 3166-1 alpha-2 codes, and names for groups of them that law uses.

An operator who does not say where offers `UNDECLARED`, which no policy can name: it is in no list of allowed places,
and where anything is denied nobody can tell that it is elsewhere.
"""

from __future__ import annotations

import functools
import re

from protocol.geography.blocs import BLOCS, BLOCS_NOW

__all__ = [
    "COUNTRIES",
    "GROUPS",
    "UNDECLARED",
    "country_of",
    "expand",
    "is_in",
    "is_known",
    "is_place",
    "is_subdivision",
    "may_stand_in",
    "stands_in",
]

COUNTRIES = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO
    JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR
    MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO
    RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV
    TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """.split()  # noqa: SIM905 - a table that people compare with the standard's
)
"""The 249 officially assigned codes."""

UNDECLARED = "ZZ"
"""From the codes that ISO 3166-1 leaves to its users."""

GROUPS = {name: bloc.members for name, bloc in BLOCS[BLOCS_NOW].items()}
"""What blocs stand for by the newest table."""

_SUBDIVISION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")


def is_subdivision(code: str) -> bool:
    """Whether `code` has the form of an ISO 3166-2 code of a known country. Which ones exist changes too often."""
    return _SUBDIVISION.fullmatch(code) is not None and code[:2] in COUNTRIES


def country_of(code: str) -> str:
    """The country of a place: of a country, or of a part of one."""
    return code[:2]


def is_place(code: str) -> bool:
    """Whether a machine can stand in `code`: a country, or a part of one."""
    return code in COUNTRIES or is_subdivision(code)


def is_known(code: str, blocs: str = BLOCS_NOW) -> bool:
    """Whether `code` names a country, a part of one, or a bloc of that table."""
    return is_place(code) or code in BLOCS.get(blocs, ())


def stands_in(codes: tuple[str, ...], country: str, region: str, blocs: str = BLOCS_NOW) -> bool:
    """Whether a machine in `country`, and there in `region` (which may be empty), stands in one of `codes`."""
    named = expand(codes, blocs)
    return country in named or (bool(region) and region in named)


def may_stand_in(codes: tuple[str, ...], country: str, region: str, blocs: str = BLOCS_NOW) -> bool:
    """Whether it cannot be excluded: without a region a machine may be in any part of its country."""
    if stands_in(codes, country, region, blocs):
        return True
    return not region and any(code.startswith(f"{country}-") for code in codes)


@functools.lru_cache(maxsize=256)
def expand(codes: tuple[str, ...], blocs: str = BLOCS_NOW) -> frozenset[str]:
    """The countries and parts of countries that `codes` name, blocs replaced by their members.

    Args:
        blocs: the table that blocs are looked up in (`blocs.BLOCS`).
    """
    table = BLOCS[blocs]
    return frozenset(country for code in codes for country in (table[code].members if code in table else (code,)))


def is_in(code: str, area: str, blocs: str = BLOCS_NOW) -> bool:
    """Whether all of the place `code` lies in `area`: a place itself, or a bloc."""
    return stands_in((area,), country_of(code), code if is_subdivision(code) else "", blocs)
