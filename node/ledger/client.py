"""The ledger as a client sees it: everything read is verified before it is returned.

Against a hostile ledger the client holds: the verifier key, pinned at first use; the newest checkpoint, which every
later one must continue; an inclusion proof for every entry; the signatures in the entry. What it cannot see is an
operation kept from it: a balance is proven by the last entry that the ledger *names*. Who replays the whole log
(`verify`) sees that too.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

from node.ledger.log_source import HttpLog, LogReader
from node.ledger.remembered import Memory
from node.ledger.wire import LedgerInfo, int_field, place_field
from node.ports import Proven
from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.codec import Message, decode, encode
from protocol.eip712 import Domain, recover_typed
from protocol.errors import ConfigurationError, DishonestError, PeerError, RefusedError, RuleError
from protocol.ids import Address, checksum_address
from protocol.merkle import leaf_hash, verify_consistency, verify_inclusion
from protocol.messages import ACTIONS, Deposit, Genesis, LogEntry, Open, SignedOp, session_id, sign_op
from protocol.note import VerifierKey
from protocol.session import Account, Rules, ledger_domain
from protocol.signing import SigningKey

__all__ = ["LedgerClient"]

_NONCE_ATTEMPTS = 32


class LedgerClient:
    """A ledger at an HTTP address, verified. Use as an async context manager, or call `close`.

    Args:
        url: base address, such as ``http://127.0.0.1:8645``.
        remembered: file that keeps the pinned key and the newest checkpoint between runs.
        verifier_key: the ledger's key, where it is known from elsewhere; else the first one seen is trusted.

    Every method raises UnreachableError when the ledger does not answer, DishonestError when it contradicts itself or
    what was remembered of it, and other PeerErrors when it answers with what cannot be read.
    """

    def __init__(
        self, url: str, *, remembered: Path | None = None, verifier_key: str | None = None, timeout_s: float = 30
    ) -> None:
        self._http = HttpLog(url, timeout_s=timeout_s)
        self._reader = LogReader(self._http)
        self._memory = Memory.load(remembered)
        self._pin(verifier_key)
        self._rules: Rules | None = None
        self._connecting = asyncio.Lock()
        self._advancing = asyncio.Lock()
        self._acting: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._nonces: dict[Address, int] = {}
        self._latest: dict[bytes, int] = {}
        """Index of the newest entry known to have changed an account or a session."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _pin(self, verifier_key: str | None) -> None:
        if verifier_key is None:
            return
        given = VerifierKey.parse(verifier_key)
        if self._memory.verifier not in (None, given):
            raise ConfigurationError(
                f"the ledger's key was given as {given}, but {self._memory.verifier} is remembered",
                hint="one of the two is for another ledger",
            )
        self._memory.verifier = given

    # What the ledger is

    @property
    def domain(self) -> Domain:
        """What typed signatures for this ledger carry. Known once the key is: given, remembered, or by `connect`."""
        if self._memory.verifier is None:
            raise RuntimeError("connect to the ledger before signing for it")
        return ledger_domain(str(self._memory.verifier))

    @property
    def url(self) -> str:
        """Where the ledger is."""
        return self._http.url

    async def connect(self) -> Rules:
        """Pin the ledger's key, verify its checkpoint and genesis entry; returns the rules that the genesis fixed.

        Called by the other methods; does its work once.
        """
        async with self._connecting:
            if self._rules is None:
                self._meet(VerifierKey.parse((await self._fetch_info()).verifier_key))
                await self.checkpoint()
                self._rules = self._read_genesis((await self._prove(0)).entry)
            return self._rules

    def _meet(self, found: VerifierKey) -> None:
        if self._memory.verifier is None:
            self._memory.verifier = found
        elif self._memory.verifier != found:
            way_out = "" if self._memory.path is None else f"; to begin with another ledger, remove {self._memory.path}"
            raise DishonestError(
                f"the ledger at {self.url} is {found}, but {self._memory.verifier} is the one you know",
                hint=f"it is another ledger, or somebody poses as yours{way_out}",
            )

    def _read_genesis(self, entry: LogEntry) -> Rules:
        action = decode(entry.op.action, *ACTIONS)
        if not isinstance(action, Genesis) or action.verifier_key != str(self._memory.verifier):
            raise DishonestError(f"the first entry of the ledger at {self.url} is not its genesis")
        return Rules(Address(entry.op.actor), action.verifier_key, action.grace_s, action.faucet_limit)

    async def _fetch_info(self) -> LedgerInfo:
        return LedgerInfo.from_json(await self._http.get_json("info"))

    async def info(self) -> LedgerInfo:
        """Who runs the ledger, under which rules, and the multiaddrs of its peers."""
        rules = await self.connect()
        info = await self._fetch_info()
        if Rules(info.operator, info.verifier_key, info.grace_s, info.faucet_limit) != rules:
            raise DishonestError(f"the ledger at {self.url} says other rules than its genesis entry")
        return info

    # Its log

    async def checkpoint(self) -> Checkpoint:
        """The newest checkpoint: signed by the pinned key, and a continuation of the last one seen. Remembers it."""
        async with self._advancing:
            if self._memory.verifier is None:
                self._meet(VerifierKey.parse((await self._fetch_info()).verifier_key))
            note = await self._http.checkpoint()
            found = self._open(note)
            known = self._memory.checkpoint
            if known is not None:
                await self._require_continues(known, found)
            if known != found:
                self._memory.remember(note)
            return found

    @property
    def note(self) -> bytes | None:
        """The newest checkpoint seen, as its signed note: what is gossiped, and what proofs end in."""
        return self._memory.note

    async def compare(self, note: bytes) -> None:
        """Hold a checkpoint of this ledger that came another way, by gossip for one, against what is seen here.

        Raises DishonestError when the two belong to different histories: the note is then half of the evidence.
        """
        await self.connect()
        other, own = self._open(note), await self.checkpoint()
        await self._require_continues(*sorted((other, own), key=lambda each: each.size))

    def _open(self, note: bytes) -> Checkpoint:
        if self._memory.verifier is None:
            raise RuntimeError("no key to verify with")
        return open_checkpoint(note, self._memory.verifier)

    async def _require_continues(self, old: Checkpoint, new: Checkpoint) -> None:
        try:
            if new.size < old.size:
                raise DishonestError("entries are gone")
            proof = await self._reader.consistency(old.size, new.size) if old.size < new.size else ()
            verify_consistency(old.size, new.size, old.root, new.root, proof)
        except PeerError as error:
            self._reader.forget()
            raise DishonestError(
                f"the ledger at {self.url} contradicts itself: it signed {old}, and now {new} ({error.message})",
                hint="keep the remembered checkpoint: both together are evidence against the ledger's operator",
            ) from error

    async def entry(self, index: int) -> Proven:
        """Entry `index`, proven to be in the log. Raises RefusedError where the log does not reach that far."""
        await self.connect()
        return await self._prove(index)

    async def _prove(self, index: int) -> Proven:
        known = self._memory.checkpoint
        if known is None or known.size <= index:
            known = await self.checkpoint()
        note = self._memory.note
        if known.size <= index or note is None:
            raise RefusedError(f"the log has {known.size} entries, so none at {index}", code="not-found")
        # The newest checkpoint may have moved on meanwhile; the proof is for the one whose note goes with it.
        checkpoint = self._open(note)
        try:
            data = await self._reader.entry(index, checkpoint.size)
            proof = await self._reader.inclusion(index, checkpoint.size)
            verify_inclusion(index, checkpoint.size, leaf_hash(data), proof, checkpoint.root)
        except PeerError:
            self._reader.forget()
            raise
        entry = decode(data, LogEntry)
        if recover_typed(self.domain, entry.op.op, entry.op.signature) != entry.op.actor:
            raise DishonestError(f"entry {index} is not signed by its actor for this ledger")
        self._note_down(entry, index)
        return Proven(entry=entry, index=index, proof=proof, checkpoint=note)

    def _note_down(self, entry: LogEntry, index: int) -> None:
        for key in (*(effect.account for effect in entry.accounts), *(effect.session for effect in entry.sessions)):
            self._latest[key] = max(index, self._latest.get(key, 0))

    # Its state

    async def account(self, address: bytes) -> Account:
        """An account as of the last entry that changed it; the empty account where the ledger names no such entry."""
        await self.connect()
        floor = self._latest.get(address, -1)
        said = await self._http.get_json(f"account/{checksum_address(address)}")
        index = place_field(said, "entry")
        if index is None and floor < 0:
            return Account()
        proven = await self._prove_latest(index, floor, f"account {checksum_address(address)}")
        for effect in proven.entry.accounts:
            if effect.account == address:
                return Account(effect.free, effect.nonce)
        raise DishonestError(f"entry {index} does not change account {checksum_address(address)}")

    async def session(self, session: bytes) -> tuple[Proven, Proven] | None:
        """The entry that opened a session, and the latest one that changed it; None where the ledger knows of none."""
        await self.connect()
        floor = self._latest.get(session, -1)
        try:
            said = await self._http.get_json(f"session/{session.hex()}")
        except RefusedError as error:
            if error.code == "unknown-session" and floor < 0:
                return None
            raise
        what = f"session {session.hex()}"
        latest = await self._prove_latest(int_field(said, "latest"), floor, what)
        opened = await self._prove(int_field(said, "opened"))
        action = decode(opened.entry.op.action, *ACTIONS)
        if not isinstance(action, Open) or session_id(action.session) != session:
            raise DishonestError(f"entry {opened.index} does not open {what}")
        if all(effect.session != session for effect in latest.entry.sessions):
            raise DishonestError(f"entry {latest.index} does not change {what}")
        return opened, latest

    async def _prove_latest(self, index: int | None, floor: int, what: str) -> Proven:
        if index is None or index < floor:
            raise DishonestError(f"the ledger names entry {index} as the last of {what}, but entry {floor} changed it")
        return await self._prove(index)

    # Operations

    async def submit(self, action: Message, key: SigningKey) -> Proven:
        """Sign `action` with `key` and submit it; returns its entry, proven under a checkpoint.

        When the ledger goes away before it answers, the operation may have been taken or not: read the account or the
        session before submitting again.

        Raises RuleError, with the code of the rule, when the ledger's rules reject it.
        """
        await self.connect()
        async with self._acting[key.address]:
            signed, answer = await self._submit(action, key)
        return await self._prove_taken(signed, int_field(answer, "index"))

    async def _submit(self, action: Message, key: SigningKey) -> tuple[SignedOp, dict[str, object]]:
        for left in reversed(range(_NONCE_ATTEMPTS)):
            last = self._nonces.pop(key.address, None)
            if last is None:
                said = await self._http.get_json(f"account/{checksum_address(key.address)}")
                last = int_field(said, "nonce")
            signed = sign_op(self.domain, key, last + 1, action)
            try:
                answer = await self._http.post("ops", encode(signed))
            except RuleError as error:
                # Somebody else used the key meanwhile. The rule rejected this very operation, so another try is safe.
                if error.code != "nonce" or not left:
                    raise
                continue
            self._nonces[key.address] = signed.nonce
            return signed, answer
        raise RuntimeError("the last attempt returns or raises")

    async def _prove_taken(self, signed: SignedOp, index: int) -> Proven:
        proven = await self._prove_acknowledged(index)
        if proven.entry.op != signed:
            raise DishonestError(f"the ledger acknowledged an operation as entry {index}, but another one is there")
        return proven

    async def _prove_acknowledged(self, index: int) -> Proven:
        try:
            return await self._prove(index)
        except RefusedError as error:
            raise DishonestError(f"the ledger acknowledged entry {index}, but signs for no log that has it") from error

    async def faucet(self, address: bytes, amount: int) -> Proven:
        """Ask a local network's faucet. Raises RuleError beyond its limit, RefusedError where there is none."""
        rules = await self.connect()
        body = f'{{"account": "{checksum_address(address)}", "amount": {amount}}}'
        answer = await self._http.post("faucet", body.encode())
        proven = await self._prove_acknowledged(int_field(answer, "index"))
        action = decode(proven.entry.op.action, *ACTIONS)
        if not isinstance(action, Deposit) or (action.account, action.amount) != (address, amount):
            raise DishonestError(f"entry {proven.index} is not the deposit that the faucet acknowledged")
        if proven.entry.op.actor != rules.operator:
            raise DishonestError(f"entry {proven.index} is not by the ledger's operator")
        return proven
