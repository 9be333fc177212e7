"""One ledger's log as its answers prove it: every answer's checkpoint is followed, every entry in it is proven.

What entries were seen to change is remembered, so that a later answer cannot name an older one as the last.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from node.ledger.forks import ForkWatch
from node.ledger.log_source import HttpLog
from node.ledger.recent import Recent
from node.ledger.trust import ContradictionError, Question, Trust
from node.ledger.wire import Answer, Place
from node.ledger.witnessed import Witnessed
from protocol.encoding.codec import decode, encode
from protocol.errors import DishonestError
from protocol.identity.ids import Address
from protocol.log.checkpoint import Checkpoint
from protocol.log.merkle import leaf_hash, verify_inclusion
from protocol.session.messages import session_id
from protocol.settlement import Account, account_of
from protocol.settlement.evidence import LogProof, read_entry
from protocol.settlement.operations import LogEntry, Open, SignedOp

__all__ = ["Proven", "VerifiedLog"]

_LATEST = 65_536


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry of the log, verified."""

    entry: LogEntry
    index: int
    evidence: bytes
    """What convinces others: a ``log-proof/1`` (`protocol.settlement.evidence`)."""
    wish: bytes = b""
    """Of an operation that a person has asked for: what names it until its end is told (`asked`)."""
    earlier: bool = False
    """Whether an earlier call had asked for it, and got no answer that was told."""


class VerifiedLog:
    """The log at an HTTP address, once its key is pinned. Every method raises as `LedgerClient`'s do."""

    def __init__(self, http: HttpLog, trust: Trust, forks: ForkWatch, witnessed: Witnessed) -> None:
        self._witnessed = witnessed
        self._http = http
        self._trust = trust
        self._forks = forks
        self._joining = asyncio.Lock()
        self.expiries: Recent[bytes, int] = Recent(_LATEST)
        """Of each session whose opening was seen, Unix seconds."""
        self.time = 0
        """Of the newest entry that was seen, Unix seconds."""
        self._latest: Recent[bytes, int] = Recent(_LATEST)
        self.nonces: Recent[Address, int] = Recent(_LATEST)
        """Last nonce of each account, as far as it was seen."""
        self.accounts: Recent[Address, Account] = Recent(_LATEST)
        """Each account after the newest entry that was seen to change it."""

    def floor(self, key: bytes) -> int | None:
        """Index of the newest entry known to have changed an account or a session, by address or session id."""
        return self._latest.get(key)

    async def ask(self, path: str, *, witnessed: bool = False) -> Answer:
        """The answer at a path, its checkpoint followed; one that is `witnessed` is as the reader's policy asks."""
        question = self._trust.question()
        query = self._witnessed.query(question) if witnessed else question.query
        answer = Answer.from_json(await self._http.get_json(path + query))
        await self.follow(question, answer)
        if witnessed:
            self._witnessed.check(answer.note)
        return answer

    async def follow(self, question: Question, answer: Answer) -> None:
        """Take in the checkpoint of an answer, which has to continue what was asked about."""
        try:
            followed = self._trust.follow(question, answer)
        except ContradictionError as error:
            raise await self._forks.convict(error) from error
        if not followed:
            await self._join(self._trust.open(answer.note))

    async def compare(self, note: bytes) -> None:
        """Hold a checkpoint that came another way against this history; one that was judged before is passed over."""
        if self._trust.is_news(note):
            try:
                found = self._trust.open(note)
            except ContradictionError as error:
                raise await self._forks.convict(error) from error
            await self._join(found)

    def prove(self, answer: Answer, name: str, *, index: int | None = None, own: SignedOp | None = None) -> Proven:
        """The entry under `name` in an answer whose checkpoint was followed."""
        place, checkpoint = answer.place(name), self._trust.open(answer.note)
        verify_inclusion(place.index, checkpoint.size, leaf_hash(place.entry), place.proof, checkpoint.root)
        entry = self._read(place, own)
        if index not in (None, place.index):
            raise DishonestError(f"the ledger at {self._http.url} shows entry {place.index} for entry {index}")
        self._note_down(entry, place.index)
        proof = LogProof(entry=place.entry, index=place.index, proof=place.proof, checkpoint=answer.note)
        return Proven(entry, place.index, encode(proof))

    async def _join(self, found: Checkpoint) -> None:
        """Have it proven that `found` and the newest checkpoint known are of one history."""
        async with self._joining:
            while not self._trust.has_judged(found):
                question = self._trust.question(found)
                answer = Answer.from_json(await self._http.get_json(f"consistency{question.query}"))
                try:
                    self._trust.follow(question, answer)
                except ContradictionError as error:
                    raise await self._forks.convict(error) from error

    def _read(self, place: Place, own: SignedOp | None) -> LogEntry:
        """A signed entry. One that holds the very operation that was signed here needs no second look."""
        if own is not None:
            entry = decode(place.entry, LogEntry)
            if entry.op == own:
                return entry
        return read_entry(place.entry, self._trust.verifier)

    def _note_down(self, entry: LogEntry, index: int) -> None:
        newer: set[bytes] = set()
        action, self.time = entry.op.read(), max(self.time, entry.time)
        if isinstance(action, Open):
            self.expiries.put(session_id(action.session), action.session.expiry)
        for key in (*(effect.account for effect in entry.accounts), *(effect.session for effect in entry.sessions)):
            if index >= (self._latest.get(key) or 0):
                self._latest.put(key, index)
                newer.add(key)
        for effect in entry.accounts:
            address = Address(effect.account)
            if address in newer:
                self.accounts.put(address, account_of(effect))
            self.nonces.put(address, max(effect.nonce, self.nonces.get(address) or 0))
