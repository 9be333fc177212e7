"""A witness of other operators' logs: it cosigns what continues the last checkpoint that it cosigned, and nothing else.

It keeps for each log one checkpoint (`witness_state`), checks a new one against it and stores it in one step, and
answers after that. One that validates replays every entry first (`replayed`): then its word is also that the rules were
kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from node.events import CheckpointCosigned, Events, WitnessRefused, unheard
from node.ledger.log_source import HttpLog, LogReader
from node.ledger.replayed import Replayed
from node.ledger.witness_state import WitnessState, log_name
from node.ports import Clock
from protocol.errors import DishonestError, LocalError, RefusedError, UnreachableError
from protocol.log.checkpoint import Checkpoint, open_checkpoint, own_note
from protocol.log.cosignature import AddCheckpoint, CosigningKey, check_add_checkpoint
from protocol.log.note import Note, NoteSignature, VerifierKey, parse_note
from protocol.log.post_quantum import PostQuantumCosigningKey

__all__ = ["Witness", "WitnessedLog"]

MOST_WAITING = 32
"""Requests about one log that wait their turn; who comes beyond them is sent away."""
SAME_S = 2
"""A checkpoint that was cosigned so few seconds ago is not cosigned again: whoever asks has the same line."""
REPLAY_S = 10.0
"""A submitter waits so long for entries to be replayed; then it comes again."""


@dataclass(slots=True)
class WitnessedLog:
    """One log that a witness knows."""

    verifier: VerifierKey
    url: str | None = None
    """Where its entries are, where it is replayed or asked."""
    replayed: Replayed | None = None
    """How far it was replayed; None where this witness does not."""
    latest: Checkpoint | None = None
    """The newest that was cosigned."""
    note: bytes | None = None
    """The same, with the cosignature."""
    lines: tuple[NoteSignature, ...] = ()
    """The cosignatures in it, where this process made them."""
    cosigned_at: int = 0
    """Unix seconds of those lines."""
    waiting: int = 0
    """Requests that have begun and not ended."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Witness:
    """The decisions of one witness, whoever brings the checkpoints.

    Raises LocalError: what it has cosigned before cannot be read.
    """

    def __init__(
        self,
        key: CosigningKey,
        logs: Sequence[WitnessedLog],
        state: WitnessState,
        clock: Clock,
        events: Events = unheard,
        *,
        second: PostQuantumCosigningKey | None = None,
    ) -> None:
        self._keys = (key,) if second is None else (key, second)
        self._state = state
        self._clock = clock
        self._events = events
        self.logs = {log_name(log.verifier.name): log for log in logs}
        """By the name under which they are shown."""
        for log in logs:
            kept = state.load(log.verifier)
            if kept is not None:
                log.latest, log.note = kept

    async def add(self, request: AddCheckpoint) -> tuple[NoteSignature, ...]:
        """Cosign, with each of the witness's keys, what a request submits; it is durable when this returns.

        Whoever asked may go away meanwhile: what has begun is ended all the same, before the next request of this log.

        Raises:
            RefusedError: a log that this witness does not know (code ``not-found``).
            MalformedError, SignatureError, StaleError, ForkedError, DishonestError: as `check_add_checkpoint`.
            DishonestError: also where an entry breaks the ledger's rules.
            UnreachableError: the entries could not be read in time; it may be asked again.
            LocalError: the disk is full, or too many ask at once.
        """
        log = self.logs.get(log_name(request.checkpoint.origin))
        if log is None:
            raise RefusedError("this witness does not know that log", code="not-found")
        open_checkpoint(request.note, log.verifier)  # what its log has not signed does not even wait
        if log.waiting == MOST_WAITING:
            raise LocalError("many ask this witness at once", code="busy", hint="ask again in a moment")
        log.waiting += 1
        adding = asyncio.create_task(self._add(log, request), name="witness adds")
        adding.add_done_callback(partial(_ended, log))
        return await asyncio.shield(adding)

    async def _add(self, log: WitnessedLog, request: AddCheckpoint) -> tuple[NoteSignature, ...]:
        origin = request.checkpoint.origin
        async with log.lock:
            try:
                new = check_add_checkpoint(request, log.verifier, log.latest)
                if log.replayed is not None:
                    await self._replay(log.replayed, new)
            except DishonestError as error:
                kept = own_note(request.note, log.verifier).decode()
                self._events(WitnessRefused(origin=origin, reason=error.message, note=kept))
                raise
            return await self._cosign(log, new, request.note)

    def latest(self, request: AddCheckpoint) -> int:
        """The size of the last checkpoint that was cosigned of the log that a request is about; 0 before any."""
        log = self.logs.get(log_name(request.checkpoint.origin))
        return 0 if log is None or log.latest is None else log.latest.size

    async def _cosign(self, log: WitnessedLog, new: Checkpoint, note: bytes) -> tuple[NoteSignature, ...]:
        own, now = parse_note(own_note(note, log.verifier)), self._clock()
        if log.lines and log.latest == new and 0 <= now - log.cosigned_at < SAME_S:
            return log.lines
        lines = tuple(key.cosign(own.text, now) for key in self._keys)
        cosigned = bytes(Note(own.text, (*own.signatures, *lines)))
        await asyncio.to_thread(self._state.store, log.verifier, cosigned)
        # Durable. A crash before leaves what was cosigned last, and nobody has this cosignature.
        is_news = log.latest is None or log.latest.size != new.size
        log.latest, log.note, log.lines, log.cosigned_at = new, cosigned, lines, now
        if is_news:
            self._events(CheckpointCosigned(origin=new.origin, size=new.size))
        return lines

    async def _replay(self, replayed: Replayed, new: Checkpoint) -> None:
        try:
            async with asyncio.timeout(REPLAY_S):
                await replayed.reach(new)
        except TimeoutError:
            raise UnreachableError(f"{replayed.size} of {new.size} entries are replayed so far") from None

    async def pull(self, log: WitnessedLog) -> None:
        """Look at a log's newest checkpoint, and cosign it. Raises as `add` does, and UnreachableError."""
        if log.url is None:
            raise RuntimeError("a log without an address is not asked")
        source = HttpLog(log.url)
        try:
            note = await source.checkpoint()
            new, old = open_checkpoint(note, log.verifier), 0 if log.latest is None else log.latest.size
            proof = await LogReader(source).consistency(old, new.size) if 0 < old < new.size else ()
            await self.add(AddCheckpoint(old, proof, note))
        finally:
            await source.close()


def _ended(log: WitnessedLog, adding: asyncio.Task[tuple[NoteSignature, ...]]) -> None:
    log.waiting -= 1
    if not adding.cancelled():
        adding.exception()  # whoever asked may have gone: it is nobody's then
