"""What is kept on disk of a chain: sessions with their marks, and transactions that no final block holds yet.

All of it can be lost: sessions are found again among the chain's events, and the contract takes nothing twice. Kept, a
restart asks less, and goes on with what is under way instead of sending it again. Several processes use one file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.database_file import Connection, DatabaseFile
from protocol.encoding.codec import decode, encode
from protocol.errors import DishonestError, JoulemeshError
from protocol.session.messages import Session, session_id
from protocol.settlement import SessionRecord

__all__ = ["ChainFile", "Pending"]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS chain (genesis BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sessions (contract BLOB NOT NULL, id BLOB NOT NULL, session BLOB NOT NULL,"
    " expiry INTEGER NOT NULL, settled TEXT NOT NULL, ceilings TEXT NOT NULL,"
    " PRIMARY KEY (contract, id))",
    "CREATE TABLE IF NOT EXISTS pending (sender BLOB NOT NULL, nonce INTEGER NOT NULL, target BLOB NOT NULL,"
    " data BLOB NOT NULL, gas INTEGER NOT NULL, tip TEXT NOT NULL, max_fee TEXT NOT NULL, hashes TEXT NOT NULL,"
    " signed BLOB NOT NULL, touched INTEGER NOT NULL, PRIMARY KEY (sender, nonce))",
)
_VERSION = 1
KEPT_S = 90 * 24 * 3600
"""Seconds after a session's expiry for which it is kept: longer than most graces."""
MOST_HASHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A transaction that was signed here."""

    sender: bytes
    nonce: int
    to: bytes
    data: bytes
    gas: int
    tip: int
    max_fee: int
    hashes: tuple[bytes, ...]
    """Of every form that it was sent in, oldest first: the fee may have been raised."""
    signed: bytes
    """The newest form."""
    touched: int
    """When that was sent, Unix seconds."""

    def again(self, *, tip: int, max_fee: int, signed: bytes, name: bytes, now: int) -> Pending:
        """The same for a higher fee."""
        hashes = (*self.hashes, name)[-MOST_HASHES:]
        return replace(self, tip=tip, max_fee=max_fee, signed=signed, hashes=hashes, touched=now)


class ChainFile:
    """One chain's file. Its methods are called one after the other, from any thread. They raise LocalError."""

    def __init__(self, path: Path) -> None:
        self._file = DatabaseFile(
            path,
            tables=_TABLES,
            version=_VERSION,
            code="chain-file",
            hint="move the file away: what it holds is found again on the chain",
            outlasts_power=True,
        )

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def meet(self, genesis: bytes) -> None:
        """Take down which chain this is. Raises DishonestError where it is another one than before."""
        with self._file.transaction() as rows:
            known = rows.execute("SELECT genesis FROM chain").fetchone()
            if known is None:
                rows.execute("INSERT INTO chain VALUES (?)", (genesis,))
            elif known[0] != genesis:
                raise DishonestError(
                    "the chain's node shows another chain than before, under the same number",
                    code="other-chain",
                    hint="if a test chain began anew, remove its file in the folder `chains` of the data directory",
                )

    # Sessions

    def session(self, contract: bytes, session: bytes) -> SessionRecord | None:
        """What was last kept of a session."""
        with self._file.transaction() as rows:
            found = rows.execute(
                "SELECT session, settled, ceilings FROM sessions WHERE contract = ? AND id = ?",
                (contract, session),
            ).fetchone()
        if found is None:
            return None
        try:
            known = decode(found[0], Session)
            settled, ceilings = tuple(json.loads(found[1])), tuple(json.loads(found[2]))
        except (JoulemeshError, ValueError):
            return None  # of no use; it is found again
        return SessionRecord(known, settled, ceilings)

    def keep(self, contract: bytes, record: SessionRecord, now: int) -> None:
        """Keep a session as it was last seen, and forget those that are long over."""
        with self._file.transaction() as rows:
            rows.execute("DELETE FROM sessions WHERE expiry < ?", (now - KEPT_S,))
            rows.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
                (
                    contract,
                    session_id(record.session),
                    encode(record.session),
                    record.session.expiry,
                    json.dumps(record.settled),
                    json.dumps(record.ceilings),
                ),
            )

    # Transactions

    def pending(self, sender: bytes) -> list[Pending]:
        """Those of an account, in order of their numbers."""
        with self._file.transaction() as rows:
            return _pending(rows, sender)

    def put(self, pending: Pending) -> None:
        """Keep a transaction, instead of the one with its number."""
        with self._file.transaction() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    pending.sender,
                    pending.nonce,
                    pending.to,
                    pending.data,
                    pending.gas,
                    str(pending.tip),
                    str(pending.max_fee),
                    " ".join(each.hex() for each in pending.hashes),
                    pending.signed,
                    pending.touched,
                ),
            )

    def told(self, sender: bytes, name: bytes) -> None:
        """Forget the transaction that was final under this hash: whoever asked for it knows."""
        with self._file.transaction() as rows:
            for each in _pending(rows, sender):
                if name in each.hashes:
                    rows.execute("DELETE FROM pending WHERE sender = ? AND nonce = ?", (sender, each.nonce))

    def drop(self, sender: bytes, *, nonce: int) -> None:
        """Forget the transaction with a number."""
        with self._file.transaction() as rows:
            rows.execute("DELETE FROM pending WHERE sender = ? AND nonce = ?", (sender, nonce))


def _pending(rows: Connection, sender: bytes) -> list[Pending]:
    query = (
        "SELECT nonce, target, data, gas, tip, max_fee, hashes, signed, touched FROM pending"
        " WHERE sender = ? ORDER BY nonce"
    )
    found: Sequence[tuple[int, bytes, bytes, int, str, str, str, bytes, int]]
    found = rows.execute(query, (sender,)).fetchall()
    return [
        Pending(
            sender=sender,
            nonce=nonce,
            to=to,
            data=data,
            gas=gas,
            tip=int(tip),
            max_fee=int(max_fee),
            hashes=tuple(map(bytes.fromhex, hashes.split())),
            signed=signed,
            touched=touched,
        )
        for nonce, to, data, gas, tip, max_fee, hashes, signed, touched in found
    ]
