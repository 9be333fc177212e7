"""What parties sign to be paid, and what a ledger writes down: sessions, vouchers, receipts, operations, log entries.

The first group is EIP-712 typed data (`eip712`): the embedded ledger and the settlement contract check the very same
bytes. The second group are the ledger's own operations; an `Op` names one by its hash where an EVM chain would have a
transaction. docs/spec/settlement.md says in which order they are used.
"""

from __future__ import annotations

from typing import Annotated

from protocol.codec import Count, Message, Size, encode, message
from protocol.eip712 import Domain, sign_typed, struct_hash
from protocol.ids import U8, U32, U40, U64, AddressBytes, Bytes32, Name, SessionId, SignatureBytes, keccak256
from protocol.signing import SigningKey

__all__ = [
    "ACTIONS",
    "MAX_LEGS",
    "AccountEffect",
    "Close",
    "Deposit",
    "Discharge",
    "Genesis",
    "Leg",
    "LogEntry",
    "Op",
    "Open",
    "Receipt",
    "Session",
    "SessionEffect",
    "Settle",
    "SignedOp",
    "Voucher",
    "Withdraw",
    "action_hash",
    "session_id",
    "sign_op",
]

MAX_LEGS = 16


# Typed data: the money of one job, in the order of its life.


@message()
class Leg(Message):
    """One provider's part of a route."""

    provider: AddressBytes
    """Who is paid."""
    price_in: U64
    """Micro-units per million prompt tokens."""
    price_out: U64
    """Micro-units per million generated tokens."""
    cap: U64
    """Most micro-units that this leg can ever be paid; reserved when the session opens."""


@message("session/1")
class Session(Message):
    """The terms of one job: who pays whom how much, until when, for which model under which policy.

    Its EIP-712 struct hash is the session id, so no term can change afterwards.
    """

    client: AddressBytes
    """Who pays."""
    expiry: U40
    """Unix seconds; nobody serves after it. Vouchers are redeemed until expiry plus the ledger's grace."""
    window: U32
    """Generated tokens that may be served before they are paid."""
    model: Bytes32
    """Model root (`ids.model_root`)."""
    policy: Bytes32
    """Hash of the policy that every hop has to satisfy."""
    salt: Bytes32
    """Makes two sessions on the same terms different."""
    legs: Annotated[tuple[Leg, ...], Count(1, MAX_LEGS)]
    """The route, first block to last."""


@message()
class Voucher(Message):
    """The client's promise, cumulative: pay every leg for this many tokens. A later voucher covers an earlier one."""

    session: Bytes32
    """Session id."""
    tokens_in: U64
    """Prompt tokens paid for."""
    tokens_out: U64
    """Generated tokens paid for."""
    receipts: Bytes32
    """RFC 6962 root over the receipts that the client accepted so far (`receipt.receipts_root`); zero when none."""


@message()
class Receipt(Message):
    """What a provider says it did up to the end of one window; counts are cumulative, commitments are of the window."""

    session: Bytes32
    """Session id."""
    leg: U8
    """Index in the session's legs."""
    tokens_in: U64
    """Prompt tokens processed."""
    tokens_out: U64
    """Generated tokens served."""
    input: Bytes32
    """SHA-256 of what entered the leg in this window: token ids at the first leg, activations at the others."""
    output: Bytes32
    """SHA-256 of what left it: activations, or the sampled token ids at the last leg."""
    fingerprint: Bytes32
    """Keccak-256 of the window's 128-byte sketch (`fingerprint`)."""
    millijoules: U64
    """Energy attributed to this session so far."""


@message()
class Discharge(Message):
    """A provider's word that it claims nothing beyond these counts; with one from every leg a session closes early."""

    session: Bytes32
    """Session id."""
    tokens_in: U64
    """Prompt tokens."""
    tokens_out: U64
    """Generated tokens."""


@message()
class Op(Message):
    """The signed head of a ledger operation."""

    actor: AddressBytes
    """Who acts, and signs."""
    nonce: U64
    """Above every nonce that the actor used before."""
    action: Bytes32
    """Keccak-256 of the action's canonical bytes."""


def session_id(session: Session) -> SessionId:
    """The id that follows from a session's terms."""
    return SessionId(struct_hash(session))


