"""How settings write what a policy asks of law: corridors, anchors, attestors, points, and lists of others."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from node.settings.kinds import items_of
from protocol.errors import InvalidError
from protocol.geography.distances import Point, point
from protocol.geography.jurisdictions import is_known, is_place
from protocol.identity.ids import Address, checksum_address, parse_address
from protocol.policy.corridors import Corridor
from protocol.policy.trust import MAX_TRUSTED, Anchor

__all__ = [
    "MOST_CARBON",
    "TEN_YEARS_S",
    "Addresses",
    "Anchors",
    "Corridors",
    "Ground",
    "Paths",
    "Place",
    "Places",
    "SignedFiles",
    "Words",
]

TEN_YEARS_S = 10 * 366 * 86_400
MOST_CARBON = 5_000
"""Grams of CO2 per kWh."""
_NUMBER = r"[+-]?\d{1,3}(?:\.\d{1,6})?"
_POINT = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})")
_ANCHOR = re.compile(rf"(0x[0-9A-Fa-f]{{40}})@([A-Z0-9-]+):({_NUMBER}/{_NUMBER}):(\d{{1,4}})km")
_CORRIDOR = re.compile(r"([A-Z0-9-]+)>([A-Z0-9-]+):([a-z0-9-]{1,96}):(\d{4}-\d{2}-\d{2})")


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidError as error:
        raise ValueError(error.message) from None


def _point(text: str) -> Point:
    match = _POINT.fullmatch(text)
    try:
        if match is None:
            raise InvalidError("not two numbers")
        return point(float(match[1]), float(match[2]))
    except InvalidError:
        raise ValueError(f"{text!r} is not degrees north and east, such as 52.52,13.40") from None


class _Many:
    """A list of texts."""

    bounds: ClassVar[str] = ""

    def show(self, value: Any) -> str:
        return json.dumps(list(value), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Place:
    """One country, or a part of one."""

    metavar: str = "CODE"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        (code,) = items_of(raw) or [""]
        if not is_place(code.upper()):
            raise ValueError(f"{raw!r} is neither a country nor a part of one")
        return code.upper()

    def show(self, value: Any) -> str:
        return json.dumps(value)

    def describe(self) -> str:
        return "a code of ISO 3166-1 or 3166-2, such as DE or DE-BE"


@dataclass(frozen=True, slots=True)
class Places(_Many):
    """Several of them."""

    metavar: str = "CODES"

    def parse(self, raw: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(Place().parse(item) for item in items_of(raw)))

    def describe(self) -> str:
        return "codes of ISO 3166-1 or 3166-2: a list in a file, commas elsewhere"


@dataclass(frozen=True, slots=True)
class Words(_Many):
    """Words that must be met exactly."""

    metavar: str = "WORDS"
    what: str = "words"

    def parse(self, raw: Any) -> tuple[str, ...]:
        for item in (items := items_of(raw)):
            if not re.fullmatch(r"[!-~]{1,96}", item):
                raise ValueError(f"{item!r} is no word")
        return tuple(dict.fromkeys(items))

    def describe(self) -> str:
        return f"{self.what}: a list in a file, commas elsewhere"


@dataclass(frozen=True, slots=True)
class Addresses(_Many):
    """Addresses of parties."""

    metavar: str = "ADDRESS"

    def parse(self, raw: Any) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(checksum_address(_address(item)) for item in items_of(raw)))
        if len(found) > MAX_TRUSTED:
            raise ValueError(f"more than {MAX_TRUSTED}")
        return found

    def describe(self) -> str:
        return "addresses, each 0x and 40 hex digits: a list in a file, commas in a variable, a repeated flag"


@dataclass(frozen=True, slots=True)
class Ground:
    """A point on the ground, as a person writes it."""

    metavar: str = "NORTH,EAST"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        text = ",".join(items_of(raw))
        _point(text)
        return text

    @staticmethod
    def point(text: str) -> Point:
        """What was parsed."""
        return _point(text)

    def show(self, value: Any) -> str:
        return json.dumps(value)

    def describe(self) -> str:
        return "degrees north and east, such as 52.52,13.40"


@dataclass(frozen=True, slots=True)
class Anchors(_Many):
    """Machines whose place is known."""

    metavar: str = "ANCHOR"

    def parse(self, raw: Any) -> tuple[str, ...]:
        items = tuple(dict.fromkeys(items_of(raw)))
        if len({self.anchor(item).signer for item in items}) != len(items) or len(items) > MAX_TRUSTED:
            raise ValueError(f"an anchor named twice, or more than {MAX_TRUSTED}")
        return items

    @staticmethod
    def anchor(text: str) -> Anchor:
        """What one item says. Raises ValueError."""
        match = _ANCHOR.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not ADDRESS@PLACE:NORTH/EAST:KMkm")
        where = _point(match[3].replace("/", ","))
        try:
            return Anchor(signer=_address(match[1]), place=match[2], at=where, inside_m=1000 * int(match[4]))
        except InvalidError as error:
            raise ValueError(error.message) from None

    def describe(self) -> str:
        return (
            "anchors as ADDRESS@PLACE:NORTH/EAST:KMkm, such as 0x...@DE:50.11/8.68:100km, where all land within so "
            "many km is that place: a list in a file, commas in a variable, a repeated flag"
        )


@dataclass(frozen=True, slots=True)
class Corridors(_Many):
    """Ways that data may go."""

    metavar: str = "CORRIDOR"

    def parse(self, raw: Any) -> tuple[str, ...]:
        for item in (items := tuple(dict.fromkeys(items_of(raw)))):
            self.corridor(item)
        return items

    @staticmethod
    def corridor(text: str) -> Corridor:
        """What one item says; it ends at the beginning of its last day, UTC. Raises ValueError."""
        match = _CORRIDOR.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not FROM>TO:PURPOSE:YYYY-MM-DD")
        for area in (match[1], match[2]):
            if not is_known(area):
                raise ValueError(f"{area!r} is neither a place nor a bloc")
        try:
            ends = datetime.strptime(match[4], "%Y-%m-%d").replace(tzinfo=UTC)
            return Corridor(source=match[1], to=match[2], purpose=match[3], expires_at=int(ends.timestamp()))
        except (ValueError, InvalidError):
            raise ValueError(f"{match[4]!r} is no day") from None

    def describe(self) -> str:
        return (
            "corridors as FROM>TO:PURPOSE:YYYY-MM-DD, such as EU>EU-ADEQUACY:inference:2027-01-01: a list in a file, "
            "commas in a variable, a repeated flag"
        )


@dataclass(frozen=True, slots=True)
class Paths(_Many):
    """Files; a relative one in a file is meant from the file's folder."""

    metavar: str = "FILE"

    def parse(self, raw: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(items_of(raw)))

    @staticmethod
    def within(value: tuple[str, ...], folder: Path) -> tuple[str, ...]:
        """The same, for a reader in another folder."""
        return tuple(str(folder / Path(item).expanduser()) for item in value)

    def describe(self) -> str:
        return "paths of files: a list in a file, commas in a variable, a repeated flag"


@dataclass(frozen=True, slots=True)
class SignedFiles(_Many):
    """Files, each with the party that must have signed it."""

    metavar: str = "ADDRESS@FILE"

    def parse(self, raw: Any) -> tuple[str, ...]:
        items = tuple(dict.fromkeys(items_of(raw)))
        for item in items:
            self.parts(item)
        return items

    @staticmethod
    def parts(text: str) -> tuple[Address, Path]:
        """Signer and file. Raises ValueError."""
        signer, at, path = text.partition("@")
        if not at or not path:
            raise ValueError(f"{text!r} is not ADDRESS@FILE")
        return _address(signer), Path(path).expanduser()

    @staticmethod
    def within(value: tuple[str, ...], folder: Path) -> tuple[str, ...]:
        """The same, for a reader in another folder."""
        parts = (item.partition("@") for item in value)
        return tuple(f"{signer}@{folder / Path(path).expanduser()}" for signer, _, path in parts)

    def describe(self) -> str:
        return "files as ADDRESS@FILE, by whoever must have signed: a list in a file, commas elsewhere, a repeated flag"
