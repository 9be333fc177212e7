"""A publisher's signed list of models: which root a name means, under which licence (docs/spec/wire.md, clause W15).

A name is worth what the signature under it is worth. Everything else follows from the root: whoever hands out another
manifest, or other weights, is found out by hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from protocol.encoding.codec import Count, Message, TextSize, message
from protocol.errors import DishonestError, InvalidError, StaleError
from protocol.identity.ids import U40, Address, Bytes32, ModelManifest, Name
from protocol.identity.signing import open_envelope

__all__ = ["Catalogue", "CatalogueEntry", "OpenCatalogue", "open_catalogue", "require_newer", "require_same"]

MAX_ENTRIES = 128


@message()
class CatalogueEntry(Message):
    """One model in one precision."""

    name: Name
    """As the model's manifest has it, and as people ask for it."""
    precision: Name
    """As in the manifest: a name may be there once for each."""
    root: Bytes32
    """Model root."""
    license: Name
    """As in the manifest: an SPDX expression, or empty."""
    card: Annotated[str, TextSize(512)]
    """What the model is, in a few sentences or by an address, for people."""
    mirrors: Annotated[tuple[Annotated[str, TextSize(256)], ...], Count(0, 8)]
    """Web addresses under which its files lie, beside their manifest."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if not self.name:
            raise InvalidError("CatalogueEntry.name is empty")


@message("catalogue/1")
class Catalogue(Message):
    """A list of models, sealed with the key of whoever answers for the names."""

    name: Name
    """For people."""
    issued_at: U40
    """Unix seconds."""
    expires_at: U40
    """Unix seconds; from then on a newer one is needed."""
    entries: Annotated[tuple[CatalogueEntry, ...], Count(0, MAX_ENTRIES)]
    """In ascending order of name and precision, each pair once."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        keys = [(entry.name, entry.precision) for entry in self.entries]
        if keys != sorted(set(keys)):
            raise InvalidError("Catalogue.entries: not in ascending order of name and precision, each once")


@dataclass(frozen=True, slots=True)
class OpenCatalogue:
    """A catalogue, opened."""

    catalogue: Catalogue
    publisher: Address
    sealed: bytes

    def find(self, name: str, precision: str) -> CatalogueEntry | None:
        """What a name means here."""
        return next((each for each in self.catalogue.entries if (each.name, each.precision) == (name, precision)), None)


def open_catalogue(sealed: bytes) -> OpenCatalogue:
    """A sealed catalogue. Whose it should be is for the caller to compare. Raises MalformedError, SignatureError."""
    catalogue, publisher = open_envelope(sealed, Catalogue)
    return OpenCatalogue(catalogue, publisher, sealed)


def require_newer(new: OpenCatalogue, old: OpenCatalogue) -> None:
    """Hold a catalogue against the one of the same publisher that it is to replace. Raises StaleError."""
    if new.catalogue.issued_at < old.catalogue.issued_at:
        raise StaleError("the publisher has signed a newer catalogue than this one")


def require_same(entry: CatalogueEntry, manifest: ModelManifest) -> None:
    """Hold what a catalogue says of a root against the manifest with that root. Raises DishonestError."""
    for field in ("name", "precision", "license"):
        if getattr(entry, field) != getattr(manifest, field):
            raise DishonestError(
                f"the catalogue lies about {entry.name!r}: it says {field} {getattr(entry, field)!r}, "
                f"the model itself {getattr(manifest, field)!r}"
            )
