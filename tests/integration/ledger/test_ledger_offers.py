"""Offers over HTTP: pages of the book, by model and by node, and what is asked for that is no page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from ledger_world import OPERATOR, HandClock, ledger_settings

from node.ledger import LedgerClient, RunningLedger, Shown, run_ledger
from node.ledger.offers import OfferPages
from node.ledger.wire import MAX_OFFER_PAGE_BYTES
from protocol.encoding.codec import decode
from protocol.market.catalog import OfferList

pytestmark = pytest.mark.asyncio

MODELS = [bytes([number]) * 32 for number in range(2)]
NODES = [b"\x02" + bytes([number]) * 32 for number in range(3)]


def shown(model: int, node: int, size: int = 500) -> Shown:
    return Shown(MODELS[model], NODES[node], bytes([16 * model + node]) * size)


BOOK = [shown(0, 0), shown(1, 0), shown(0, 1), shown(1, 2)]


@pytest_asyncio.fixture
async def book() -> list[Shown]:
    return list(BOOK)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path, book: list[Shown]) -> AsyncIterator[RunningLedger]:
    async with run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock(), offers=lambda: book) as running:
        yield running


@pytest_asyncio.fixture
async def client(ledger: RunningLedger) -> AsyncIterator[LedgerClient]:
    async with LedgerClient(ledger.url) as found:
        yield found


@pytest.mark.parametrize(
    ("model", "node", "expected"),
    [(None, None, [0, 1, 2, 3]), (0, None, [0, 2]), (None, 0, [0, 1]), (1, 2, [3]), (0, 2, [])],
)
async def test_offers_of_a_model_of_a_node_and_of_both(
    client: LedgerClient, model: int | None, node: int | None, expected: list[int]
) -> None:
    found = await client.offers(None if model is None else MODELS[model], None if node is None else NODES[node])
    assert found == [BOOK[index].sealed for index in expected]


async def test_a_book_of_many_pages_is_read_whole(client: LedgerClient, book: list[Shown]) -> None:
    book[:] = [Shown(MODELS[0], NODES[0], number.to_bytes(4, "big") * 2000) for number in range(100)]
    assert await client.offers() == [each.sealed for each in book]


async def test_a_page_has_a_bound_and_the_one_after_the_last_is_empty(ledger: RunningLedger, book: list[Shown]) -> None:
    book[:] = [shown(0, 0, 8 * 1024) for _ in range(40)]
    pages = []
    async with aiohttp.ClientSession(base_url=ledger.url) as http:
        for number in range(3):
            async with http.get(f"/offers?page={number}") as answer:
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert answer.headers["Cache-Control"] == "no-store"
                pages.append(await answer.read())
    assert [len(decode(page, OfferList, limit=MAX_OFFER_PAGE_BYTES).sealed) for page in pages] == [31, 9, 0]


@pytest.mark.parametrize(
    "query",
    ["page=64", "page=-1", "page=x", "model=00", f"model={'A' * 64}", f"node={'00' * 32}", "who=me", "page=0&page=0"],
)
async def test_what_is_no_page_is_refused(ledger: RunningLedger, query: str) -> None:
    async with aiohttp.ClientSession(base_url=ledger.url) as http, http.get(f"/offers?{query}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "malformed")


async def test_a_ledger_that_shows_no_offers(tmp_path: Path) -> None:
    async with (
        run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        assert await client.offers() == []


async def test_the_book_is_read_once_a_second_however_often_it_is_asked_for() -> None:
    now, reads = [0.0], []
    pages = OfferPages(lambda: reads.append(now[0]) or BOOK, lambda: now[0])  # type: ignore[func-returns-value]
    for time in (0.0, 0.5, 0.99, 1.0, 1.5):
        now[0] = time
        assert decode(pages.page(None, None, 0), OfferList).sealed
    assert reads == [0.0, 1.0]
