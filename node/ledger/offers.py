"""Offers over HTTP: the book of whoever runs the ledger, for those whom gossip tells nothing (ledger.md, C10).

The same signed bytes as peers hand out. The ledger vouches for none of them: readers check each like one from gossip,
and one that it keeps back they may hear from a peer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import web

from node.ledger.wire import MAX_OFFER_PAGE_BYTES, MAX_OFFER_PAGES
from protocol.encoding.codec import encode
from protocol.encoding.strict_json import int_text
from protocol.errors import MalformedError
from protocol.market.catalog import OfferList

__all__ = ["OfferPages", "Shown"]

_OFFER_OVERHEAD, _LIST_OVERHEAD = 5, 64
"""Bytes around an offer in a list, and around the list."""
_FRESH_S = 1.0
"""What is shown may be so old: the book is read once a second, however often it is asked for."""


class Shown(NamedTuple):
    """An offer as it is shown."""

    model: bytes
    """Model root."""
    node: bytes
    """Public key."""
    sealed: bytes


class OfferPages:
    """Answers ``GET /offers``.

    Args:
        book: the offers in force, newest first.
    """

    def __init__(self, book: Callable[[], Sequence[Shown]], now: Callable[[], float] = time.monotonic) -> None:
        self._book = book
        self._now = now
        self._read_at: float | None = None
        self._all: list[Shown] = []
        self._by_model: dict[bytes, list[Shown]] = {}
        self._by_node: dict[bytes, list[Shown]] = {}

    async def answer(self, request: web.Request) -> web.Response:
        """A page of the offers that the query asks for; an empty one after the last."""
        query = request.query
        if not set(query) <= {"model", "node", "page"} or len(query) != len(set(query)):
            raise MalformedError("offers are asked for by model, node and page, each once at most")
        model, node = _bytes_of(query.get("model"), 32), _bytes_of(query.get("node"), 33)
        page = self.page(model, node, int_text(query.get("page", "0")))
        return web.Response(body=page, content_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    def page(self, model: bytes | None, node: bytes | None, number: int) -> bytes:
        """An encoded `OfferList`."""
        if number >= MAX_OFFER_PAGES:
            raise MalformedError(f"there are {MAX_OFFER_PAGES} pages at most, from 0")
        self._refresh()
        if node is not None:
            found = [each for each in self._by_node.get(node, []) if model in (None, each.model)]
        else:
            found = self._all if model is None else self._by_model.get(model, [])
        pages = _pages(found)
        return encode(OfferList(sealed=tuple(pages[number]) if number < len(pages) else ()))

    def _refresh(self) -> None:
        now = self._now()
        if self._read_at is not None and now - self._read_at < _FRESH_S:
            return
        self._read_at = now
        self._all = list(self._book())
        by_model: defaultdict[bytes, list[Shown]] = defaultdict(list)
        by_node: defaultdict[bytes, list[Shown]] = defaultdict(list)
        for each in self._all:
            by_model[each.model].append(each)
            by_node[each.node].append(each)
        self._by_model, self._by_node = dict(by_model), dict(by_node)


def _pages(offers: Sequence[Shown]) -> list[list[bytes]]:
    pages: list[list[bytes]] = []
    room = 0
    for each in offers:
        size = len(each.sealed) + _OFFER_OVERHEAD
        if size > room:
            pages.append([])
            room = MAX_OFFER_PAGE_BYTES - _LIST_OVERHEAD
        pages[-1].append(each.sealed)
        room -= size
    return pages


def _bytes_of(text: str | None, size: int) -> bytes | None:
    if text is None:
        return None
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or value.hex() != text:
        raise MalformedError(f"write {size} bytes as {2 * size} lower-case hex digits")
    return value
