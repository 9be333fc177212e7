"""What a ledger is asked to do, and what it writes down: signed operations, their effects, log entries.

An operation is EIP-712 typed data of its own, so a wallet shows its fields. Each has an actor, who pays the ledger's
fee for it. docs/spec/settlement.md says what each requires (clauses L3 to L19).
"""

from __future__ import annotations

import functools
from typing import Annotated

from protocol.encoding.codec import Count, Message, Size, decode, encode, message
from protocol.identity.eip712 import Domain, sign_typed
from protocol.identity.ids import U32, U40, U64, AddressBytes, Bytes32, Name, SignatureBytes
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import SignedCheckpoint
from protocol.routing.routes import MAX_LEGS
from protocol.session.messages import Session, SignedDischarge, SignedReceipt, SignedVoucher

__all__ = [
    "ACTIONS",
    "MAX_SETTLED",
    "AccountEffect",
    "Action",
    "Close",
    "Deposit",
    "Equivocation",
    "Genesis",
    "LogEntry",
    "Notice",
    "Open",
    "Release",
    "SessionEffect",
    "Settle",
    "SignedOp",
    "Slash",
    "Stake",
    "Unbond",
    "Unstake",
    "Withdraw",
    "sign_op",
]

MAX_SETTLED = 8
"""Sessions in one operation."""


class Action(Message):
    """Base of every operation: who acts, and a number that no earlier operation of the same actor has reached."""

    __slots__ = ()
    actor: bytes
    nonce: int


@message("genesis/2", typed=True)
class Genesis(Action):
    """The first entry: whose ledger this is, and its rules."""

    actor: AddressBytes
    """The operator."""
    nonce: U64
    verifier_key: Name
    """C2SP text of the key that signs its checkpoints."""
    grace: U40
    """Seconds after expiry in which vouchers are redeemed."""
    faucet_limit: U64
    """Most micro-units of play money for one account; 0 for none."""
    fee: U64
    """Micro-units that every operation costs its actor, at least 1; the operator's own are free."""
    unbonding: U40
    """Seconds from the last `unstake/2` until what is unbonding can be free again; also the length of a period."""
    notice: U40
    """Seconds that a change of rules is announced before it takes effect."""
    bond_multiple: U32
    """How many times its bond vouchers may pay a provider in one period; 0 for no bound."""


@message("deposit/2", typed=True)
class Deposit(Action):
    """Credit money that reached the operator outside. Only the operator may."""

    actor: AddressBytes
    nonce: U64
    account: AddressBytes
    """Who is credited."""
    amount: U64
    """Micro-units, above 0."""
    reference: Name
    """The payment behind it, for people; ``faucet`` for play money on a local network."""


@message("withdraw/2", typed=True)
class Withdraw(Action):
    """Take free money out of the ledger; the operator owes it outside from then on."""

    actor: AddressBytes
    nonce: U64
    amount: U64
    """Micro-units, above 0."""
    reference: Name
    """Where it should go, for people."""


@message("open/2", typed=True)
class Open(Action):
    """Reserve the caps of all legs from the client's free money. Anyone may submit it who pays the fee."""

    actor: AddressBytes
    nonce: U64
    session: Session
    signature: Annotated[bytes, Size(0, 64)]
    """The client's, over the `Session`; empty where the actor is the client."""


@message("settle/2", typed=True)
class Settle(Action):
    """Redeem vouchers, one for each session; anyone may, as often as one raises something, until expiry plus grace."""

    actor: AddressBytes
    nonce: U64
    vouchers: Annotated[tuple[SignedVoucher, ...], Count(1, MAX_SETTLED)]


@message("release/2", typed=True)
class Release(Action):
    """Return to the client what legs have signed that they do not claim; anyone may submit it."""

    actor: AddressBytes
    nonce: U64
    discharges: Annotated[tuple[SignedDischarge, ...], Count(1, MAX_LEGS)]


@message("close/2", typed=True)
class Close(Action):
    """After expiry plus grace: what is left of the caps returns to the client; anyone may submit it."""

    actor: AddressBytes
    nonce: U64
    session: Bytes32
    """Session id."""


@message("stake/2", typed=True)
class Stake(Action):
    """Put free money at stake: it answers for what this party signs."""

    actor: AddressBytes
    nonce: U64
    amount: U64
    """Micro-units, above 0."""


