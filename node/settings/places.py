"""Kinds of value of settings that say where: addresses, web pages, ledgers, countries (`node.settings.kinds`)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from node.settings.kinds import items_of, text_of
from node.venue_address import is_venue, parse_venue
from protocol.encoding.codec import shape_of
from protocol.errors import InvalidError
from protocol.geography.jurisdictions import COUNTRIES, GROUPS, UNDECLARED, is_known
from protocol.identity.ids import Name, checksum_address, parse_address

__all__ = ["Country", "Destination", "Jurisdictions", "Multiaddrs", "VenuePlace", "WebAddress"]

_MOST_ADDRESSES = 8
"""Of one ledger."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where money should go: an address, with its checksum, or a line for people."""

    metavar: str = "ADDRESS|TEXT"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        text = text_of(raw)
        try:
            if text.startswith("0x"):
                return checksum_address(parse_address(text))
            shape_of(Name).check(text)
        except InvalidError as error:
            raise ValueError(f"{text!r} is no destination: {error.message}") from None
        if not text:
            raise ValueError("no destination is given")
        return text

    def show(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def describe(self) -> str:
        return "an address, 0x and 40 hex digits, or at most 96 bytes of text"


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An http or https URL, without a trailing slash."""

    metavar: str = "URL"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        text = text_of(raw).rstrip("/")
        try:
            parts = urlsplit(text)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"{raw!r} is not an http or https URL")
        return text

    def show(self, value: Any) -> str:
        return json.dumps(value)

    def describe(self) -> str:
        return "an http or https URL"


@dataclass(frozen=True, slots=True)
class VenuePlace:
    """An http or https URL, several with commas between, or a settlement contract with a node of its chain."""

    metavar: str = "URL|CONTRACT"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        if not (isinstance(raw, str) and is_venue(raw.strip())):
            return self._addresses(raw)
        try:
            return str(parse_venue(text_of(raw)))
        except InvalidError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None

    def _addresses(self, raw: Any) -> str:
        found = tuple(dict.fromkeys(WebAddress().parse(each) for each in items_of(raw)))
        if not 1 <= len(found) <= _MOST_ADDRESSES:
            raise ValueError(f"name 1 to {_MOST_ADDRESSES} addresses of the ledger")
        return ",".join(found)

    def show(self, value: Any) -> str:
        return json.dumps(value)

    def describe(self) -> str:
        return "http or https URLs with commas between: front ends of one ledger; or evm:CHAIN_ID:CONTRACT@URL"


@dataclass(frozen=True, slots=True)
class Multiaddrs:
    """Multiaddrs, such as ``/ip4/203.0.113.7/tcp/4001/p2p/16Uiu2...``."""

    metavar: str = "MULTIADDR"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[str, ...]:
        for item in (items := items_of(raw)):
            if not re.fullmatch(r"(/[^/\s]+)+", item):
                raise ValueError(f"{item!r} is not a multiaddr")
        return tuple(dict.fromkeys(items))

    def show(self, value: Any) -> str:
        return json.dumps(list(value))

    def describe(self) -> str:
        return "multiaddrs: a list in a file, commas in a variable, a repeated flag"


@dataclass(frozen=True, slots=True)
class Country:
    """One country, or the code that declares none."""

    metavar: str = "CODE"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        code = text_of(raw).upper()
        if code not in COUNTRIES and code != UNDECLARED:
            raise ValueError(f"{raw!r} is not a country code")
        return code

    def show(self, value: Any) -> str:
        return json.dumps(value)

    def describe(self) -> str:
        return f"a two-letter country code (ISO 3166-1 alpha-2), or {UNDECLARED}"


@dataclass(frozen=True, slots=True)
class Jurisdictions:
    """Countries, parts of them, and blocs."""

    metavar: str = "CODES"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[str, ...]:
        codes = [item.upper() for item in items_of(raw)]
        for code in codes:
            if not is_known(code):
                raise ValueError(f"{code!r} is neither a country, a part of one, nor a known bloc")
        return tuple(dict.fromkeys(codes))

    def show(self, value: Any) -> str:
        return json.dumps(list(value))

    def describe(self) -> str:
        return f"codes such as DE or DE-BE, or {', '.join(GROUPS)}: a list in a file, commas elsewhere"
