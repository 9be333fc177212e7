"""A front end of a ledger: the one that writes, or one that stands by, serves what the writer commits, and takes over.

Of the front ends of one PostgreSQL database one holds the writer's lock (`writer_lock`). The others try for it several
times a second, so they have it as soon as its connection ends, and have a silent writer's session ended by the server.
Whoever takes over reads what is durable and goes on from there; whatever the one before had in memory was shown to
nobody. A writer that loses its connection, or its place, stands by in its turn: it writes nothing before it has the
lock again and has read everything anew. SQLite has one front end, which ends where it cannot go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from node.events import Events, StandingBy, TookOver
from node.ledger.following import Follower
from node.ledger.fronts import Fronts, Peers
from node.ledger.published import Published
from node.ledger.sequencer import Sequencer
from node.ledger.shared_run import SharedRun
from node.ledger.store import Store
from node.ledger.writer_lock import DeposedError
from protocol.errors import LocalError, UnreachableError
from protocol.identity.ids import Address
from protocol.settlement.operations import SignedOp

__all__ = ["Front", "StandbyError", "Watch"]

_CLOCK_LOOK_S = 30.0
_log = logging.getLogger(__name__)


class StandbyError(LocalError):
    """Only the writer does what was asked for, and nothing of it was done here; code ``standby``."""

    default_code = "standby"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How the front ends of one ledger watch each other, in seconds."""

    look_s: float = 0.2
    """Between two looks at the lock and the newest checkpoint."""
    beat_s: float = 0.5
    """A writer with nothing to commit shows so often that it lives."""
    patience_s: float = 3.0
    """A writer that was silent for so long is replaced."""
    meet_s: float = 3.0
    """Front ends say so often where they are."""