@message("unstake/2", typed=True)
class Unstake(Action):
    """Begin to take money out of the stake. All that is unbonding waits anew; a penalty reaches it until it is free."""

    actor: AddressBytes
    nonce: U64
    amount: U64
    """Micro-units, above 0."""


@message("unbond/2", typed=True)
class Unbond(Action):
    """After the wait: all that was unbonding is free money again."""

    actor: AddressBytes
    nonce: U64


@message("slash/2", typed=True)
class Slash(Action):
    """Convict a provider by two receipts that it signed under one nonce; half of its stake goes to the actor."""

    actor: AddressBytes
    nonce: U64
    first: SignedReceipt
    """The one whose struct hash is the lower."""
    second: SignedReceipt


@message("equivocation/2", typed=True)
class Equivocation(Action):
    """Convict a ledger's operator by two checkpoints of one size; half of its stake here goes to the actor."""

    actor: AddressBytes
    nonce: U64
    ledger: AddressBytes
    """The verifying contract of the ledger whose log has both: this one, or another whose operator has a stake here."""
    first: SignedCheckpoint
    """The one whose struct hash is the lower."""
    second: SignedCheckpoint


@message("notice/2", typed=True)
class Notice(Action):
    """Announce other rules. Only the operator may; grace, wait, notice and key never change."""

    actor: AddressBytes
    nonce: U64
    effective: U40
    """Unix seconds from which they hold."""
    faucet_limit: U64
    fee: U64
    bond_multiple: U32


ACTIONS: tuple[type[Action], ...] = (
    Genesis,
    Deposit,
    Withdraw,
    Open,
    Settle,
    Release,
    Close,
    Stake,
    Unstake,
    Unbond,
    Slash,
    Equivocation,
    Notice,
)


@message("op/2")
class SignedOp(Message):
    """An operation as it is submitted and logged."""

    action: Annotated[bytes, Size(1, 12 * 1024)]
    """Canonical bytes of one of `ACTIONS`."""
    signature: SignatureBytes
    """The actor's, over the action as typed data."""

    def read(self) -> Action:
        """The action. Raises MalformedError where it is none."""
        return _read(self.action)


@functools.lru_cache(maxsize=4096)
def _read(action: bytes) -> Action:
    # Whoever takes an operation looks into it several times: for its actor, its signatures, its rule, what it credits.
    return decode(action, *ACTIONS)


def sign_op(domain: Domain, key: SigningKey, action: Action) -> SignedOp:
    """An operation signed by its actor for one ledger."""
    return SignedOp(action=encode(action), signature=sign_typed(domain, action, key))


@message()
class AccountEffect(Message):
    """An account after an operation."""

    account: AddressBytes
    free: U64
    """Micro-units that its owner can spend."""
    nonce: U64
    """Last nonce used."""
    bond: U64
    """Micro-units at stake."""
    unbonding: U64
    """Micro-units on their way out of the stake."""
    unlock_at: U64
    """Unix seconds from which those can be free again; 0 where there are none."""
    period: U64
    """The last period in which a bound by bonds was counted; 0 where the ledger has none."""
    claimed: U64
    """Micro-units that vouchers paid it in that period."""


@message()
class SessionEffect(Message):
    """A session after an operation."""

    session: Bytes32
    settled: Annotated[tuple[U64, ...], Count(1, MAX_LEGS)]
    """Micro-units paid to each leg."""
    ceilings: Annotated[tuple[U64, ...], Count(1, MAX_LEGS)]
    """Micro-units that each leg can be paid at most: its cap, or less once it has discharged the rest. What lies
    between the two is reserved."""


@message("entry/2")
class LogEntry(Message):
    """One leaf of the ledger's Merkle log: an operation, when it was taken, and what it did.

    The effects make a balance provable by one inclusion proof, and let a replay name the first wrong entry.
    """

    time: U40
    """Unix seconds by the ledger's clock; never falls from one entry to the next."""
    op: SignedOp
    accounts: Annotated[tuple[AccountEffect, ...], Count(0, MAX_SETTLED * MAX_LEGS + 2)]
    """Every account that the operation changed, in order of address."""
    sessions: Annotated[tuple[SessionEffect, ...], Count(0, MAX_LEGS)]
    """Every session that it changed, in order of id."""
    burned: U64
    """Micro-units that nobody has any more: the part of a penalty that goes to nobody."""
