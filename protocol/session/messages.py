"""What parties sign to be paid: sessions, vouchers, receipts, discharges, in the order of a job's life.

All of it is EIP-712 typed data (`eip712`), which the embedded ledger and a settlement contract check alike. What was
agreed stands behind `Session.terms` (`terms`); the ledger's own operations are in `operations`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated

from protocol.encoding.codec import Count, Message, Uint, message
from protocol.energy.tariff import MAX_PUE_MILLI
from protocol.errors import MalformedError, SignatureError
from protocol.identity.eip712 import Domain, Recover, recover_typed, sign_typed, struct_hash
from protocol.identity.ids import MAX_TOKENS, U32, U40, U64, AddressBytes, Bytes32, SessionId, SignatureBytes, Tokens
from protocol.identity.signing import SigningKey
from protocol.market.offer import Provenance
from protocol.routing.routes import MAX_LEGS

__all__ = [
    "MAX_ROWS",
    "UNMEASURED",
    "Discharge",
    "Leg",
    "Receipt",
    "Session",
    "SignedDischarge",
    "SignedReceipt",
    "SignedVoucher",
    "Voucher",
    "check_discharge",
    "check_voucher",
    "session_id",
    "sign_discharge",
    "sign_voucher",
]

MAX_ROWS = 1 << 40
"""That one leg computes in one session: its tokens, again after each reroute, and the drafts that were not taken."""
LegNumber = Annotated[int, Uint(8, MAX_LEGS - 1)]
"""Place of a leg in its session."""
Tokens64 = Annotated[int, Uint(64, MAX_TOKENS)]
"""Like `ids.Tokens`, in the width that it has as typed data."""
UNMEASURED = 2**63 - 1
"""`Receipt.millijoules` where a provider does not know its energy: never 0, which would be a claim."""


@message()
class Leg(Message):
    """One provider's part of a session, as far as the ledger is concerned."""

    provider: AddressBytes
    """Who is paid."""
    cap: U64
    """Most micro-units that this leg can ever be paid; reserved when the session opens."""


@message("session/2", typed=True)
class Session(Message):
    """The money of one job: who pays whom at most how much, until when, and for what.

    Its EIP-712 struct hash is the session id, so nothing of it can change afterwards.
    """

    client: AddressBytes
    """Who pays."""
    expiry: U40
    """Unix seconds; nobody serves after it. Vouchers are redeemed until expiry plus the ledger's grace."""
    terms: Bytes32
    """Hash of everything else that was agreed (`terms.terms_hash`)."""
    salt: Bytes32
    """Makes two sessions on the same terms different."""
    legs: Annotated[tuple[Leg, ...], Count(1, MAX_LEGS)]
    """The route, first block to last, then the standbys."""

    def __hash__(self) -> int:  # what is remembered of a session is looked up with every voucher
        return hash(self.salt)


@functools.lru_cache(maxsize=1024)
def session_id(session: Session) -> SessionId:
    """The name of a session everywhere; asked for with every voucher, so it is remembered."""
    return SessionId(struct_hash(session))


@message(typed=True)
class Voucher(Message):
    """The client's promise, cumulative: so much each leg has earned by now.

    A leg's claim is the greatest amount that it holds a voucher for: whoever signs [10, 5] for one leg and [5, 10] for
    the other owes both ten.
    """

    session: Bytes32
    """Session id."""
    amounts: Annotated[tuple[U64, ...], Count(1, MAX_LEGS)]
    """Micro-units for each leg, in the session's order."""
    tokens_in: Tokens64
    """Prompt tokens that these amounts pay for."""
    tokens_out: Tokens64
    """Generated tokens that they pay for."""
    receipts: Bytes32
    """RFC 6962 root over the receipts that the client accepted so far (`receipt.ReceiptBook.root`); zero when none."""


@message("pay/2")
class SignedVoucher(Message):
    """A voucher with its client's signature."""

    voucher: Voucher
    signature: SignatureBytes


@message(typed=True)
class Discharge(Message):
    """A leg's word that it claims no more than this: what its cap holds beyond returns to the client at once."""

    session: Bytes32
    """Session id."""
    leg: LegNumber
    """Index in the session's legs."""
    amount: U64
    """Micro-units that it has earned in all; 0 where it has refused the order."""


@message()
class SignedDischarge(Message):
    """A discharge with its leg's signature."""

    discharge: Discharge
    signature: SignatureBytes


