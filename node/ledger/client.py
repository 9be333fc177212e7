"""The ledger as a client sees it: reads that are verified (`reader`), and operations that are proven to be taken.

An operation takes one request: the answer holds its entry with its own proofs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from node.ledger.addresses import Delivery
from node.ledger.asked import Asked, AskedFile, asked_at, wish_of
from node.ledger.reader import LedgerReader
from node.ledger.trust import Question
from node.ledger.verified_log import Proven
from node.ledger.wire import Answer
from node.ledger.witnessed import Witnessed
from node.ports import Taken
from protocol.encoding.codec import decode, encode
from protocol.errors import DishonestError, PeerError, RefusedError, RuleError, UnreachableError
from protocol.identity.ids import Address, checksum_address
from protocol.identity.signing import SigningKey
from protocol.log.tiles import TILE_WIDTH, bundle_of
from protocol.session.messages import Session, SignedDischarge, SignedVoucher
from protocol.settlement import Account
from protocol.settlement.operations import (
    Action,
    Close,
    Deposit,
    LogEntry,
    Open,
    Release,
    Settle,
    SignedOp,
    Withdraw,
    sign_op,
)

__all__ = ["LedgerClient", "TooLongAgoError"]

_NONCE_ATTEMPTS = 32
_LOOKED_THROUGH = 65_536
"""Entries that are read at most to find an operation whose answer was lost."""


class TooLongAgoError(UnreachableError):
    """Whether an operation was taken cannot be looked up any more."""


class LedgerClient(LedgerReader):
    """Reads a ledger and submits operations to it: a `ports.Settlement`. Arguments and errors are those of
    `LedgerReader`.
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
        super().__init__(
            url, remembered=remembered, verifier_key=verifier_key, witnessed=witnessed, timeout_s=timeout_s
        )
        self._acting: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._wishes = None if remembered is None else AskedFile(asked_at(remembered))

    async def disconnect(self) -> None:
        """As `LedgerReader.disconnect`."""
        if self._wishes is not None:
            self._wishes.close()
        await super().disconnect()

    async def open(self, session: Session, key: SigningKey) -> bytes:
        """Open a session of this key's own; evidence that it is open."""
        return await self.submit_open_for(session, b"", key)

    async def submit_open_for(self, session: Session, client_signature: bytes, key: SigningKey) -> bytes:
        """Open a session for its client, who has signed it as typed data (`eip712.sign_typed`); `key` pays the fee."""
        await self.connect()
        self.forks.require_none()
        action = Open(actor=key.address, nonce=0, session=session, signature=client_signature)
        return (await self.submit(action, key, witnessed=True)).evidence

    async def settle(self, vouchers: Sequence[SignedVoucher], key: SigningKey) -> bytes:
        """Redeem vouchers, at most `operations.MAX_SETTLED` at once; evidence."""
        return (await self.submit(Settle(actor=key.address, nonce=0, vouchers=tuple(vouchers)), key)).evidence

    async def release(self, discharges: Sequence[SignedDischarge], key: SigningKey) -> bytes:
        """Return what legs do not claim to the client; evidence."""
        return (await self.submit(Release(actor=key.address, nonce=0, discharges=tuple(discharges)), key)).evidence

    async def close(self, session: bytes, key: SigningKey) -> bytes:
        """After the grace: return what is left to the client; evidence."""
        return (await self.submit(Close(actor=key.address, nonce=0, session=session), key)).evidence

    async def withdraw(self, amount: int, to: str, key: SigningKey, *, seen: Account) -> Taken:
        """Take money out, once at most for an account that stood as `seen`: the ledger takes no nonce twice."""
        action = Withdraw(actor=key.address, nonce=0, amount=amount, reference=to)
        return self.taken((await self.submit(action, key, after=seen.nonce)).evidence)

    async def submit(
        self, action: Action, key: SigningKey, *, after: int | None = None, witnessed: bool = False
    ) -> Proven:
        """Sign `action` with `key`, under its next nonce, and submit it; returns its entry, proven.

        Args:
            after: the only nonce after which it is to be taken; RuleError ``nonce`` where there has been another since.

        Where another front end can answer, the very same bytes are sent there: the nonce lets them in once. When the
        ledger goes away before it answers, the operation may have been taken or not: read the account or the session
        before submitting again.

        Raises RuleError, with the code of the rule, when the ledger's rules reject it, by the history that is known
        here; UnwitnessedError where it was taken, but its evidence is not as `witnessed` asks.
        """
        await self.connect()
        try:
            async with self._acting[key.address]:
                signed, question, answer = await self._submit(action, key, after=after, witnessed=witnessed)
        except RuleError:
            await self.checkpoint()  # a refusal comes without proof: by another history it is none
            raise
        await self._log.follow(question, answer)
        proven = self._prove_taken(answer, own=signed)
        if proven.entry.op != signed:
            raise DishonestError(
                f"the ledger acknowledged an operation as entry {proven.index}, but another one is there"
            )
        if witnessed:
            self._witnessed.check(answer.note)
        return proven

    async def submit_once(self, action: Action, key: SigningKey) -> Proven:
        """As `submit`, for what a person asks for: a call that is repeated, by whatever process, finishes or finds what
        the one before has asked for. So it is until `told` says that the person knows; then it is asked for anew.

        Raises as `submit`, and LocalError where the file of what was asked for cannot be used.
        """
        await self.connect()
        action = action.replace(actor=key.address)
        if self._wishes is None:
            return await self.submit(action, key)
        wish = wish_of(self.verifier_key, action)
        for _ in range(_NONCE_ATTEMPTS):
            asked = self._wishes.find(wish)
            is_earlier = asked is not None
            if asked is None:
                account = await self._account(key.address)
                size = 0 if self._trust.newest is None else self._trust.newest.size
                asked = self._wishes.keep(Asked(wish, account.nonce, size))
            try:
                proven = await self.submit(action, key, after=asked.after)
            except RuleError as error:
                found = await self._asked_before(asked, action, key) if error.code == "nonce" else None
                if found is not None:
                    return replace(found, wish=wish, earlier=True)
                self._wishes.forget(wish)  # refused, or another operation has its number: it is not done, nor will be
                if error.code != "nonce":
                    raise
            else:
                return replace(proven, wish=wish, earlier=is_earlier)
        raise UnreachableError("other operations of this account came first each time")

    def told(self, wish: bytes) -> None:
        """The person knows what became of it."""
        if self._wishes is not None:
            self._wishes.forget(wish)

    async def _asked_before(self, asked: Asked, action: Action, key: SigningKey) -> Proven | None:
        """What an earlier call has had done; None where another operation has its number."""
        signed = sign_op(self.domain, key, action.replace(nonce=asked.after + 1))
        answer = await self._log.ask(f"account/{checksum_address(key.address)}")
        latest = self._prove_taken(answer) if answer.has("entry") else None
        if latest is not None and latest.entry.op == signed:
            return latest
        changed = () if latest is None else latest.entry.accounts
        used = max((each.nonce for each in changed if each.account == key.address), default=0)
        if used <= asked.after:
            raise DishonestError(f"the ledger refuses number {asked.after + 1}, which by its own entries is free")
        try:
            found = await self._find_taken(signed, asked.since, witnessed=False)
        except TooLongAgoError:
            self.told(asked.wish)  # which this error does
            raise
        if found is None:
            return None
        question, answer = found
        await self._log.follow(question, answer)
        return self._prove_taken(answer, own=signed)

    async def _submit(
        self, action: Action, key: SigningKey, *, after: int | None, witnessed: bool
    ) -> tuple[SignedOp, Question, Answer]:
        for left in reversed(range(_NONCE_ATTEMPTS if after is None else 1)):
            last = self._log.nonces.pop(key.address) if after is None else after
            if last is None:
                last = (await self._account(key.address)).nonce
            signed = sign_op(self.domain, key, action.replace(actor=key.address, nonce=last + 1))
            question = self._trust.question()
            query = self._witnessed.query(question) if witnessed else question.query
            delivery = Delivery()
            try:
                answer = await self._http.post(f"ops{query}", encode(signed), delivery)
            except RuleError as error:
                if error.code == "nonce" and delivery.unsure:
                    first = 0 if question.newest is None else question.newest.size
                    found = await self._find_taken(signed, first, witnessed=witnessed)
                    if found is not None:
                        self._log.nonces.put(key.address, max(last + 1, self._log.nonces.get(key.address) or 0))
                        return signed, *found
                # Somebody else used the key meanwhile. The rule rejected this very operation, so another try is safe.
                if error.code == "nonce" and left:
                    continue
                # What a rule rejects uses up no nonce.
                if after is None:
                    self._log.nonces.put(key.address, last)
                raise
            self._log.nonces.put(key.address, max(last + 1, self._log.nonces.get(key.address) or 0))
            return signed, question, Answer.from_json(answer)
        raise RuntimeError("the last attempt returns or raises")

    async def _find_taken(self, signed: SignedOp, first: int, *, witnessed: bool) -> tuple[Question, Answer] | None:
        """The answer of a front end that went away before it gave it; None where it had not taken the operation.

        Args:
            first: entries that the log had when it was signed.

        Raises TooLongAgoError.
        """
        self._http.addresses.read_where_written()
        size = (await self.checkpoint()).size
        if size - first > _LOOKED_THROUGH:
            raise TooLongAgoError(
                "the ledger went away before it said whether it took an operation, and its log has grown too far since",
                hint="look at the account or the session before you do it again",
            )
        for begin in range(first - first % TILE_WIDTH, size, TILE_WIDTH):
            for index, entry in enumerate(await self._http.bundle(bundle_of(begin, size)), begin):
                if _is_of(entry, signed):
                    question = self._trust.question()
                    query = self._witnessed.query(question) if witnessed else question.query
                    return question, Answer.from_json(await self._http.get_json(f"entry/{index}{query}"))
        return None

    def _prove_taken(self, answer: Answer, *, own: SignedOp | None = None) -> Proven:
        try:
            return self._log.prove(answer, "entry", own=own)
        except DishonestError as error:
            raise DishonestError(f"the ledger acknowledged an entry that is not in its log: {error.message}") from error

    async def faucet(self, address: bytes, amount: int) -> Proven:
        """Ask a local network's faucet. Raises RuleError beyond its limit, RefusedError where there is none."""
        rules = await self.connect()
        body = f'{{"account": "{checksum_address(address)}", "amount": "{amount}"}}'
        question = self._trust.question()
        try:
            answer = Answer.from_json(await self._http.post(f"faucet{question.query}", body.encode()))
        except RefusedError as error:
            if (await self.info()).faucet_limit:
                raise
            raise RefusedError("this ledger has no faucet", code="faucet", hint="its operator pays in") from error
        await self._log.follow(question, answer)
        proven = self._prove_taken(answer)
        action = proven.entry.op.read()
        if not isinstance(action, Deposit) or (action.account, action.amount) != (address, amount):
            raise DishonestError(f"entry {proven.index} is not the deposit that the faucet acknowledged")
        if action.actor != rules.operator:
            raise DishonestError(f"entry {proven.index} is not by the ledger's operator")
        return proven


def _is_of(entry: bytes, signed: SignedOp) -> bool:
    """Whether an entry holds this very operation, and not its signature alone."""
    if signed.signature not in entry:
        return False
    try:
        return decode(entry, LogEntry).op == signed
    except PeerError:
        return False
