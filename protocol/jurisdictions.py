"""Where a machine may stand: ISO 3166-1 alpha-2 codes, and names for groups of them that law uses.

An operator who does not say where offers `UNDECLARED`, which no policy can name: it is in no list of allowed places,
and where anything is denied nobody can tell that it is elsewhere.
"""

from __future__ import annotations

import functools
import re

__all__ = ["COUNTRIES", "GROUPS", "UNDECLARED", "expand", "is_known", "is_subdivision", "may_stand_in", "stands_in"]

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

_EU = frozenset("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())  # noqa: SIM905

GROUPS = {"EU": _EU, "EEA": _EU | {"IS", "LI", "NO"}}
"""Names that a policy may use for several countries. No machine stands in a group: an offer names a country."""


_SUBDIVISION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")


def is_subdivision(code: str) -> bool:
    """Whether `code` has the form of an ISO 3166-2 code of a known country. Which ones exist changes too often."""
    return _SUBDIVISION.fullmatch(code) is not None and code[:2] in COUNTRIES


def is_known(code: str) -> bool:
    """Whether `code` names a country, a part of one, or a group of them."""
    return code in COUNTRIES or code in GROUPS or is_subdivision(code)


def stands_in(codes: tuple[str, ...], country: str, region: str) -> bool:
    """Whether a machine in `country`, and there in `region` (which may be empty), stands in one of `codes`."""
    named = expand(codes)
    return country in named or (bool(region) and region in named)


def may_stand_in(codes: tuple[str, ...], country: str, region: str) -> bool:
    """Whether it cannot be excluded: without a region a machine may be in any part of its country."""
    return stands_in(codes, country, region) or (not region and any(code.startswith(f"{country}-") for code in codes))


@functools.lru_cache(maxsize=256)
def expand(codes: tuple[str, ...]) -> frozenset[str]:
    """The countries and parts of countries that `codes` name, groups replaced by their members."""
    return frozenset(country for code in codes for country in GROUPS.get(code, (code,)))