# The ledger's operations.


@message("genesis/1")
class Genesis(Message):
    """Entry 0: who runs this ledger, and under which rules. The only operation that a ledger makes by itself."""

    verifier_key: Name
    """The C2SP verifier key (name, key hash, Ed25519 key) that signs its checkpoints, registered under the actor."""
    grace_s: U32
    """Seconds after a session's expiry in which its vouchers are still redeemed."""
    faucet_limit: U64
    """Most micro-units that the faucet credits to one account; 0 where there is no faucet."""


@message("deposit/1")
class Deposit(Message):
    """The operator credits money that reached it outside. Only the operator may."""

    account: AddressBytes
    """Who is credited."""
    amount: U64
    """Micro-units, above 0."""
    reference: Name
    """The payment behind it, for people; ``faucet`` for play money on a local network."""


@message("withdraw/1")
class Withdraw(Message):
    """Take free money out of the ledger; the operator owes it outside from then on."""

    amount: U64
    """Micro-units, above 0."""
    reference: Name
    """Where it should go, for people."""


@message("open/1")
class Open(Message):
    """Reserve the caps of all legs from the client's free money."""

    session: Session
    """The terms; the actor must be its client."""


@message("settle/1")
class Settle(Message):
    """Redeem a voucher for every leg; anyone may, as often as a newer voucher appears, until expiry plus grace."""

    voucher: Voucher
    """Cumulative; counts at or above those settled before."""
    signature: SignatureBytes
    """The client's, over the voucher."""


@message("close/1")
class Close(Message):
    """Return what is left of the caps to the client: after expiry plus grace, or at once when every leg agrees."""

    session: Bytes32
    """Session id."""
    discharges: Annotated[tuple[SignatureBytes, ...], Count(0, MAX_LEGS)]
    """Each leg's signature over the `Discharge` of the settled counts, in order of legs; empty after the grace."""


ACTIONS = (Genesis, Deposit, Withdraw, Open, Settle, Close)


@message("op/1")
class SignedOp(Message):
    """An operation as it is submitted and logged."""

    actor: AddressBytes
    """Who acts."""
    nonce: U64
    """Above every nonce that the actor used before: a replay is refused."""
    action: Annotated[bytes, Size(1, 8 * 1024)]
    """Canonical bytes of one of `ACTIONS`."""
    signature: SignatureBytes
    """The actor's, over the `Op`."""

    @property
    def op(self) -> Op:
        """What the signature covers."""
        return Op(actor=self.actor, nonce=self.nonce, action=action_hash(self.action))


def action_hash(action: bytes) -> bytes:
    """What an `Op` names an action by."""
    return keccak256(action)


def sign_op(domain: Domain, key: SigningKey, nonce: int, action: Message) -> SignedOp:
    """An operation by `key`, signed for one ledger."""
    data = encode(action)
    op = Op(actor=key.address, nonce=nonce, action=action_hash(data))
    return SignedOp(actor=key.address, nonce=nonce, action=data, signature=sign_typed(domain, op, key))


@message()
class AccountEffect(Message):
    """An account after an operation."""

    account: AddressBytes
    free: U64
    """Micro-units that its owner can spend."""
    nonce: U64
    """Last nonce used."""


@message()
class SessionEffect(Message):
    """A session after an operation."""

    session: Bytes32
    tokens_in: U64
    """Prompt tokens settled."""
    tokens_out: U64
    """Generated tokens settled."""
    reserved: U64
    """Micro-units still held for its legs; 0 once closed."""
    closed: bool


@message("entry/1")
class LogEntry(Message):
    """One leaf of the ledger's Merkle log: an operation, when it was taken, and what it did.

    The effects make a balance provable by one inclusion proof, and let a replay name the first wrong entry.
    """

    time: U40
    """Unix seconds by the ledger's clock; never falls from one entry to the next."""
    op: SignedOp
    accounts: Annotated[tuple[AccountEffect, ...], Count(0, MAX_LEGS + 2)]
    """Every account that the operation changed, in order of address."""
    sessions: Annotated[tuple[SessionEffect, ...], Count(0, 1)]
    """The session that it changed."""