@message(typed=True)
class Receipt(Message):
    """What a provider says it did in one window, and up to its end.

    Hashes are of this window and fix its bytes; `sketches` are of the window before, under a seed that nobody knew when
    those bytes were fixed (audit.md, clauses F2 to F5). After the last window comes one more receipt for its sketches:
    hashes and nonce are zero there.
    """

    session: Bytes32
    """Session id."""
    leg: LegNumber
    """Index in the session's legs."""
    window: Tokens
    """Index of the window, from 0."""
    tokens_in: Tokens64
    """Prompt tokens of the session that are processed, cumulative."""
    tokens_out: Tokens64
    """Generated tokens of the session, cumulative."""
    rows: Annotated[int, Uint(64, MAX_ROWS)]
    """Rows that this leg computed, cumulative: those thrown away, or computed again, are among them."""
    input: Bytes32
    """SHA-256 of what entered: token ids at the first leg, rows at the others."""
    output: Bytes32
    """SHA-256 of the rows that left its last block."""
    tokens: Bytes32
    """SHA-256 of the token ids that it drew, at the last leg; zero at the others."""
    nonce: Bytes32
    """This leg's part of the window's seed: the next preimage of its nonce chain."""
    sketches: Bytes32
    """Keccak-256 of the window before's seed and two sketches, of what entered and of what left; zero without any."""
    millijoules: U64
    """Energy attributed to this session so far, at the machine; `UNMEASURED` where it is not known."""
    source: Provenance
    """Where that figure comes from."""
    pue_milli: Annotated[int, Uint(32, MAX_PUE_MILLI)]
    """Power usage effectiveness of the site, in thousandths."""
    p50_us: U32
    """Median time that a generated token of this window took here, in microseconds; 0 where there was none."""
    p95_us: U32
    """Time that all but a twentieth of them kept to."""
    late: Tokens64
    """Generated tokens so far that took longer here than the leg's offer says."""


@message("signed-receipt/2")
class SignedReceipt(Message):
    """A receipt and its provider's signature: the leaf of a voucher's receipts root."""

    receipt: Receipt
    signature: SignatureBytes


# The checks that a leg, the ledger and whoever verifies a receipt bundle share


def sign_voucher(domain: Domain, voucher: Voucher, key: SigningKey) -> SignedVoucher:
    """A voucher signed by its client for one ledger."""
    return SignedVoucher(voucher=voucher, signature=sign_typed(domain, voucher, key))


def check_voucher(domain: Domain, session: Session, signed: SignedVoucher, recover: Recover = recover_typed) -> None:
    """Hold a voucher against its session (docs/spec/session.md, clauses V1 to V3).

    Raises:
        MalformedError: for another session, another number of legs, or beyond a cap (code ``cap``).
        SignatureError: not signed by the session's client for this ledger.
    """
    voucher = signed.voucher
    # V1: it is for this session.
    if voucher.session != session_id(session):
        raise MalformedError("the voucher is for another session")
    # V2: the session's client signed it for this ledger.
    if recover(domain, voucher, signed.signature) != session.client:
        raise SignatureError("the voucher is not signed by the session's client for this ledger")
    # V3: an amount for each leg, none above its cap.
    check_amounts(voucher.amounts, session)


def check_amounts(amounts: Sequence[int], session: Session) -> None:
    """Raises MalformedError unless there is one amount for each leg of a session, none above its cap (clause V3)."""
    if len(amounts) != len(session.legs):
        raise MalformedError(f"amounts for {len(amounts)} legs of {len(session.legs)}")
    for index, (amount, leg) in enumerate(zip(amounts, session.legs, strict=True)):
        if amount > leg.cap:
            raise MalformedError(f"the voucher goes beyond the cap of leg {index}", code="cap")


def sign_discharge(domain: Domain, discharge: Discharge, key: SigningKey) -> SignedDischarge:
    """A discharge signed by its leg for one ledger."""
    return SignedDischarge(discharge=discharge, signature=sign_typed(domain, discharge, key))


def check_discharge(
    domain: Domain, session: Session, signed: SignedDischarge, recover: Recover = recover_typed
) -> None:
    """Hold a discharge against its session (docs/spec/session.md, clause V7).

    Raises:
        MalformedError: for another session, or a leg that it does not have.
        SignatureError: not signed by that leg for this ledger.
    """
    discharge = signed.discharge
    if discharge.session != session_id(session) or discharge.leg >= len(session.legs):
        raise MalformedError("the discharge is for another session, or for no leg of it")
    if recover(domain, discharge, signed.signature) != session.legs[discharge.leg].provider:
        raise SignatureError("the discharge is not signed by its leg for this ledger")
