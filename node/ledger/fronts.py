"""The front ends of one ledger: who serves it beside this process, and where their libp2p hosts are.

They know each other by the database that they share. Each joins the others' hosts, and names them to newcomers, so that
whoever finds one of them finds all, and what one hears by gossip all hear.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, cast, delete, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from node.ledger import schema

__all__ = ["Fronts", "Peers"]

_GONE_MS = 30_000
"""One that was not heard of for so long is no front end any more."""
_MOST_PEERS = 32
"""Multiaddrs in all that are shown."""


class Peers:
    """Multiaddrs of this process's host, then those of the other front ends; read at each use.

    Args:
        own: may be filled later.
    """

    def __init__(self, own: Sequence[str]) -> None:
        self.own = own
        self.others: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter([*self.own, *self.others][:_MOST_PEERS])


@dataclass(frozen=True, slots=True)
class Seen:
    """What the database says of the front ends."""

    writer: str
    """The URL of the one that writes; empty where nobody is known to."""
    peers: tuple[str, ...]
    """Multiaddrs of all others."""


class Fronts:
    """This process among the front ends of a PostgreSQL ledger. Close it after use.

    Args:
        url: the database's.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._engine = schema.make_engine(url, writer=False)
        self._front = secrets.token_hex(8)

    async def close(self) -> None:
        """Be no front end any more, as far as the database can be told."""
        try:
            async with self._engine.begin() as connection:
                await connection.execute(delete(schema.fronts).where(schema.fronts.c.front == self._front))
        except (OSError, SQLAlchemyError):
            pass
        await self._engine.dispose()

    async def meet(self, own: str, peers: Sequence[str], term: int) -> Seen:
        """Say where this one is, and learn of the others. Raises UnreachableError.

        Args:
            own: URL of this one.
            peers: its multiaddrs.
            term: that it writes under; 0 where it does not.
        """
        row = {"front": self._front, "url": own, "peers": "\n".join(peers), "term": term, "seen": _now()}
        insert = postgresql.insert(schema.fronts).values(row)
        fresh = schema.fronts.c.seen > _now() - _GONE_MS
        with schema.reachable(self._url):
            async with self._engine.begin() as connection:
                await connection.execute(insert.on_conflict_do_update(index_elements=["front"], set_=row))
                await connection.execute(delete(schema.fronts).where(~fresh))
                newest = await connection.scalar(select(schema.checkpoint.c.term))
                rows = (await connection.execute(select(schema.fronts).order_by(schema.fronts.c.front))).all()
        others = [each for each in rows if each.front != self._front]
        writer = next((each.url for each in rows if each.term and each.term == newest), "")
        return Seen(writer, tuple(peer for each in others for peer in each.peers.splitlines()))


def _now() -> ColumnElement[int]:
    """Milliseconds of the database's clock, which all of them go by."""
    return cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
