"""Where a log is read from, over HTTP or straight from a database, and proofs made from the tiles that come.

Nothing here is believed: whoever asks for a proof verifies it (`client`, `verify`).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import aiohttp

from node.ledger.addresses import Addresses, Delivery, SilentError
from node.ledger.recent import Recent
from node.ledger.wire import (
    MAX_ANSWER_BYTES,
    MAX_OFFER_PAGE_BYTES,
    MAX_OFFER_PAGES,
    read_object,
    remote_error,
)
from protocol.encoding.codec import decode
from protocol.errors import JoulemeshError, MalformedError, RefusedError
from protocol.log.merkle import HASH_BYTES, HashAt, consistency_proof, inclusion_proof, root_at
from protocol.log.note import MAX_NOTE_BYTES
from protocol.log.tiles import TILE_WIDTH, Tile, TileReader, bundle_of, decode_bundle, tile_path, tiles_for
from protocol.market.catalog import OfferList

if TYPE_CHECKING:
    from node.ledger.store import Store  # a reader over HTTP loads no database library

__all__ = ["HttpLog", "LogReader", "LogSource", "StoreLog"]

_ELSEWHERE_S = 12.0
"""Seconds for an answer where another front end may give it; one with cosignatures takes ten."""
_MAX_ENTRY_BYTES = 2 + 0xFFFF
_CACHED_TILES = 256
_CACHED_BUNDLES = 8

Content = TypeVar("Content")


class LogSource(Protocol):
    """A log as static files."""

    async def checkpoint(self) -> bytes:
        """The newest signed note."""

    async def tile(self, tile: Tile) -> bytes:
        """A hash tile. Raises a PeerError where the log does not have it."""

    async def bundle(self, tile: Tile) -> list[bytes]:
        """The entries of a bundle; fewer where one is missing."""


class StoreLog:
    """A log in a database on this machine."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def checkpoint(self) -> bytes:
        note = await self._store.checkpoint()
        if note is None:
            raise MalformedError("the database holds no checkpoint")
        return note

    async def tile(self, tile: Tile) -> bytes:
        content = await self._store.tile(tile)
        if content is None:
            raise MalformedError(f"{tile_path(tile)} is missing")
        return content

    async def bundle(self, tile: Tile) -> list[bytes]:
        begin = tile.index * TILE_WIDTH
        return await self._store.entries(begin, begin + tile.width)


