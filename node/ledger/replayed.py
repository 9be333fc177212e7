"""A log that is replayed as it grows: what a validating witness does before it cosigns.

From the first entry on, each under the rules (`verify`), and all of them up to the root that was signed. What was
replayed stays; where something is wrong the log is begun again from its first entry, after a rest.
"""

from __future__ import annotations

import asyncio
import time

from node.ledger.log_source import LogSource
from node.ledger.verify import Replay, Report
from protocol.errors import DishonestError, PeerError
from protocol.log.checkpoint import Checkpoint
from protocol.log.merkle import Frontier, leaf_hash
from protocol.log.note import VerifierKey
from protocol.log.tiles import TILE_WIDTH, bundle_of

__all__ = ["Replayed"]

REST_S = 60.0
"""After a fault: a log with one is not replayed for each checkpoint."""
_SLICE = 32
"""Entries between two looks at what else there is to do; each takes a fraction of a millisecond."""


class Replayed:
    """One log, as far as it was replayed."""

    def __init__(self, source: LogSource, verifier: VerifierKey) -> None:
        self._source = source
        self._verifier = verifier
        self._fault: DishonestError | None = None
        self._rest_until = 0.0
        self._begin()

    def _begin(self) -> None:
        report = Report(verifier_key=str(self._verifier))
        self._replay = Replay(self._source, report, None)
        self._tree = Frontier()

    @property
    def size(self) -> int:
        """How many entries were replayed."""
        return self._tree.size

    async def reach(self, checkpoint: Checkpoint) -> None:
        """Replay up to a signed checkpoint; one call at a time. It may be cancelled, and goes on from there.

        Raises:
            DishonestError: an entry breaks the rules, or the entries do not lead to the signed root.
            UnreachableError: the log does not answer.
        """
        if self._fault is not None and time.monotonic() < self._rest_until:
            raise self._fault
        self._fault = None
        try:
            while self.size < checkpoint.size:
                await self._take_bundle(checkpoint.size)
            if self._tree.root != checkpoint.root:
                raise DishonestError("the entries do not lead to the root in the checkpoint")
        except PeerError as error:
            self._fault = DishonestError(f"replaying the log failed: {error.message}")
            self._rest_until = time.monotonic() + REST_S
            self._begin()
            raise self._fault from error

    async def _take_bundle(self, size: int) -> None:
        begin = self.size
        bundle = bundle_of(begin, size)
        entries = (await self._source.bundle(bundle))[begin % TILE_WIDTH :]
        if len(entries) != bundle.width - begin % TILE_WIDTH:
            raise DishonestError(f"entry {begin + len(entries)} is missing")
        for index, data in enumerate(entries, begin):
            try:
                self._replay.check_entry(index, data)
            except PeerError as error:
                raise DishonestError(f"entry {index}: {error.message}") from error
            self._tree.append(leaf_hash(data))
            if index % _SLICE == 0:
                await asyncio.sleep(0)
