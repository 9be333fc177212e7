"""The ledger as a client sees it: reads that are verified (`reader`), and operations that are proven to be taken.

An operation takes one request: the answer holds its entry with its own proofs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from node.ledger.addresses import Delivery
from node.ledger.reader import LedgerReader
from node.ledger.trust import Question
from node.ledger.verified_log import Proven
from node.ledger.wire import Answer
from node.ledger.witnessed import Witnessed
from node.ports import Taken
from protocol.encoding.codec import encode
from protocol.errors import DishonestError, RuleError, UnreachableError
from protocol.identity.ids import Address, checksum_address
from protocol.identity.signing import SigningKey
from protocol.log.tiles import TILE_WIDTH, bundle_of
from protocol.session.messages import Session, SignedDischarge, SignedVoucher
from protocol.settlement import Account
from protocol.settlement.operations import (
    Action,
    Close,
    Deposit,
    Open,
    Release,
    Settle,
    SignedOp,
    Stake,
    Unbond,
    Unstake,
    Withdraw,
    sign_op,
)

__all__ = ["LedgerClient"]

_NONCE_ATTEMPTS = 32
_LOOKED_THROUGH = 65_536
"""Entries that are read at most to find an operation whose answer was lost."""


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

    async def stake(self, amount: int, key: SigningKey) -> Proven:
        """Put free money at stake."""
        return await self.submit(Stake(actor=key.address, nonce=0, amount=amount), key)

    async def unstake(self, amount: int, key: SigningKey) -> Proven:
        """Begin to take money out of the stake; RuleError ``bond`` where less is there."""
        return await self.submit(Unstake(actor=key.address, nonce=0, amount=amount), key)

    async def unbond(self, key: SigningKey) -> Proven:
        """Free what has left the stake; RuleError ``early`` before the wait is over."""
        return await self.submit(Unbond(actor=key.address, nonce=0), key)

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

        Raises RuleError, with the code of the rule, when the ledger's rules reject it; UnwitnessedError where it was
        taken, but its evidence is not as `witnessed` asks.
        """
        await self.connect()
        async with self._acting[key.address]:
            signed, question, answer = await self._submit(action, key, after=after, witnessed=witnessed)
        await self._log.follow(question, answer)
        proven = self._prove_taken(answer, own=signed)
        if proven.entry.op != signed:
            raise DishonestError(
                f"the ledger acknowledged an operation as entry {proven.index}, but another one is there"
            )
        if witnessed:
            self._witnessed.check(answer.note)
        return proven

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
                    found = await self._find_taken(signed, question, witnessed=witnessed)
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

    async def _find_taken(
        self, signed: SignedOp, before: Question, *, witnessed: bool
    ) -> tuple[Question, Answer] | None:
        """The answer of a front end that went away before it gave it; None where it had not taken the operation.

        Args:
            before: what was known of the log when it was signed.
        """
        self._http.addresses.read_where_written()
        first = 0 if before.newest is None else before.newest.size
        size = (await self.checkpoint()).size
        if size - first > _LOOKED_THROUGH:
            raise UnreachableError(
                "the ledger went away before it said whether it took an operation, and its log has grown too far since",
                hint="look at the account or the session before you do it again",
            )
        for begin in range(first - first % TILE_WIDTH, size, TILE_WIDTH):
            for index, entry in enumerate(await self._http.bundle(bundle_of(begin, size)), begin):
                if signed.signature in entry:
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
        answer = Answer.from_json(await self._http.post(f"faucet{question.query}", body.encode()))
        await self._log.follow(question, answer)
        proven = self._prove_taken(answer)
        action = proven.entry.op.read()
        if not isinstance(action, Deposit) or (action.account, action.amount) != (address, amount):
            raise DishonestError(f"entry {proven.index} is not the deposit that the faucet acknowledged")
        if action.actor != rules.operator:
            raise DishonestError(f"entry {proven.index} is not by the ledger's operator")
        return proven
