"""What a process does when its ledger is proven to have two histories: it says so, and begins nothing new there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from node.app.settlement.venue import Venue
from node.events import Events, LedgerForked

__all__ = ["tell_of_fork", "until_forked"]


async def tell_of_fork(ledger: Venue, events: Events) -> None:
    """Wait for a proof, which may have been kept by an earlier run, and tell of it."""
    fork = await ledger.forks.found()
    events(LedgerForked(reason=str(fork), proof="" if fork.path is None else str(fork.path)))


async def until_forked(ledger: Venue, work: Coroutine[Any, Any, None], then: Coroutine[Any, Any, None]) -> None:
    """Do work that begins something new until there is a proof; `then` ends what it leaves. Raises what they raise."""
    working = asyncio.create_task(work)
    found = asyncio.create_task(ledger.forks.found())
    try:
        await asyncio.wait((working, found), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            then.close()
            await working
        else:
            working.cancel()
            await asyncio.wait([working])
            await then
    finally:
        then.close()
        for task in (working, found):
            task.cancel()
        await asyncio.gather(working, found, return_exceptions=True)
