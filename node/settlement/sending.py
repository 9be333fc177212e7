"""Transactions of one's own: numbered, paid for, sent, seen through until they are final, and hurried where they stick.

One at a time is numbered and sent for a key on this machine, whichever process sends it; then each waits by itself.
What was sent is on disk before: after a crash the same call is waited for, and not sent again. What a person asks for
stays there until its end was told (`ChainFile.told`). Where that fails, too,
the contract is what counts: it pays no voucher twice and opens no session twice, so that all that is lost is gas.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.settlement.gas import Gas, Price
from node.settlement.kept import ChainFile, Pending
from node.settlement.rpc import ChainRpc, NodeError, data_of, number_of
from protocol.chain.transaction import Transaction, transaction_hash
from protocol.errors import FundsError, JoulemeshError, LocalError, MalformedError, RuleError, UnreachableError
from protocol.identity.ids import Address, checksum_address
from protocol.identity.signing import SigningKey

__all__ = ["Done", "Sender", "sender_for"]

PATIENCE_S = 180.0
"""Seconds until a transaction that no block holds is left to itself; it may still come."""
STUCK_S = 30
"""Seconds without a block until more is paid."""
POLLS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Between looks; the last one goes on."""
GONE_LOOKS = 8
"""Looks at which a number is used up and no receipt is found, until another transaction must have had it."""
_ATTEMPTS = 8
TRANSFER_GAS = 21_000
"""That a transaction takes which does nothing."""
MOST_WAITING = 256
"""Transactions of one key that no block holds yet."""
_HAD = ("already known", "already imported", "known transaction", "already exists")
_LATE = ("nonce too low", "nonce is too low", "oldnonce")
_TAKEN = (*_LATE, "replacement transaction underpriced", "could not replace")
"""What a node says of a number that another transaction has."""


@dataclass(frozen=True, slots=True)
class Done:
    """A transaction that a final block holds."""

    name: bytes
    """Its hash."""
    signed: bytes | None
    """As it was sent; None where a form was mined that is no longer known."""
    receipt: dict[str, Any]
    block: int
    gas: int
    """That it took."""
    price: int
    """Wei that each gas cost."""
    earlier: bool = False
    """Whether an earlier call has sent it."""


