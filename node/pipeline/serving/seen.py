"""Sessions that are over here and must not be served again, for as long as an order for one can live.

An order is taken until the offer that its terms name has expired, and offers are short; so a session is remembered
for minutes, not for as long as it lasts. On disk it is 40 bytes in one file, appended; who can write there can make the
node serve a session again that it can no longer redeem.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from node.durable import replace_file
from node.pipeline.vouchers import on_disk
from node.ports import Clock, Worker
from protocol.market.offer import CLOCK_SKEW_S, MAX_TTL_S

__all__ = ["MOST_SEEN", "SeenSessions", "remembered_until"]

MOST_SEEN = 65_536
"""Sessions, some 12 MB; each was opened on the ledger for its fee. Beyond, no order is taken until some have aged."""
RECORD = 32 + 8
"""Bytes: the session's id, and until when it is remembered, Unix seconds."""
SPARE = 1_024
"""Records of the past that the file may hold before it is written anew."""


def remembered_until(ordered_at: int, expiry: int) -> int:
    """Unix seconds from which no order for a session can be taken that was ordered then.

    The offer in the order was in force and at most `CLOCK_SKEW_S` ahead, and the order is refused after the session's
    expiry; this clock may be set back a little meanwhile.
    """
    return min(expiry, ordered_at + MAX_TTL_S + CLOCK_SKEW_S) + CLOCK_SKEW_S


class SeenSessions:
    """A set of session ids that forgets.

    Args:
        worker: the only one that writes the file.
    """

    def __init__(self, path: Path, worker: Worker, clock: Clock) -> None:
        """Raises OSError where there is a file that cannot be read."""
        self._path = path
        self._worker = worker
        self._clock = clock
        self._until: dict[bytes, int] = {}
        self._records = 0
        """In the file, those of the past included."""
        self._whole = True
        """False once a write has failed: what the file ends with is not known."""
        self._load()

    def __contains__(self, session: bytes) -> bool:
        return self._until.get(session, 0) > self._clock()

    @property
    def full(self) -> bool:
        """Whether no more can be remembered now."""
        if len(self._until) >= MOST_SEEN:
            self._forget()
        return len(self._until) >= MOST_SEEN

    async def add(self, session: bytes, until: int) -> None:
        """Counts at once, and is on disk when this returns. Raises LocalError where it cannot be; it counts all the
        same until the program ends.
        """
        self._until[session] = until
        await on_disk(self._worker, partial(self._write, session, until))

    def _write(self, session: bytes, until: int) -> None:
        if not self._whole or self._records >= 2 * len(self._until) + SPARE:
            self._write_all()
            return
        self._whole = False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            if file.write(_record(session, until)) == RECORD:
                os.fsync(descriptor)
                self._whole = True
                self._records += 1
        if not self._whole:
            self._write_all()

    def _write_all(self) -> None:
        now = self._clock()
        kept = [_record(session, until) for session, until in self._until.copy().items() if until > now]
        replace_file(self._path, b"".join(kept))
        self._records, self._whole = len(kept), True

    def _load(self) -> None:
        if not self._path.exists():
            return
        content, now = self._path.read_bytes(), self._clock()
        # A crash in mid-write leaves a part of a record, which nobody was told of.
        self._records, rest = divmod(len(content), RECORD)
        self._whole = rest == 0
        for at in range(0, self._records * RECORD, RECORD):
            until = int.from_bytes(content[at + 32 : at + RECORD], "big")
            if until > now:
                self._until[content[at : at + 32]] = until

    def _forget(self) -> None:
        now = self._clock()
        self._until = {session: until for session, until in self._until.items() if until > now}


def _record(session: bytes, until: int) -> bytes:
    return session + until.to_bytes(8, "big")
