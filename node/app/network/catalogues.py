"""The catalogues that this machine goes by: one for each publisher that its user trusts to name models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from node.durable import replace_file
from node.signed_files import read_signed, write_signed
from protocol.errors import ConfigurationError, LocalError, ModelError, PeerError
from protocol.identity.ids import Address, ModelManifest, checksum_address
from protocol.models.model_catalogue import CatalogueEntry, OpenCatalogue, open_catalogue, require_newer, require_same

__all__ = ["Catalogues", "require_true"]

FOLDER = "catalogues"
LIES_FILE = "lies"
MAX_LIES = 1024


class Catalogues:
    """Catalogues in a data directory, one file for each publisher.

    Args:
        now: Unix seconds.
    """

    def __init__(self, data_dir: Path, now: int) -> None:
        self._folder = data_dir / FOLDER
        self._now = now

    def add(self, file: Path, publisher: Address) -> OpenCatalogue:
        """Go by a catalogue, in the place of an older one by the same publisher.

        Raises ConfigurationError: it is none, is somebody else's or has expired; StaleError: a newer one is here.
        """
        found = self._open(file)
        if found.publisher != publisher:
            raise ConfigurationError(
                f"{file} is signed by {checksum_address(found.publisher)}, not by {checksum_address(publisher)}",
                hint="ask the publisher for its address by another way than the file came",
            )
        if found.catalogue.expires_at <= self._now:
            raise ConfigurationError(f"{file} has expired", hint="get a newer one from its publisher")
        kept = self._path(publisher)
        if kept.exists():
            require_newer(found, self._open(kept))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LocalError(f"cannot make {self._folder}: {error.strerror}") from None
        write_signed(kept, found.sealed)
        return found

    def remove(self, publisher: Address) -> bool:
        """Go by a publisher no longer; whether there was something to remove."""
        path = self._path(publisher)
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    def all(self) -> Iterator[OpenCatalogue]:
        """Those that are kept, by the publisher's address; ones that have expired, too."""
        if self._folder.is_dir():
            for path in sorted(self._folder.glob("0x*")):
                yield self._open(path)

    def find(self, name: str, precision: str) -> tuple[CatalogueEntry, OpenCatalogue]:
        """What a name means. Raises ModelError: nobody says, or two publishers say different things."""
        current = [each for each in self.all() if each.catalogue.expires_at > self._now]
        named = [(entry, each) for each in current if (entry := each.find(name, precision)) is not None]
        found = [(entry, each) for entry, each in named if entry.root not in self._lies()]
        if not found:
            raise self._unknown(name, precision, lied=bool(named))
        if len({entry.root for entry, _ in found}) > 1:
            by = " and ".join(checksum_address(each.publisher) for _, each in found)
            raise ModelError(
                f"{by} mean different models by {name!r}", hint="name one by its root: `joule model list` shows them"
            )
        return found[0]

    def remember_lie(self, entry: CatalogueEntry) -> None:
        """Never use this entry again."""
        lies = [*self._lies(), entry.root][-MAX_LIES:]
        replace_file(self._folder / LIES_FILE, b"".join(lies))

    def _lies(self) -> list[bytes]:
        try:
            data = (self._folder / LIES_FILE).read_bytes()
        except OSError:
            return []
        return [data[at : at + 32] for at in range(0, len(data) - 31, 32)]

    def _unknown(self, name: str, precision: str, *, lied: bool) -> ModelError:
        if lied:
            return ModelError(
                f"what a catalogue says of {name!r} is a lie, as was found out before",
                hint="tell its publisher, and take its next catalogue: joule model catalogue add",
            )
        current = [each for each in self.all() if each.catalogue.expires_at > self._now]
        entries = [entry for each in current for entry in each.catalogue.entries]
        others = sorted({entry.precision for entry in entries if entry.name == name})
        if others:
            return ModelError(f"{name} is not there in {precision}", hint=f"there is --precision {', '.join(others)}")
        expired = len(current) < len(list(self.all()))
        return ModelError(
            f"there is no model directory {name}, and no catalogue here names it",
            hint=("a catalogue has expired; " if expired else "")
            + "check the path, or add a publisher's catalogue: joule model catalogue add FILE --publisher ADDRESS",
        )

    def _path(self, publisher: Address) -> Path:
        return self._folder / checksum_address(publisher)

    def _open(self, file: Path) -> OpenCatalogue:
        try:
            return open_catalogue(read_signed(file))
        except PeerError as error:
            raise ConfigurationError(f"{file} is no signed catalogue: {error.message}") from None


def require_true(catalogues: Catalogues, entry: CatalogueEntry, manifest: ModelManifest) -> None:
    """Hold an entry against the manifest with its root; a lie is remembered. Raises DishonestError."""
    try:
        require_same(entry, manifest)
    except PeerError:
        catalogues.remember_lie(entry)
        raise