class HttpLog:
    """A log behind an HTTP address, or those of its front ends with commas between, and the JSON beside it. Close it
    after use.

    Each method raises UnreachableError when nobody answers in time, and the error that the ledger names otherwise.
    """

    def __init__(self, url: str, *, timeout_s: float = 30) -> None:
        self.addresses = Addresses(url)
        self.url = str(self.addresses)
        if len(self.addresses) > 1:
            timeout_s = min(timeout_s, _ELSEWHERE_S)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(5, timeout_s))
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def checkpoint(self) -> bytes:
        return await self._request("GET", "checkpoint", MAX_NOTE_BYTES)

    async def tile(self, tile: Tile) -> bytes:
        return await self._request("GET", tile_path(tile), HASH_BYTES * tile.width)

    async def bundle(self, tile: Tile) -> list[bytes]:
        return decode_bundle(await self._request("GET", tile_path(tile), _MAX_ENTRY_BYTES * tile.width), tile.width)

    async def get_json(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`. Raises MalformedError when it is none."""
        return read_object(await self._request("GET", path, MAX_ANSWER_BYTES))

    async def offers(self, model: bytes | None, node: bytes | None) -> list[bytes]:
        """Sealed offers, page after page, unchecked; none where the ledger shows none."""
        wanted = {"model": model, "node": node}
        query = "".join(f"&{name}={value.hex()}" for name, value in wanted.items() if value is not None)
        found: list[bytes] = []
        for page in range(MAX_OFFER_PAGES):
            try:
                answer = await self._request("GET", f"offers?page={page}{query}", MAX_OFFER_PAGE_BYTES)
            except RefusedError as error:
                if error.code != "http":
                    raise
                break  # no such path
            sealed = decode(answer, OfferList, limit=MAX_OFFER_PAGE_BYTES).sealed
            if not sealed:
                break
            found += sealed
        return found

    async def post(self, path: str, body: bytes, delivery: Delivery | None = None) -> dict[str, Any]:
        """The JSON object that `path` answers `body` with; it may be sent again where there is a `delivery`."""
        return read_object(await self._request("POST", path, MAX_ANSWER_BYTES, body, delivery))

    async def _request(
        self, method: str, path: str, limit: int, body: bytes | None = None, delivery: Delivery | None = None
    ) -> bytes:
        return await self.addresses.ask(method, lambda at: self._ask(at, method, path, limit, body), delivery)

    async def _ask(self, at: str, method: str, path: str, limit: int, body: bytes | None) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, auto_decompress=False, headers={"Accept-Encoding": "gzip"}
            )
        try:
            async with self._session.request(method, f"{at}/{path}", data=body, allow_redirects=False) as response:
                content = await _read(response, limit)
                if response.status != 200:
                    raise _refusal(response.status, content)
                return content
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise SilentError(
                f"the ledger at {at} does not answer ({error or type(error).__name__})",
                hint="is it running? start it with: joule ledger run",
                sent=not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)),
            ) from error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts, total = [], 0
    async for part in response.content.iter_any():
        total += len(part)
        if total > limit:
            response.close()
            raise _too_long(limit)
        parts.append(part)
    content = b"".join(parts)
    return _inflate(content, limit) if response.headers.get("Content-Encoding") == "gzip" else content


def _inflate(content: bytes, limit: int) -> bytes:
    """What gzip packed, which is never unpacked beyond `limit`. Raises MalformedError."""
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = inflater.decompress(content, limit + 1)
    except zlib.error as error:
        raise MalformedError(f"the ledger's answer cannot be unpacked: {error}") from None
    if len(data) > limit:
        raise _too_long(limit)
    if not inflater.eof or inflater.unused_data:
        raise MalformedError("the ledger's answer is not packed as one whole")
    return data


def _too_long(limit: int) -> MalformedError:
    return MalformedError(f"the ledger answered with more than {limit} bytes")


def _refusal(status: int, content: bytes) -> JoulemeshError:
    try:
        return remote_error(status, read_object(content))
    except MalformedError:
        return remote_error(status, None)


class LogReader:
    """Makes proofs from a source's tiles, and remembers the full ones, which never change."""

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._tiles: Recent[Tile, bytes] = Recent(_CACHED_TILES)
        self._bundles: Recent[Tile, list[bytes]] = Recent(_CACHED_BUNDLES)

    def forget(self) -> None:
        """Drop what was remembered: a proof made of it did not hold."""
        self._tiles.clear()
        self._bundles.clear()

    async def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """An inclusion proof, unverified."""
        return await self._prove(size, lambda hash_at: inclusion_proof(index, size, hash_at))

    async def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """A consistency proof, unverified."""
        return await self._prove(new, lambda hash_at: consistency_proof(old, new, hash_at))

    async def root(self, at: int, size: int) -> bytes:
        """What a log of `size` entries says to have been its root at a smaller size, unverified."""
        (root,) = await self._prove(size, lambda hash_at: (root_at(at, hash_at),))
        return root

    async def entry(self, index: int, size: int) -> bytes:
        """The bytes said to be entry `index` of a log of `size` entries."""
        bundle = bundle_of(index, size)
        entries = await _remembering(self._bundles, bundle, self._source.bundle)
        return entries[index % TILE_WIDTH]

    async def _prove(self, size: int, prove: Callable[[HashAt], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        needed = sorted(tiles_for(size, prove))
        read = [_remembering(self._tiles, tile, self._source.tile) for tile in needed]
        contents = await asyncio.gather(*read)
        return prove(TileReader(size, dict(zip(needed, contents, strict=True))).hash_at)


async def _remembering(cache: Recent[Tile, Content], tile: Tile, read: Callable[[Tile], Awaitable[Content]]) -> Content:
    """What `read` gives for a tile; full ones stay in `cache`."""
    content = cache.get(tile)
    if content is None:
        content = await read(tile)
        if tile.width == TILE_WIDTH:
            cache.put(tile, content)
    return content
