"""Sessions of a settlement contract, which stores only a hash of each: found again from what is kept and from events.

What a session holds is in the call that opened it; its marks are those whose hash the contract has (K3). So neither a
node of the chain nor this machine's disk can make them up.
"""

from __future__ import annotations

from node.ports import Clock
from node.settlement.kept import ChainFile
from node.settlement.reader import ChainReader, SessionEvent
from protocol.chain.chain_evidence import ChainProof, ShownCall, check_chain_proof
from protocol.chain.contract import Contract
from protocol.chain.contract_calls import fresh, marks_hash, read_marks
from protocol.errors import DishonestError, PeerError
from protocol.session.messages import Session, session_id
from protocol.settlement import SessionRecord
from protocol.settlement.operations import Open

__all__ = ["Sessions"]

_UNKNOWN = bytes(32)
_CLOSED = (1).to_bytes(32, "big")


class Sessions:
    """Belongs to one event loop. Every method raises UnreachableError, and PeerErrors for what a node makes up."""

    def __init__(self, reader: ChainReader, contract: Contract, file: ChainFile, clock: Clock) -> None:
        self._reader = reader
        self._contract = contract
        self._file = file
        self._clock = clock

    def remember(self, session: Session) -> None:
        """Keep a session that is known from elsewhere."""
        if self._file.session(self._contract.address, session_id(session)) is None:
            self._keep(fresh(session))

    async def is_open(self, session: Session, block: int) -> bool | None:
        """Whether a session is open as of a block; None where it was not opened yet, or is forgotten."""
        slot = await self._reader.slot(session_id(session), block)
        return None if slot == _UNKNOWN else slot != _CLOSED

    async def at(self, session: bytes, block: int, *, final: bool = True) -> SessionRecord | None:
        """A session as of a block; None where it was never opened, or is over and forgotten.

        Args:
            final: whether the block stays, so that what is found can be kept.
        """
        slot = await self._reader.slot(session, block)
        if slot == _UNKNOWN:
            return None
        kept = await self._known(session, block)
        if slot == _CLOSED:
            record = await self._closed(kept, block)
        else:
            record = await self._marked(kept, slot, block)
        if record != kept and final:
            self._keep(record)
        return record

    async def last_operation(self, session: bytes, block: int) -> tuple[SessionEvent, ShownCall | None] | None:
        """The last thing that happened to a session, and the call that did it; None for a call that nobody can read,
        such as another contract's. None for a session that is not known, or forgotten.
        """
        if await self._reader.slot(session, block) == _UNKNOWN:
            return None
        event = await self._reader.last_event(session, block)
        return None if event is None else (event, await self.call_of(event))

    async def same_operation(self, session: bytes, older: int, newer: int) -> bool:
        """Whether nothing has happened to a session between two blocks."""
        one, other = [await self._reader.slot(session, block) for block in (older, newer)]
        return one == other

    async def call_of(self, event: SessionEvent) -> ShownCall | None:
        """The call behind an event, with its block; None where it cannot be read."""
        submitted = await self._reader.transaction(event.transaction)
        if submitted.signed is None:
            return None
        proof = await self._reader.proof(submitted.signed, event.block)
        return self.read(proof)

    def read(self, proof: ChainProof) -> ShownCall | None:
        """What evidence shows of this contract; None where it is none."""
        try:
            return check_chain_proof(proof, self._contract)
        except PeerError:
            return None

    async def _known(self, session: bytes, block: int) -> SessionRecord:
        """A session, with marks that it has or had."""
        kept = self._file.session(self._contract.address, session)
        if kept is not None:
            return kept
        event = await self._reader.last_event(session, block, names=("Opened",))
        shown = None if event is None else await self.call_of(event)
        action = None if shown is None else shown.call.action
        if not isinstance(action, Open) or session_id(action.session) != session:
            raise DishonestError(f"the chain's node does not show how session {session.hex()} was opened")
        return fresh(action.session)

    async def _marked(self, kept: SessionRecord, slot: bytes, block: int) -> SessionRecord:
        for known in (kept, fresh(kept.session)):
            if marks_hash(known) == slot:
                return known
        event = await self._reader.last_event(session_id(kept.session), block, names=("Marked",))
        if event is not None:
            record = read_marks(kept.session, event.marks)
            if marks_hash(record) == slot:
                return record
        raise DishonestError(f"the chain's node does not show the marks of session {session_id(kept.session).hex()}")

    async def _closed(self, kept: SessionRecord, block: int) -> SessionRecord:
        """What a closed session paid is in the call that closed it; where nobody can read that, at least what was seen
        before.
        """
        if kept.closed:
            return kept
        identity = session_id(kept.session)
        event = await self._reader.last_event(identity, block, names=("Closed",))
        shown = None if event is None else await self.call_of(event)
        record = None if shown is None else shown.call.of(identity)
        if record is None or not record.closed:
            return SessionRecord(kept.session, kept.settled, kept.settled)
        return record

    def _keep(self, record: SessionRecord) -> None:
        self._file.keep(self._contract.address, record, self._clock())