class Sender:
    """Belongs to one event loop.

    Args:
        confirmations: blocks on top of the one that holds a transaction, until it is final.
        locks: folder of the files by which processes take turns.
    """

    def __init__(
        self,
        rpc: ChainRpc,
        file: ChainFile,
        gas: Gas,
        *,
        confirmations: int,
        locks: Path,
        patience_s: float = PATIENCE_S,
        stuck_s: float = STUCK_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._rpc = rpc
        self._file = file
        self._gas = gas
        self._confirmations = confirmations
        self._locks = locks
        self._patience_s = patience_s
        self._stuck_s = stuck_s
        self._now = now
        self._turns: defaultdict[bytes, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._chain_id: int | None = None

    async def do(
        self, key: SigningKey, to: bytes, data: bytes, *, nonce: int | None = None, once: bool = False
    ) -> Done:
        """Have the chain do something, and wait until that is final.

        Args:
            nonce: the only number under which it may be done; RuleError ``nonce`` where another transaction had it.
            once: a call that is repeated, by whatever process, waits for what the one before has sent, or finds what
                became of that, until `told`.

        Raises:
            RuleError: the contract refuses; the code is that of its error.
            FundsError: the key's account cannot pay the gas.
            LocalError: gas costs more than is allowed here.
            UnreachableError: the node does not answer, or no block has taken it in time; it may still come.
        """
        for _ in range(_ATTEMPTS):
            async with self._turn(key.address):
                kept = await self._asked_before(key.address, to, data) if once else None
                pending = kept or await self._sent(key, to, data, nonce)
            done = await self._see_through(key, pending)
            if done is None:
                self._file.drop(key.address, nonce=pending.nonce)
                if nonce is not None:
                    raise RuleError("another transaction of this account came first", code="nonce")
                continue
            if not once:
                self._file.drop(key.address, nonce=pending.nonce)
            try:
                await self._require_taken(done, key.address, to, data)
            except RuleError:
                self._file.drop(key.address, nonce=pending.nonce)
                raise
            return replace(done, earlier=kept is not None)
        raise UnreachableError("other transactions of this account came first each time")

    def has_kept(self, sender: bytes, to: bytes, data: bytes) -> bool:
        """Whether the same was sent, and has no end that was told."""
        return any((each.to, each.data) == (to, data) for each in self._file.pending(sender))

    async def _asked_before(self, sender: bytes, to: bytes, data: bytes) -> Pending | None:
        if not self.has_kept(sender, to, data):
            return None
        _, queued = await self._counts(sender)
        same = [each for each in self._file.pending(sender) if (each.to, each.data) == (to, data)]
        found = next((each for each in same if each.nonce <= queued + MOST_WAITING), None)
        return None if found is None else await self._handed_in_again(found)

    async def _handed_in_again(self, pending: Pending) -> Pending:
        """One that was kept, and whoever kept it may have died before it was sent."""
        with suppress(JoulemeshError):  # had already, or mined: it is looked at again while it is waited for
            await self._hand_in(pending)
        return pending

    @asynccontextmanager
    async def _turn(self, address: Address) -> AsyncIterator[None]:
        """Alone with this key, among all tasks and processes that use this folder."""
        self._locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with self._turns[address]:
            descriptor = os.open(
                self._locks / f"{checksum_address(address)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                while True:
                    with suppress(BlockingIOError):
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    await asyncio.sleep(0.05)
                yield
            finally:
                os.close(descriptor)

    # Numbering and sending

    async def _sent(self, key: SigningKey, to: bytes, data: bytes, nonce: int | None) -> Pending:
        """The transaction, on its way: one that an earlier run of the program has sent, or a new one."""
        mined, queued = await self._counts(key.address)
        # One with a number far beyond was made where a node lied: it would hold up all others.
        waiting = [each for each in self._file.pending(key.address) if mined <= each.nonce <= queued + MOST_WAITING]
        for each in waiting:
            if (each.to, each.data) == (to, data) and nonce in (None, each.nonce):
                return await self._handed_in_again(each)
        free = max([queued, *(each.nonce + 1 for each in waiting)])
        if nonce is not None and nonce < mined:
            raise RuleError("this account has sent another transaction since", code="nonce")
        if nonce is not None and nonce != free:
            raise UnreachableError("an earlier transaction of this account is still under way: wait for it")
        price = await self._gas.price()
        gas = await self._gas.limit(key.address, to, data)
        for _ in range(_ATTEMPTS):
            pending = await self._signed(key, Pending(
                sender=key.address, nonce=free if nonce is None else nonce, to=to, data=data, gas=gas,
                tip=price.tip, max_fee=price.max_fee, hashes=(), signed=b"", touched=0,
            ), price)  # fmt: skip
            self._file.put(pending)
            try:
                await self._hand_in(pending)
            except NodeError as error:
                self._file.drop(key.address, nonce=pending.nonce)
                if not _says(error, _TAKEN) or nonce is not None:
                    raise
                free = max(free + 1, await self._count(key.address, "pending"))
                continue
            except (RuleError, FundsError):
                self._file.drop(key.address, nonce=pending.nonce)
                raise
            except UnreachableError:
                pass  # it may have been taken: it is sent again while it is waited for
            # Where this is stopped before an answer, or none can be read, it may have been taken, too: it stays kept.
            return pending
        raise UnreachableError("others send transactions with this key all the time")

    async def _signed(self, key: SigningKey, pending: Pending, price: Price) -> Pending:
        if self._chain_id is None:
            self._chain_id = await self._rpc.number("eth_chainId")
        transaction = Transaction(
            chain_id=self._chain_id,
            nonce=pending.nonce,
            tip=price.tip,
            max_fee=price.max_fee,
            gas=pending.gas,
            to=pending.to,
            data=pending.data,
        )
        signed, now = transaction.signed(key), int(self._now())
        return pending.again(
            tip=price.tip, max_fee=price.max_fee, signed=signed, name=transaction_hash(signed), now=now
        )

    async def _hand_in(self, pending: Pending) -> None:
        try:
            name = await self._rpc.ask("eth_sendRawTransaction", "0x" + pending.signed.hex())
        except NodeError as error:
            # A number that is used up may be so by this very transaction: an answer was lost.
            if _says(error, _HAD) or (_says(error, _LATE) and await self._is_known(pending.hashes[-1])):
                return
            raise
        if data_of(name, length=32) != pending.hashes[-1]:
            raise MalformedError("the chain's node gives a transaction another name than it has")

    async def _is_known(self, name: bytes) -> bool:
        return await self._rpc.ask("eth_getTransactionByHash", "0x" + name.hex()) is not None

    async def _counts(self, address: bytes) -> tuple[int, int]:
        """Transactions of an account that blocks hold, and with those that wait for one."""
        mined, queued = await self._count(address, "latest"), await self._count(address, "pending")
        if not mined <= queued <= mined + MOST_WAITING:
            raise MalformedError("the chain's node counts more transactions under way than there can be")
        return mined, queued

    async def _count(self, address: bytes, when: str) -> int:
        return await self._rpc.number("eth_getTransactionCount", "0x" + address.hex(), when)

    # Seeing it through

    async def _see_through(self, key: SigningKey, pending: Pending) -> Done | None:
        """Until a final block holds it; None where another transaction has had its number."""
        give_up, looks, gone = time.monotonic() + self._patience_s, 0, 0
        silent: UnreachableError | None = None
        while time.monotonic() < give_up:
            try:
                pending = self._newest(pending)
                done, is_mined = await self._look(pending)
                if done is not None:
                    return done
                if not is_mined:
                    used_up = await self._count(key.address, "latest") > pending.nonce
                    gone = gone + 1 if used_up else 0
                    if gone >= GONE_LOOKS:
                        return None
                    if not used_up:
                        await self._tend(key)
                silent = None
            except UnreachableError as error:
                silent = error  # what was sent is not lost by that
            await asyncio.sleep(POLLS_S[min(looks, len(POLLS_S) - 1)])
            looks += 1
        raise silent or UnreachableError(
            f"transaction 0x{pending.hashes[-1].hex()} is in no final block after {self._patience_s:.0f} s",
            hint="it may still come. A chain that makes a block for each transaction alone needs confirmations = 0",
        )

    def _newest(self, pending: Pending) -> Pending:
        """The same with the forms that another task or process may have sent it in."""
        found = [each for each in self._file.pending(pending.sender) if each.nonce == pending.nonce]
        same = [each for each in found if (each.to, each.data) == (pending.to, pending.data)]
        return same[0] if same else pending

    async def _look(self, pending: Pending) -> tuple[Done | None, bool]:
        """What became of it, once that is final; and whether some block holds it."""
        for name in reversed(pending.hashes):
            said = await self._rpc.ask("eth_getTransactionReceipt", "0x" + name.hex())
            if said is None:
                continue
            if not isinstance(said, dict) or data_of(said.get("transactionHash"), length=32) != name:
                raise MalformedError("the chain's node shows another receipt than was asked for")
            block = number_of(said.get("blockNumber"), bits=64)
            if await self._rpc.number("eth_blockNumber") < block + self._confirmations:
                return None, True
            signed = pending.signed if name == pending.hashes[-1] else None
            gas, price = number_of(said.get("gasUsed"), bits=64), number_of(said.get("effectiveGasPrice", "0x0"))
            return Done(name, signed, said, block, gas, price), True
        return None, False

    async def _tend(self, key: SigningKey) -> None:
        """Look after all that this key has sent and no block holds: what the node has lost is sent again, and the first
        of them is hurried where it sticks.
        """
        now = self._now()
        waiting = self._file.pending(key.address)
        if not any(now - each.touched >= self._stuck_s for each in waiting):
            return
        async with self._turn(key.address):
            mined, queued = await self._counts(key.address)
            waiting = [each for each in self._file.pending(key.address) if mined <= each.nonce <= queued + MOST_WAITING]
            await self._fill(key, range(queued, min((each.nonce for each in waiting), default=0)))
            for place, each in enumerate(waiting):
                if now - each.touched < self._stuck_s:
                    continue
                again = await self._hurried(key, each) if place == 0 else each
                self._file.put(replace(again, touched=int(now)))
                with suppress(NodeError):  # had already, or mined meanwhile, or still too cheap: looked at again later
                    await self._hand_in(again)

    async def _fill(self, key: SigningKey, missing: range) -> None:
        """Use up numbers that others wait for, and under which nothing waits as far as the node knows: it has counted
        wrongly once, or another machine with this key has sent something that was lost.
        """
        for nonce in missing:
            with suppress(NodeError, LocalError, FundsError):  # sent meanwhile, or too dear: looked at again later
                price = await self._gas.price()
                nothing = Pending(
                    sender=key.address, nonce=nonce, to=key.address, data=b"", gas=TRANSFER_GAS,
                    tip=price.tip, max_fee=price.max_fee, hashes=(), signed=b"", touched=0,
                )  # fmt: skip
                await self._hand_in(await self._signed(key, nothing, price))

    async def _hurried(self, key: SigningKey, pending: Pending) -> Pending:
        """The same for more; as it is where that is more than is allowed."""
        try:
            price = await self._gas.raised(Price(pending.tip, pending.max_fee))
        except LocalError:
            return pending
        return await self._signed(key, pending, price)

    async def _require_taken(self, done: Done, sender: bytes, to: bytes, data: bytes) -> None:
        """Raises RuleError where a block holds it, and the contract has refused it there."""
        if done.receipt.get("status") == "0x1":
            return
        call = {"from": "0x" + sender.hex(), "data": "0x" + data.hex(), **({"to": "0x" + to.hex()} if to else {})}
        await self._rpc.ask("eth_call", call, "latest")  # it says why, where that has not changed
        raise RuleError(f"transaction 0x{done.name.hex()} was refused in its block", code="reverted")


@asynccontextmanager
async def sender_for(rpc: ChainRpc, folder: Path, *, confirmations: int, most_gas_price: int) -> AsyncIterator[Sender]:
    """Sends transactions to whatever chain a node is of; what is kept of chains lies in `folder`."""
    chain_id = await rpc.number("eth_chainId")
    file = ChainFile(folder / f"{chain_id}.sqlite")
    try:
        gas = Gas(rpc, most=most_gas_price)
        yield Sender(rpc, file, gas, confirmations=confirmations, locks=folder / str(chain_id))
    finally:
        file.close()


def _says(error: NodeError, words: tuple[str, ...]) -> bool:
    return any(word in error.said for word in words)
