"""What all events share, and how their values are put for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from node.json_values import ADDRESS_BYTES, plain
from protocol.identity.ids import checksum_address

__all__ = ["Event", "Events", "Level", "dollars", "joules", "short", "unheard"]


class Level(IntEnum):
    """How much an event matters; the numbers are those of Python's `logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40

    @property
    def word(self) -> str:
        """As settings and JSON spell it."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Level:
        """The level that settings spell so."""
        return cls[word.upper()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. Each kind is a class with these two, and with the fields that say more.

    Text in a field may come from a peer: whoever prints a sentence cleans it first.
    """

    name: ClassVar[str]
    """Stable, unique, in lower case: what programs look for."""
    level: ClassVar[Level] = Level.INFO

    def sentence(self) -> str:
        """What happened, for people: one line, ids cut, money in $."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them: addresses with their checksum, all other bytes in hex, nothing cut."""
        fields: dict[str, Any] = plain(self)
        return fields


Events = Callable[[Event], None]
"""Told of what happens, at once and in order; it returns quickly and raises nothing."""


def unheard(_event: Event) -> None:
    """For those who want to hear nothing."""


def short(value: bytes) -> str:
    """The beginning of an address or a hash: enough to tell two of them apart in a log."""
    return checksum_address(value)[:10] if len(value) == ADDRESS_BYTES else value.hex()[:12]


def dollars(micro: int) -> str:
    """Micro-units as people read them: at least two places, and as many as there are."""
    sign, units, rest = ("-" if micro < 0 else ""), *divmod(abs(micro), 1_000_000)
    return f"{sign}${units}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def joules(millijoules: int | None) -> str:
    """Energy as people read it."""
    return "energy not measured" if millijoules is None else f"{millijoules / 1000:.1f} J"