class Front:
    """What requests are answered from. Call `start` once it serves, `finish` at the end.

    Args:
        recover: makes a sequencer of what the database holds, once the lock is had.
        duties: what is done in tasks as long as this process writes.
    """

    def __init__(
        self,
        store: Store,
        published: Published,
        follower: Follower,
        *,
        recover: Callable[[], Awaitable[Sequencer]],
        duties: Sequence[Callable[[], Awaitable[None]]],
        fronts: Fronts | None,
        peers: Peers,
        events: Events,
        watch: Watch,
    ) -> None:
        self.published = published
        self.peers = peers
        self._store = store
        self._follower = follower
        self._recover = recover
        self._duties = duties
        self._fronts = fronts
        self._events = events
        self._watch = watch
        self._sequencer: Sequencer | None = None
        self._url = ""
        self._writer = ""
        self._told: tuple[str, str] | None = None
        """The writer, and why it is not this process, as it was said last."""
        self._met_at: float | None = None
        self._still_writes = SharedRun(store.beat)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # For requests

    @property
    def is_writer(self) -> bool:
        """Whether it takes operations."""
        return self._sequencer is not None

    def require_writer(self) -> Sequencer:
        """What takes operations here. Raises StandbyError."""
        if self._sequencer is None:
            where = f"the writer is {self._writer}" if self._writer else "nobody is known to write now"
            raise StandbyError(
                f"this front end of the ledger stands by: {where}",
                hint="name every address of the ledger in the setting, with commas between, or try again in a moment",
            )
        return self._sequencer

    async def submit(self, signed: SignedOp) -> int:
        """As `Sequencer.submit`. Raises StandbyError."""
        return await self.require_writer().submit(signed)

    async def faucet(self, account: Address, amount: int) -> int:
        """As `Sequencer.faucet`. Raises StandbyError."""
        return await self.require_writer().faucet(account, amount)

    async def reach(self, size: int) -> None:
        """Show at least so many entries, if the log has them: a reader knows of them from another front end.

        Raises UnreachableError: the database does not answer.
        """
        if size <= self.published.head.checkpoint.size or self._fronts is None:
            return
        if self._sequencer is not None:
            # A writer that was replaced, and does not know yet, shows what is in the database as a standby does.
            with contextlib.suppress(UnreachableError):
                await self._still_writes()
                return
        await self._follower.catch_up()

    # Its life

    def start(self, url: str, sequencer: Sequencer | None) -> asyncio.Task[None]:
        """Write with `sequencer`, or stand by without. The task ends with the LocalError that stops the ledger."""
        self._url, self._sequencer = url, sequencer
        self._task = asyncio.create_task(self._serve(), name="ledger front end")
        return self._task

    async def finish(self) -> None:
        """Let what waits be finished, and end."""
        self._stopping.set()
        if self._sequencer is not None:
            self._sequencer.stop()
        if self._task is not None:
            # Its failure, if any, is for `RunningLedger.wait` to raise, not for whoever closes up.
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()
        if self._fronts is not None:
            await self._store.step_down()  # another one may begin at once

    async def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._sequencer is None:
                await self._stand_by()
            if self._sequencer is not None:
                await self._write(self._sequencer)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _meet(self, term: int, *, again: bool = False) -> None:
        """Exchange with the other front ends where each is, from time to time. Raises UnreachableError."""
        now = asyncio.get_running_loop().time()
        if self._fronts is None or (not again and self._met_at is not None and now - self._met_at < self._watch.meet_s):
            return
        self._met_at = now
        seen = await self._fronts.meet(self._url, self.peers.own, term)
        self.peers.others, self._writer = seen.peers, seen.writer

    # Standing by

    async def _stand_by(self) -> None:
        """Until this process writes, or is to stop. Raises LocalError where it cannot go on."""
        self._met_at = None
        began = asyncio.get_running_loop().time()
        while not self._stopping.is_set():
            try:
                if await self._store.try_become_writer():
                    await self._take_over(began)
                    return
                await self._follower.catch_up()
                await self._meet(0)
                if await self._store.end_silent_writer(self._watch.patience_s):
                    _log.warning("the writer of the ledger was silent for too long: its session was ended")
                    continue
                self._tell("another front end writes")
            except UnreachableError as error:
                self._tell(error.message)
                await self._store.step_down()
            await self._pause(self._watch.look_s)

    def _tell(self, reason: str) -> None:
        if (self._writer, reason) != self._told:
            self._told = (self._writer, reason)
            self._events(StandingBy(writer=self._writer, reason=reason))

    async def _take_over(self, began: float) -> None:
        await self._follower.catch_up()  # what is shown must not be ahead of what is gone on from
        sequencer = await self._recover()
        await self._store.begin_to_write()
        self._sequencer, self._told = sequencer, None
        if self._stopping.is_set():
            sequencer.stop()
        waited = asyncio.get_running_loop().time() - began
        self._events(TookOver(size=self.published.head.checkpoint.size, seconds=round(waited, 1)))

    # Writing

    async def _write(self, sequencer: Sequencer) -> None:
        """Until it is to stop, or another front end may write. Raises LocalError where it cannot go on."""
        serving = asyncio.create_task(sequencer.serve(), name="ledger writer")
        beating = asyncio.create_task(self._beat(), name="ledger heartbeat")
        duties = [asyncio.create_task(_run(each), name="ledger duty") for each in self._duties]
        duties.append(asyncio.create_task(_watch_clock(sequencer), name="ledger clock"))
        try:
            await asyncio.wait([serving, beating], return_when=asyncio.FIRST_COMPLETED)
            lost = None if serving.done() else beating.exception()
            if lost is not None:
                self._sequencer = None
                await self._store.step_down()  # what waits for it fails, too
                sequencer.stop()
                await asyncio.wait([serving])
        finally:
            for task in (beating, *duties):
                task.cancel()
            await asyncio.gather(beating, *duties, return_exceptions=True)
            if not serving.done():
                serving.cancel()
                await asyncio.wait([serving])
        failure = serving.exception()
        if failure is None and lost is None:
            self._stopping.set()
            return
        await self._step_down(failure, lost)

    async def _step_down(self, failure: BaseException | None, lost: BaseException | None) -> None:
        """Stand by, where another front end may go on; else raises what ended the writer."""
        cause = failure.__cause__ if lost is None and failure is not None else lost
        if self._fronts is None or not isinstance(cause, (UnreachableError, DeposedError)):
            raise failure or lost or RuntimeError("a writer ends for a reason")
        self._sequencer, self._writer = None, ""
        await self._store.step_down()
        self._tell(cause.message)

    async def _beat(self) -> None:
        """Show that this writer lives. Raises UnreachableError where it lives no more, for the database."""
        if self._fronts is None:
            await asyncio.Event().wait()
        while True:
            await self._store.beat()
            with contextlib.suppress(UnreachableError):
                await self._meet(self._store.term)
            await asyncio.sleep(self._watch.beat_s)


async def _watch_clock(sequencer: Sequencer) -> None:
    while True:
        sequencer.look_at_clock()
        await asyncio.sleep(_CLOCK_LOOK_S)


async def _run(duty: Callable[[], Awaitable[None]]) -> None:
    await duty()
