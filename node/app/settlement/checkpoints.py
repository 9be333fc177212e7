"""Checkpoints that are gossiped, held against what the ledger shows here: so two histories come to light."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from node.app.settlement.forks import tell_of_fork
from node.events import CheckpointNotCompared, Events, LedgerContradiction
from node.ledger import LedgerClient
from node.p2p.gossip import Subscription
from node.p2p.host import P2PHost
from protocol.errors import DishonestError, ForkedError, JoulemeshError
from protocol.log.checkpoint import Operator, check_gossiped
from protocol.log.note import VerifierKey
from protocol.names import CHECKPOINTS_TOPIC

__all__ = ["Checkpoints"]

COMPARE_EVERY_S = 1.0
"""They are held against the ledger at this pace: old ones can be sent again by anybody."""
COMPARED_LATER = 64
"""So many wait for that; the newest go first, and the oldest are dropped."""


class _Check:
    """Checks them as they are heard, in the host's thread: by form, and by the log's key once that is known."""

    verifier: VerifierKey | None = None
    operator: Operator | None = None

    def __call__(self, data: bytes) -> bytes:
        return check_gossiped(data, self.verifier, self.operator)


class Checkpoints:
    """Those that a host hears; made by `hear`."""

    def __init__(self, heard: Subscription[bytes], check: _Check, events: Events) -> None:
        self._heard = heard
        self._check = check
        self._events = events

    @classmethod
    async def hear(cls, host: P2PHost, events: Events) -> Checkpoints:
        """From now on they are listened to, and sent on."""
        check = _Check()
        return cls(await host.subscribe(CHECKPOINTS_TOPIC, check), check, events)

    def relay_those_of(self, verifier_key: str, operator: Operator | None) -> None:
        """From now on checkpoints of this log alone are listened to and sent on."""
        self._check.operator = operator
        self._check.verifier = VerifierKey.parse(verifier_key)

    async def follow(self, ledger: LedgerClient) -> None:
        """Hold every one against what the ledger shows here, until cancelled."""
        self.relay_those_of(ledger.verifier_key, ledger.operator)
        waiting: deque[bytes] = deque(maxlen=COMPARED_LATER)
        arrived = asyncio.Event()
        comparing = asyncio.create_task(self._compare(ledger, waiting, arrived), name="checkpoints compared")
        try:
            async for note in self._heard:
                if ledger.is_news(note):
                    waiting.append(note)
                    arrived.set()
        finally:
            comparing.cancel()
            await asyncio.gather(comparing, return_exceptions=True)

    async def _compare(self, ledger: LedgerClient, waiting: deque[bytes], arrived: asyncio.Event) -> None:
        while True:
            await arrived.wait()
            arrived.clear()
            while waiting and ledger.forks.known is None:
                note = waiting.pop()
                try:
                    await ledger.compare(note)
                except ForkedError:  # told by whoever watches for it
                    return
                except DishonestError as error:
                    self._events(LedgerContradiction(reason=error.message, note=note.decode()))
                except JoulemeshError as error:
                    self._events(CheckpointNotCompared(reason=error.message))
                await asyncio.sleep(COMPARE_EVERY_S)

    @asynccontextmanager
    async def comparing(self, ledger: LedgerClient) -> AsyncIterator[None]:
        """Follow them while the block runs, and tell where they prove two histories."""
        tasks = [
            asyncio.create_task(self.follow(ledger), name="checkpoints"),
            asyncio.create_task(tell_of_fork(ledger, self._events), name="forks"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
