"""Where a demand class may be served: ISO 3166 codes, and groups of countries, by the functions of a node's policy.

A place that is no country, made up for a scenario, is only ever equal to itself: ``"north-land"`` is in no group. What
looks like a code must be one, for a code that nobody knows would let through what a `deny` list was meant to keep out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from protocol.errors import ConfigurationError
from protocol.jurisdictions import (
    COUNTRIES,
    GROUPS,
    UNDECLARED,
    is_known,
    is_subdivision,
    may_stand_in,
    stands_in,
)

__all__ = ["check_list", "check_place", "may_serve"]

_CODE = re.compile(r"[A-Za-z]{2}|[A-Z]{3}|[A-Z]{2}-[A-Z0-9]{1,3}")
_HOW = "a code of ISO 3166, like DE or US-CA, or a made-up name that looks like no code, like north-land"


def may_serve(allow: tuple[str, ...], deny: tuple[str, ...], place: str) -> bool:
    """Whether requests with these lists may be served at `place`, as a policy decides it for a node's offer.

    `deny` is stronger than `allow`, an empty `allow` is everywhere, and where the place is undeclared, any list keeps
    requests away.
    """
    if place == UNDECLARED:
        return not allow and not deny
    return not _may_be_in(deny, place) and (not allow or stands_in(allow, *_country_and_region(place)))


def check_place(place: str, key: str) -> None:
    """Raise `ConfigurationError` unless machines can stand at `place`."""
    if place in GROUPS:
        some = ", ".join(sorted(GROUPS[place])[:3])
        raise ConfigurationError(
            f"{key} = {place!r} is a group of countries", hint=f"name the country: {some}, ...; lists may name groups"
        )
    if not place or (_CODE.fullmatch(place) and not is_known(place) and place != UNDECLARED):
        raise ConfigurationError(f"{key} = {place!r} is not a known code", hint=_HOW)


def check_list(codes: Iterable[str], places: Iterable[str], key: str) -> None:
    """Raise `ConfigurationError` where an `allow` or `deny` list names what is unknown, or none of `places`."""
    known = sorted(set(places))
    for code in codes:
        if _CODE.fullmatch(code) and not is_known(code):
            raise ConfigurationError(
                f"{key} names {code!r}, which is not a known code", hint=f"{_HOW}; groups: {', '.join(sorted(GROUPS))}"
            )
        if not any(_may_be_in((code,), place) for place in known):
            raise ConfigurationError(
                f"{key} names jurisdiction {code!r}, where no region is", hint="known: " + ", ".join(known)
            )


def _may_be_in(codes: tuple[str, ...], place: str) -> bool:
    """Whether machines at `place` cannot be excluded from being in one of `codes`; a made-up place has no parts."""
    where = _country_and_region(place)
    return may_stand_in(codes, *where) if where[0] in COUNTRIES else stands_in(codes, *where)


def _country_and_region(place: str) -> tuple[str, str]:
    return (place[:2], place) if is_subdivision(place) else (place, "")
