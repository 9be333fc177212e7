"""Signed lists of whom, where and what not to use: sanctions, export controls, statements taken back (clause M75).

Who writes a list signs it; whose lists it obeys a client decides, and says so in its policy by their hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from protocol.encoding.codec import Count, Message, TextSize, message
from protocol.errors import InvalidError
from protocol.geography.blocs import BLOCS_NOW
from protocol.geography.jurisdictions import country_of, is_known, is_subdivision, may_stand_in
from protocol.identity.ids import U40, Address, Name, checksum_address, keccak256, parse_address
from protocol.identity.signing import open_envelope

__all__ = ["MAX_DENIALS", "Denial", "DenialKind", "Denials", "InForce", "OpenDenials", "in_force", "open_denials"]

MAX_DENIALS = 1_000


class DenialKind(StrEnum):
    """What a line of a list is about."""

    OPERATOR = "operator"
    """A provider: ``0x`` and 40 hex digits of its address, small."""
    PLACE = "place"
    """A country, a part of one, or a bloc."""
    HARDWARE = "hardware"
    """A category of machines, or the name of a device, as offers have them."""
    STATEMENT = "statement"
    """A statement that the list's signer takes back: 64 hex digits, small, of the hash of its sealed bytes."""


@message()
class Denial(Message):
    """One line. Raises InvalidError for a value that no offer could ever meet: it would deny nothing."""

    what: DenialKind
    value: Annotated[str, TextSize(96)]

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if not _means_something(self.what, self.value):
            raise InvalidError(f"{self.value!r} is no {self.what}")


def _means_something(what: DenialKind, value: str) -> bool:
    if what is DenialKind.OPERATOR:
        try:
            return value == f"0x{parse_address(value).hex()}"
        except InvalidError:
            return False
    if what is DenialKind.PLACE:
        return is_known(value)
    if what is DenialKind.STATEMENT:
        return len(value) == 64 and set(value) <= set("0123456789abcdef")
    return bool(value)


@message("denials/1")
class Denials(Message):
    """A list, sealed with the key of whoever answers for it."""

    name: Name
    """For people, such as the regulation that it follows."""
    issued_at: U40
    """Unix seconds."""
    effective_from: U40
    """Unix seconds; before that it denies nothing."""
    expires_at: U40
    """Unix seconds; from then on nobody knows whether it still holds, and whoever obeys it needs a newer one."""
    entries: Annotated[tuple[Denial, ...], Count(0, MAX_DENIALS)]


@dataclass(frozen=True, slots=True)
class OpenDenials:
    """A list, opened."""

    denials: Denials
    issuer: Address
    hash: bytes
    """Keccak-256 of it as it is sealed: how a policy names it."""
    sealed: bytes

    def of(self, what: DenialKind) -> frozenset[str]:
        """The values of one kind."""
        return frozenset(each.value for each in self.denials.entries if each.what is what)


def open_denials(sealed: bytes) -> OpenDenials:
    """A sealed list. Whose it should be is for the caller to compare. Raises MalformedError, SignatureError."""
    denials, issuer = open_envelope(sealed, Denials)
    return OpenDenials(denials, issuer, keccak256(sealed), sealed)


@dataclass(frozen=True, slots=True)
class InForce:
    """What several lists deny together."""

    operators: frozenset[str]
    places: tuple[str, ...]
    hardware: frozenset[str]
    revoked: frozenset[tuple[bytes, bytes]]
    """Signer and hash of statements that their signers took back."""

    def found(self, operator: bytes, places: Sequence[str], hardware: Sequence[str], blocs: str = BLOCS_NOW) -> str:
        """What of this is denied, for people; empty where nothing is. A place may be wherever it cannot be excluded."""
        if f"0x{operator.hex()}" in self.operators:
            return checksum_address(operator)
        for place in places:
            if may_stand_in(self.places, country_of(place), place if is_subdivision(place) else "", blocs):
                return place
        return next((f"hardware {each!r}" for each in hardware if each in self.hardware), "")


def in_force(lists: Iterable[OpenDenials], until: int) -> InForce:
    """What these lists deny by `until`, unix seconds."""
    found: Sequence[OpenDenials] = [each for each in lists if each.denials.effective_from <= until]

    def together(what: DenialKind) -> frozenset[str]:
        return frozenset(value for each in found for value in each.of(what))

    taken_back = ((each.issuer, bytes.fromhex(value)) for each in found for value in each.of(DenialKind.STATEMENT))
    return InForce(
        operators=together(DenialKind.OPERATOR),
        places=tuple(sorted(together(DenialKind.PLACE))),
        hardware=together(DenialKind.HARDWARE),
        revoked=frozenset(taken_back),
    )
