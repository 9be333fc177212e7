"""All accounts and sessions, a page at a time: the ledger's word, which whoever replays the log can check.

Which there are comes from the database, in order of address or id, so a page costs the same however many there are; how
they stand is what the other answers show, too. Something that comes while pages are read may be missed, or push another
one to the next page.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from node.ledger import schema
from node.ledger.published import Published
from node.ledger.rows import AccountRow, SessionRow
from protocol.encoding.strict_json import int_text
from protocol.errors import MalformedError, UnreachableError
from protocol.identity.ids import checksum_address

__all__ = ["ACCOUNTS", "MAX_PAGES", "SESSIONS", "Pages", "page_of"]

ACCOUNTS = 500
"""On a page: some 80 KiB."""
SESSIONS = 100
"""On a page: some 100 KiB, if all have the most legs."""
MAX_PAGES = 4_096
"""Beyond it is nothing to be asked: a log with more is exported."""


class Pages:
    """What of a ledger is durable, page by page. Close it after use."""

    def __init__(self, url: URL, published: Published) -> None:
        self._engine = schema.make_engine(url, writer=False)
        self._published = published

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def accounts(self, page: int) -> list[dict[str, str]]:
        """Texts only; empty after the last page. Raises UnreachableError."""
        keys = await self._keys(schema.accounts.c.address, page, ACCOUNTS)
        rows = map(self._published.account, keys)
        return [_account(row) for row in rows if row is not None]

    async def sessions(self, page: int) -> list[dict[str, Any]]:
        """Texts and lists of texts; empty after the last page. Raises UnreachableError."""
        keys = await self._keys(schema.sessions.c.session, page, SESSIONS)
        rows = [await self._published.session(key) for key in keys]
        return [_session(row) for row in rows if row is not None]

    async def _keys(self, column: Column[Any], page: int, width: int) -> Sequence[bytes]:
        query = select(column).order_by(column).limit(width).offset(page * width)
        try:
            async with self._engine.connect() as connection:
                return [bytes(each) for each in await connection.scalars(query)]
        except (OSError, SQLAlchemyError) as error:
            raise UnreachableError(f"the ledger database does not answer: {error}") from error


def page_of(query: Mapping[str, str]) -> int:
    """The page that a request asks for. Raises MalformedError."""
    page = int_text(query.get("page", "0"))
    if page >= MAX_PAGES:
        raise MalformedError(f"pages are counted from 0 to {MAX_PAGES - 1}")
    return page


def _account(row: AccountRow) -> dict[str, str]:
    said = {each.name: str(getattr(row.account, each.name)) for each in dataclasses.fields(row.account)}
    return {"address": checksum_address(row.address), **said, "entry": str(row.entry)}


def _session(row: SessionRow) -> dict[str, Any]:
    return {
        "session": row.session.hex(),
        "settled": [str(amount) for amount in row.record.settled],
        "ceilings": [str(amount) for amount in row.record.ceilings],
        "opened": str(row.opened),
        "entry": str(row.entry),
    }
