"""A whole log as a folder of files, as C2SP has them: it verifies alone, and any web server can serve it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from node.durable import replace_file
from node.ledger.log_source import HttpLog, LogSource, StoreLog
from node.ledger.schema import url_of_database
from node.ledger.store import Store
from node.ledger.verify import Progress, Report, verify_log
from protocol.errors import ConfigurationError, DishonestError, MalformedError, PeerError
from protocol.log.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from protocol.log.merkle import HASH_BYTES
from protocol.log.note import MAX_NOTE_BYTES, VerifierKey, parse_note
from protocol.log.tiles import MAX_TILE_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, decode_bundle, encode_bundle, tile_path

__all__ = ["FolderLog", "export_database", "export_log", "export_url", "verify_folder"]

_AT_ONCE = 8
_MAX_ENTRY_BYTES = 2 + 0xFFFF


class FolderLog:
    """A log that was exported."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def checkpoint(self) -> bytes:
        return _read(self._folder, "checkpoint", MAX_NOTE_BYTES)

    async def tile(self, tile: Tile) -> bytes:
        content = _read(self._folder, tile_path(tile), HASH_BYTES * tile.width)
        if len(content) != HASH_BYTES * tile.width:
            raise MalformedError(f"{tile_path(tile)} does not have {tile.width} hashes")
        return content

    async def bundle(self, tile: Tile) -> list[bytes]:
        return decode_bundle(_read(self._folder, tile_path(tile), _MAX_ENTRY_BYTES * tile.width), tile.width)


def _read(folder: Path, name: str, limit: int) -> bytes:
    try:
        with (folder / name).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise MalformedError(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise MalformedError(f"{name} is too long")
    return content


async def export_log(
    source: LogSource, folder: Path, *, verifier_key: str | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Write a log up to its newest checkpoint, which is written last; what an earlier export has is kept.

    What comes is not verified but for the checkpoint's signature, where the key is given: `verify` does the rest, at
    any time and without the ledger.

    Raises:
        ConfigurationError: the folder cannot be written, or holds another log or a longer one.
        PeerError: the log cannot be read, or its checkpoint is not signed by the key.
    """
    note = await source.checkpoint()
    found = parse_checkpoint(parse_note(note).text)
    if verifier_key is not None:
        found = open_checkpoint(note, VerifierKey.parse(verifier_key))
    size, kept = found.size, _kept(folder, found)
    tiles = [each for each in _files(size) if each.width < TILE_WIDTH or _end(each) > kept]
    for begin in range(0, len(tiles), _AT_ONCE):
        await asyncio.gather(*(_fetch(source, folder, each) for each in tiles[begin : begin + _AT_ONCE]))
        if progress is not None:
            progress(min(begin + _AT_ONCE, len(tiles)), len(tiles))
    _finish(folder, note)
    return found


def _finish(folder: Path, note: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "checkpoint", note)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _kept(folder: Path, new: Checkpoint) -> int:
    """How many entries an earlier export has. Raises ConfigurationError where it is of another log."""
    if not (folder / "checkpoint").exists():
        return 0
    try:
        old = parse_checkpoint(parse_note(_read(folder, "checkpoint", MAX_NOTE_BYTES)).text)
        if old.origin != new.origin or old.size > new.size:
            raise DishonestError(f"it has {old.size} entries of {old.origin}, and this is {new}")
    except PeerError as error:
        raise ConfigurationError(
            f"{folder} holds another log, or more of this one: {error.message}", hint="export into another folder"
        ) from None
    return old.size


def _files(size: int) -> Iterator[Tile]:
    """Every tile and bundle of a log, by name."""
    yield from _row(None, size)
    for level in range(MAX_TILE_LEVEL + 1):
        yield from _row(level, size >> (TILE_HEIGHT * level))


def _row(level: int | None, count: int) -> Iterator[Tile]:
    full, rest = divmod(count, TILE_WIDTH)
    yield from (Tile(level, index) for index in range(full))
    if rest:
        yield Tile(level, full, rest)


def _end(tile: Tile) -> int:
    """How many entries a log has at least, to have all of a full tile."""
    return (tile.index + 1) * TILE_WIDTH << (TILE_HEIGHT * (tile.level or 0))


async def _fetch(source: LogSource, folder: Path, tile: Tile) -> None:
    content = encode_bundle(await source.bundle(tile)) if tile.level is None else await source.tile(tile)
    _write(folder, tile, content)


def _write(folder: Path, tile: Tile, content: bytes) -> None:
    path = folder / tile_path(tile)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"cannot write into {folder}: {error.strerror}")


async def verify_folder(
    folder: Path, *, verifier_key: str | None = None, progress: Progress | None = None, processes: int = 1
) -> Report:
    """Verify a log that was exported, without asking anybody."""
    return await verify_log(FolderLog(folder), verifier_key=verifier_key, progress=progress, processes=processes)


async def export_url(
    url: str, folder: Path, *, verifier_key: str | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Export the ledger that serves at `url` (`exported`). Raises as `export_log`, and UnreachableError."""
    source = HttpLog(url)
    try:
        return await export_log(source, folder, verifier_key=verifier_key, progress=progress)
    finally:
        await source.close()


async def export_database(
    database: str | Path, folder: Path, *, verifier_key: str | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Export a ledger in a SQLite file or at a database URL. Raises as `export_log` and `verify_database`."""
    store = Store(url_of_database(database))
    try:
        await store.check_version()
        return await export_log(StoreLog(store), folder, verifier_key=verifier_key, progress=progress)
    finally:
        await store.close()
