"""The ledger as a client sees it: everything read is verified before it is returned.

Against a hostile ledger the client holds: the verifier key, pinned at first use; the newest checkpoint, which every
later one must continue; an inclusion proof for every entry; the signatures in the entry (`trust`, `verified_log`). What
it cannot see is an operation kept from it: a balance is proven by the last entry that the ledger *names*. Who replays
the whole log (`verify`) sees that too. One question takes one request: the answer holds its own proofs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from node.ledger.forks import ForkWatch
from node.ledger.log_source import HttpLog
from node.ledger.notices import rules_in
from node.ledger.remembered import Memory
from node.ledger.trust import ContradictionError, Trust
from node.ledger.verified_log import Proven, VerifiedLog
from node.ledger.wire import Answer, LedgerInfo, providers_from_json
from node.ledger.witnessed import Witnessed
from node.ports import Taken, VenueRules
from protocol.encoding.codec import decode
from protocol.errors import DishonestError, RefusedError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import Address, checksum_address
from protocol.log.checkpoint import Checkpoint, Operator
from protocol.session.messages import Session, session_id
from protocol.settlement import Account, Rules, SessionRecord, account_of
from protocol.settlement.evidence import LogProof, check_opened
from protocol.settlement.operations import (
    Genesis,
    LogEntry,
    Open,
)

__all__ = ["LedgerReader"]

_RULES_S = 3600.0
"""Seconds after which the rules are asked for again: less than any notice that is worth the name."""


class LedgerReader:
    """What a ledger at an HTTP address says, verified. Use as an async context manager, or call `disconnect`.

    Args:
        url: base address, such as ``http://127.0.0.1:8645``.
        remembered: file that keeps the pinned key and the newest checkpoint between runs; proofs that the ledger's
            operator has signed two histories are kept beside it.
        verifier_key: the ledger's key, where it is known from elsewhere; else the first one seen is trusted.
        witnessed: which cosignatures a checkpoint must have before something is begun on it: a session, work on
            somebody's evidence, a balance. What ends something does not wait for them.

    Every method raises UnreachableError when the ledger does not answer, DishonestError when it contradicts itself or
    what was remembered of it, and other PeerErrors when it answers with what cannot be read.
    Where two histories are proven, what begins something new raises ForkedError from then on; what ends something goes
    on as long as the ledger's answers hold.
    """

    def __init__(
        self,
        url: str,
        *,
        remembered: Path | None = None,
        verifier_key: str | None = None,
        witnessed: Witnessed | None = None,
        timeout_s: float = 30,
    ) -> None:
        self._witnessed = witnessed or Witnessed()
        self._http = HttpLog(url, timeout_s=timeout_s)
        self._memory = Memory.load(remembered)
        self._trust = Trust(self._memory, verifier_key, self._http.url)
        self.forks = ForkWatch(self._http, self._trust, None if remembered is None else remembered.parent)
        """Proofs that it has signed two histories: as long as one is known, nothing new is begun here."""
        self._log = VerifiedLog(self._http, self._trust, self.forks, self._witnessed)
        self._rules: Rules | None = None
        self._asked = 0.0
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close the connections, and write down what is to be remembered. Raises ConfigurationError."""
        try:
            self._memory.flush()
        finally:
            await self._http.close()

    # What the ledger is

    @property
    def url(self) -> str:
        """Where the ledger is."""
        return self._http.url

    @property
    def domain(self) -> Domain:
        """What typed signatures for this ledger carry. Known once the key is: given, remembered, or by `connect`."""
        return self._trust.domain

    @property
    def verifier_key(self) -> str:
        """The key that signs its checkpoints, as C2SP text. Known as `domain` is."""
        return str(self._trust.verifier)

    async def connect(self) -> Rules:
        """Pin the ledger's key, verify its checkpoint and genesis entry; returns the rules that the genesis fixed.

        Called by the other methods; does its work once.
        """
        async with self._connecting:
            if self._rules is None:
                await self._introduce()
            if self._rules is None:
                raise RuntimeError("an introduction leaves the rules behind, or raises")
            return self._rules

    async def rules(self) -> VenueRules:
        """What holds now. What was announced is asked for again from time to time."""
        await self.connect()
        if time.monotonic() - self._asked > _RULES_S:
            await self._introduce()
        rules = (await self.connect()).at(max(self._log.time, int(time.time())))
        return VenueRules(grace_s=rules.grace_s, fee=rules.fee, bond_multiple=rules.bond_multiple)

    async def info(self) -> LedgerInfo:
        """Who runs the ledger, under which rules, and the multiaddrs of its peers."""
        await self.connect()
        return await self._introduce()

    async def _introduce(self) -> LedgerInfo:
        question = self._trust.question()
        answer = Answer.from_json(await self._http.get_json(f"info{question.query}"))
        info = LedgerInfo.from_json(answer.said)
        self._trust.meet(info.verifier_key)
        self.forks.load()
        await self._log.follow(question, answer)
        genesis = self._log.prove(answer, "genesis").entry.op.read()
        if not isinstance(genesis, Genesis) or self._read_rules(genesis, answer) != info.rules:
            raise DishonestError(f"the ledger at {self.url} says other rules than its entries")
        if genesis.verifier_key != self.verifier_key:
            raise DishonestError(f"the first entry of the ledger at {self.url} is not its genesis")
        self._rules, self._asked = info.rules, time.monotonic()
        self._trust.know(Operator(self.domain, info.rules.operator), answer.note)
        return info

    def _read_rules(self, genesis: Genesis, answer: Answer) -> Rules | None:
        """The rules in the entries that an answer names; None where they are not the operator's, or no rules."""
        in_force = self._log.prove(answer, "rules").entry.op.read()
        coming = self._log.prove(answer, "notice").entry.op.read() if answer.has("notice") else None
        return rules_in(genesis, in_force, coming)

    # Its log

    async def checkpoint(self) -> Checkpoint:
        """The newest checkpoint: signed by the pinned key, and a continuation of the last one seen. Remembers it."""
        await self.connect()
        await self._log.ask("consistency")
        newest = self._trust.newest
        if newest is None:
            raise RuntimeError("an answer that was followed leaves a checkpoint")
        return newest

    @property
    def operator(self) -> Operator | None:
        """Who answers with its bond for the checkpoints; known once connected."""
        return self._trust.operator

    async def require_witnessed(self) -> None:
        """That the ledger shows a checkpoint as the policy asks. Raises UnwitnessedError."""
        await self.connect()
        if self._witnessed.policy.least:
            await self._log.ask("consistency", witnessed=True)

    @property
    def note(self) -> bytes | None:
        """The newest checkpoint seen, as its signed note: what is gossiped, and what proofs end in."""
        return self._trust.note

    def is_news(self, note: bytes) -> bool:
        """Whether a checkpoint was not judged yet, whoever has put a signature on it. Raises MalformedError."""
        return self._trust.is_news(note)

    async def compare(self, note: bytes) -> None:
        """Hold a checkpoint of this ledger that came another way, by gossip for one, against what is seen here.

        One that was judged before is passed over, whatever signatures by others stand on it now. Raises DishonestError
        when the two belong to different histories, ForkedError where that can be proven to others.
        """
        await self.connect()
        await self._log.compare(note)

    async def entry(self, index: int) -> Proven:
        """Entry `index`, proven to be in the log. Raises RefusedError where the log does not reach that far."""
        await self.connect()
        return self._log.prove(await self._log.ask(f"entry/{index}"), "entry", index=index)

    # Its state

    async def latest(self, session: bytes) -> tuple[SessionRecord, Taken] | None:
        """A session as `session` has it, and the last entry that changed it."""
        found = await self._find_session(session)
        return None if found is None else (found[0], self.taken(found[1].evidence))

    def taken(self, evidence: bytes) -> Taken:
        """What evidence that this ledger has just given is of."""
        proof = decode(evidence, LogProof)
        entry = decode(proof.entry, LogEntry)
        sessions = tuple(effect.session for effect in entry.sessions)
        return Taken(place=str(proof.index), actor=entry.op.read().actor, sessions=sessions)

    async def account(self, address: bytes) -> Account:
        """An account as of the last entry that changed it; the empty account where the ledger names no such entry."""
        return await self._account(address, witnessed=True)

    async def _account(self, address: bytes, *, witnessed: bool = False) -> Account:
        await self.connect()
        what, floor = f"account {checksum_address(address)}", self._log.floor(address)
        answer = await self._log.ask(f"account/{checksum_address(address)}", witnessed=witnessed)
        if not answer.has("entry"):
            if floor is not None:
                raise _passed_over(what, None, floor)
            return Account()
        proven = self._log.prove(answer, "entry")
        _require_latest(what, proven, floor)
        for effect in proven.entry.accounts:
            if effect.account == address:
                return account_of(effect)
        raise DishonestError(f"entry {proven.index} does not change {what}")

    def last_seen(self, address: bytes) -> Account | None:
        """An account after the newest entry that was seen here to change it, without asking; None before any."""
        return self._log.accounts.get(Address(address))

    def shown(self, session: Session, evidence: bytes) -> SessionRecord | None:
        """A session as the operation left it that this ledger gave evidence of; None where that is of another one."""
        identity = session_id(session)
        for effect in decode(decode(evidence, LogProof).entry, LogEntry).sessions:
            if effect.session == identity:
                return SessionRecord(session, effect.settled, effect.ceilings)
        return None

    async def session(self, session: bytes) -> SessionRecord | None:
        """A session as of the last entry that changed it; None where the ledger knows of none, or of none any more."""
        found = await self._find_session(session)
        return None if found is None else found[0]

    async def evidence(self, session: bytes) -> bytes:
        """Evidence of the last operation that changed a session. Raises RefusedError where it was never opened."""
        found = await self._find_session(session)
        if found is None:
            raise RefusedError("no such session on this ledger", code="unknown-session")
        return found[1].evidence

    async def _find_session(self, session: bytes) -> tuple[SessionRecord, Proven] | None:
        await self.connect()
        what, floor = f"session {session.hex()}", self._log.floor(session)
        try:
            answer = await self._log.ask(f"session/{session.hex()}")
        except RefusedError as error:
            if error.code != "unknown-session":
                raise
            if floor is not None and not await self._is_forgotten(session):
                raise _passed_over(what, None, floor) from error
            return None
        opened, latest = self._log.prove(answer, "opened"), self._log.prove(answer, "latest")
        _require_latest(what, latest, floor)
        action = opened.entry.op.read()
        if not isinstance(action, Open) or session_id(action.session) != session:
            raise DishonestError(f"entry {opened.index} does not open {what}")
        for effect in latest.entry.sessions:
            if effect.session == session:
                return SessionRecord(action.session, effect.settled, effect.ceilings), latest
        raise DishonestError(f"entry {latest.index} does not change {what}")

    async def _is_forgotten(self, session: bytes) -> bool:
        """Whether the log has gone beyond the grace of a session; True where its opening was not seen here."""
        expiry, rules = self._log.expiries.get(session), await self.connect()
        size = (await self.checkpoint()).size
        return expiry is None or (await self.entry(size - 1)).entry.time > expiry + rules.grace_s

    async def offers(self, model: bytes | None = None, node: bytes | None = None) -> list[bytes]:
        """Sealed offers, of one model or node or of all, as the ledger's own peer has heard them: unchecked.

        Empty where the ledger shows none.
        """
        return await self._http.offers(model, node)

    async def providers(self) -> Mapping[bytes, int]:
        """Who was paid on this ledger, by 20-byte address, and in how many sessions: its word, and a bounded list."""
        await self.connect()
        answer = await self._log.ask("providers")
        return providers_from_json(answer.said.get("providers"))

    async def check_opened(self, session: Session, evidence: bytes) -> None:
        """That a session was opened here, without asking anybody; `connect` comes before.

        The checkpoint that the evidence ends in is held against the ledger's own with the next answer from it.

        Raises PeerError: evidence of something else, or under a checkpoint that is known to be of another history;
        ForkedError where the ledger is known to have two; UnwitnessedError where too few have cosigned it.
        """
        self.forks.require_none()
        check_opened(evidence, session, self._trust.verifier)
        note = decode(evidence, LogProof).checkpoint
        self._witnessed.check(note)
        try:
            self._trust.doubt(note)
        except ContradictionError as error:
            raise self.forks.hold(error) from error


def _require_latest(what: str, proven: Proven, floor: int | None) -> None:
    if floor is not None and proven.index < floor:
        raise _passed_over(what, proven.index, floor)


def _passed_over(what: str, index: int | None, floor: int) -> DishonestError:
    return DishonestError(f"the ledger names entry {index} as the last of {what}, but entry {floor} changed it")
