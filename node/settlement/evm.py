"""A settlement contract on an EVM chain, as nodes and clients use a venue: `ports.Settlement` and `ports.Withdrawals`.

Reading order: rpc, reader (what the chain says), kept (what is on disk), sessions, viewing, gas, sending,
token, this. An operation is done when its block has enough others on top of it (`confirmations`). docs/adr/0030 says
what is proven, and what a chain's node is believed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from node.ports import Clock, Taken
from node.settlement.contract import settlement_contract
from node.settlement.deployment import ContractFacts
from node.settlement.sending import Done, Sender
from node.settlement.token import allowance_of, approval, require_tokens
from node.settlement.viewing import ChainSettings, EvmView, named
from node.venue_address import VenueAddress
from protocol.chain.contract_calls import close_call, open_call, release_call, session_values, settle_call
from protocol.encoding.codec import encode
from protocol.errors import ConfigurationError, InvalidError, MalformedError, RuleError
from protocol.identity.ids import Address, parse_address
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import SignedCheckpoint
from protocol.session.messages import Session, SignedDischarge, SignedReceipt, SignedVoucher
from protocol.settlement import Account, SessionRecord
from protocol.settlement.operations import Equivocation, Slash

__all__ = ["ChainSettings", "EvmVenue", "Moved", "SentTransaction"]

COLLIDED = ("stale", "reverted")
"""Codes of a call that somebody else's came before: with the marks as they stand now it may go."""
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class SentTransaction:
    """A transaction that was done for this process."""

    operation: str
    """The function of the contract, or of the token."""
    name: bytes
    """Its hash."""
    block: int
    gas: int
    """That it took."""
    price: int
    """Wei that each gas cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """An account after an operation of its own."""

    place: str
    """The transaction's hash."""
    time: int
    """Of its block, Unix seconds."""
    account: Account
    """As it stands."""
    earlier: bool = False
    """Whether an earlier call had asked for it, whose end was not told."""


