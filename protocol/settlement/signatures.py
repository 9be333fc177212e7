"""Which signatures an operation carries, and signers that were found before its rule asks for them.

Who signed what depends on no state, and is most of the work of an operation. So it can be found ahead, in any order and
on other cores, while the rules are applied one operation after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.encoding.codec import Message
from protocol.errors import SignatureError
from protocol.identity.eip712 import Domain, recover_typed
from protocol.identity.ids import Address
from protocol.settlement.operations import Action, Equivocation, Open, Release, Settle, SignedOp, Slash

__all__ = ["NOBODY", "KnownSigners", "signatures_in", "signers_of"]

NOBODY = Address(bytes(20))
"""Stands for the signer where a signature is none; nobody has a key of this address."""

Signature = tuple[Message, bytes]
"""What was signed, as typed data, and the 64 bytes."""


def signatures_in(signed: SignedOp) -> list[Signature]:
    """Every signature that the rules may check for an operation, in order. Raises MalformedError."""
    action = signed.read()
    return [(action, signed.signature), *_carried(action)]


def _carried(action: Action) -> Sequence[Signature]:
    match action:
        case Open(session=session, signature=signature) if signature:
            return [(session, signature)]
        case Settle(vouchers=vouchers):
            return [(each.voucher, each.signature) for each in vouchers]
        case Release(discharges=discharges):
            return [(each.discharge, each.signature) for each in discharges]
        case Slash(first=one, second=other):
            return [(one.receipt, one.signature), (other.receipt, other.signature)]
        case Equivocation(first=first, second=second):
            return [(first.checkpoint, first.signature), (second.checkpoint, second.signature)]
    return ()


def signers_of(domain: Domain, signed: SignedOp) -> list[Address]:
    """Who made each of `signatures_in`; `NOBODY` where a signature is none. Raises MalformedError."""
    return [_signer(domain, *each) for each in signatures_in(signed)]


def _signer(domain: Domain, value: Message, signature: bytes) -> Address:
    try:
        return recover_typed(domain, value, signature)
    except SignatureError:
        return NOBODY


class KnownSigners:
    """Signers that were found ahead, for one venue: a `Recover` that finds the others when it is asked."""

    __slots__ = ("_domain", "_known")
    MOST = 16_384
    """Signatures that are remembered; beyond it the oldest are forgotten."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._known: dict[bytes, tuple[Message, Address]] = {}

    def __len__(self) -> int:
        """Signatures that were learned and not asked for."""
        return len(self._known)

    def learn(self, signed: SignedOp, signers: Iterable[Address]) -> None:
        """Take what `signers_of` has said of an operation, and no more of what may follow. Raises MalformedError."""
        for (value, signature), signer in zip(signatures_in(signed), signers, strict=False):
            if signer != NOBODY:
                self._known[signature] = (value, signer)
        while len(self._known) > self.MOST:
            del self._known[next(iter(self._known))]

    def __call__(self, domain: Domain, value: Message, signature: bytes) -> Address:
        """As `recover_typed`. What was learned is told once: rules ask once."""
        known = self._known.pop(signature, None)
        # As pairs: of what is the very same object, which it mostly is, they compare no fields.
        if known is not None and (known[0], self._domain) == (value, domain):
            return known[1]
        return recover_typed(domain, value, signature)