class EvmVenue(EvmView):
    """Reads the contract, and has it do things. Arguments and errors are those of `EvmView`; FundsError where an
    account cannot pay its gas.
    """

    def __init__(
        self, address: VenueAddress, *, folder: Path, clock: Clock, settings: ChainSettings | None = None
    ) -> None:
        super().__init__(address, folder=folder, clock=clock, settings=settings)
        self._sender = Sender(
            self._rpc,
            self._file,
            self._gas,
            confirmations=self._settings.confirmations,
            locks=folder / str(address.contract.chain_id),
            patience_s=self._settings.patience_s,
            stuck_s=self._settings.stuck_s,
        )
        self.sent: list[SentTransaction] = []
        """What was done for this process, in order."""

    async def open(self, session: Session, key: SigningKey) -> bytes:
        """Open a session of this key's own; evidence that it is open, once that is final."""
        self._sessions.remember(session)
        return await self._evidence("open", await self._do("open", key, open_call(session)))

    async def settle(self, vouchers: Sequence[SignedVoucher], key: SigningKey) -> bytes:
        """Redeem vouchers; evidence. RuleError ``settled``: somebody was quicker."""

        async def call() -> bytes:
            records = [await self._now(pay.voucher.session) for pay in vouchers]
            return settle_call(zip(records, vouchers, strict=True))

        return await self._with_marks("settle", call, key)

    async def release(self, discharges: Sequence[SignedDischarge], key: SigningKey) -> bytes:
        """Return what legs of a session do not claim to the client; evidence.

        Discharges of several sessions take an operation for each; the evidence is of the last one.
        """
        evidence = b""
        for session in dict.fromkeys(each.discharge.session for each in discharges):
            words = [each for each in discharges if each.discharge.session == session]

            async def call(session: bytes = session, words: Sequence[SignedDischarge] = words) -> bytes:
                return release_call(await self._now(session), words)

            evidence = await self._with_marks("release", call, key)
        return evidence

    async def close(self, session: bytes, key: SigningKey) -> bytes:
        """After the grace: return what is left to the client; evidence."""

        async def call() -> bytes:
            return close_call(await self._now(session))

        return await self._with_marks("close", call, key)

    async def withdraw(self, amount: int, to: str, key: SigningKey, *, seen: Account) -> Taken:
        """Send free money to an address, once at most for an account seen so: a chain takes no number twice."""
        call = settlement_contract().abi.call("withdraw", _address_of(to), amount)
        done = await self._do("withdraw", key, call, nonce=seen.nonce)
        return Taken(place=named(done.name), actor=key.address, sessions=())

    # What a person asks for. `once`: as `Sender.do` has it, until `told`.

    def told(self, name: str, key: SigningKey) -> None:
        """Whoever asked for a transaction knows what became of it."""
        self._file.told(key.address, bytes.fromhex(name.removeprefix("0x")))

    async def deposit(self, amount: int, key: SigningKey, *, once: bool = False) -> Moved:
        """Pay tokens in; the contract is allowed to take exactly so many. FundsError where there are fewer."""
        facts = await self.connect()
        call = settlement_contract().abi.call("deposit", amount)
        if not (once and self._sender.has_kept(key.address, self._contract.address, call)):
            await self._allow(facts, amount, key)
        return await self._moved("deposit", key, amount, once=once)

    async def _allow(self, facts: ContractFacts, amount: int, key: SigningKey) -> None:
        await require_tokens(self._rpc, facts, key.address, amount)
        units = amount * facts.scale
        allowed = await allowance_of(self._rpc, facts, key.address)
        if allowed < units:
            # Some tokens change an allowance only from or to nothing.
            for allowance in (0, units) if allowed else (units,):
                await self._do("approve", key, approval(facts, allowance), to=facts.token)

    async def withdrawn(self, amount: int, to: str, key: SigningKey, *, once: bool = False) -> Moved:
        """Send free money to an address; to this key's own by default."""
        target = _address_of(to) if to else key.address
        return await self._moved("withdraw", key, target, amount, once=once)

    async def stake(self, amount: int, key: SigningKey, *, once: bool = False) -> Moved:
        """Put free money at stake."""
        return await self._moved("stake", key, amount, once=once)

    async def unstake(self, amount: int, key: SigningKey, *, once: bool = False) -> Moved:
        """Begin to take money out of the stake."""
        return await self._moved("unstake", key, amount, once=once)

    async def unbond(self, key: SigningKey, *, once: bool = False) -> Moved:
        """Free what has left the stake."""
        return await self._moved("unbond", key, once=once)

    async def slash(self, session: Session, proof: Slash, key: SigningKey) -> Moved:
        """Have a leg's stake for two receipts that contradict each other; half of it is this key's."""
        said = (_as_call(proof.first), _split(proof.first), _as_call(proof.second), _split(proof.second))
        return await self._moved("slash", key, session_values(session), *said)

    async def equivocation(self, proof: Equivocation, key: SigningKey) -> Moved:
        """Have the stake here of who has signed two checkpoints of one size for its own ledger."""
        said = (proof.ledger, _as_call(proof.first), _split(proof.first), _as_call(proof.second), _split(proof.second))
        return await self._moved("equivocation", key, *said)

    async def _moved(self, name: str, key: SigningKey, *values: object, once: bool = False) -> Moved:
        done = await self._do(name, key, settlement_contract().abi.call(name, *values), once=once)
        block, account = await self._reader.block(done.block), await self.account(key.address)
        return Moved(place=named(done.name), time=block.time, account=account, earlier=done.earlier)

    async def _do(
        self,
        what: str,
        key: SigningKey,
        data: bytes,
        *,
        to: bytes | None = None,
        nonce: int | None = None,
        once: bool = False,
    ) -> Done:
        await self.connect()
        target = self._contract.address if to is None else to
        done = await self._sender.do(key, target, data, nonce=nonce, once=once)
        self._floor = max(self._floor, done.block)
        self.sent.append(SentTransaction(what, done.name, done.block, done.gas, done.price))
        return done

    async def _now(self, session: bytes) -> SessionRecord:
        """A session as the newest block has it, which is what a call is held against."""
        await self.connect()
        record = await self._sessions.at(session, await self._reader.head(), final=False)
        if record is None:
            raise RuleError("no such session on this contract", code="unknown-session")
        return record

    async def _with_marks(self, what: str, call: Callable[[], Awaitable[bytes]], key: SigningKey) -> bytes:
        """Do what needs sessions as they stand, again where somebody else was quicker."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                return await self._evidence(what, await self._do(what, key, await call()))
            except RuleError as error:
                if error.code not in COLLIDED or not left:
                    raise
        raise RuntimeError("the last attempt returns or raises")

    async def _evidence(self, what: str, done: Done) -> bytes:
        signed = done.signed or (await self._reader.transaction(done.name)).signed
        if signed is None:
            raise MalformedError(f"the chain's node does not show the transaction that did {what}")
        return encode(await self._reader.proof(signed, done.block))


def _as_call(signed: SignedReceipt | SignedCheckpoint) -> tuple[object, ...]:
    """What was signed, as the contract takes it: its fields, in the order in which they are signed."""
    said = signed.receipt if isinstance(signed, SignedReceipt) else signed.checkpoint
    values = (getattr(said, each.name) for each in fields(said))
    return tuple(str(value) if isinstance(value, str) else value for value in values)


def _split(signed: SignedReceipt | SignedCheckpoint) -> tuple[bytes, bytes]:
    return signed.signature[:32], signed.signature[32:]


def _address_of(text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidError:
        raise ConfigurationError(f"{text!r} is no address, and a contract pays to nothing else") from None
