"""What `joule receipt` says of a bundle: its claims, what it proves, and its line in the list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.bundle import Bundle, Verified

__all__ = ["ClaimedLeg", "Claims", "ListedReceipt", "Proven", "claims", "proven"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLeg:
    """One leg as it was agreed."""

    provider: bytes
    """Its address."""
    blocks: str
    """``START:END``, the end not included."""
    price_in: int
    """Micro-units per million prompt tokens."""
    price_out: int
    """Micro-units per million generated tokens."""
    cap: int
    """Micro-units that were reserved for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a bundle says, verified or not."""

    session: bytes
    """Its id on the ledger."""
    client: bytes
    """Address that paid."""
    model: str
    """Its name."""
    model_root: bytes
    """The hash that stands for all of its files."""
    verifier_key: str
    """Of the ledger."""
    tokens_in: int
    """Prompt tokens that the last voucher pays."""
    tokens_out: int
    """Generated tokens that the last voucher pays."""
    windows: int
    """That the legs signed receipts for."""
    opened_entry: int
    """Ledger entry that opened the session."""
    settled_entry: int
    """Ledger entry that settled the voucher."""
    closed_entry: int | None
    """Ledger entry that closed the session; null where it was still open."""
    legs: tuple[ClaimedLeg, ...]
    """In the order in which tokens pass them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a bundle proves, beside its claims."""

    verified: bool
    """Always true: a bundle that does not verify is an error."""
    amounts: tuple[int, ...]
    """Micro-units paid to each leg."""
    millijoules: tuple[int | None, ...]
    """By each leg's receipts; null where it does not measure."""
    refunded: int | None
    """Micro-units that went back to the client; null while the session is open."""
    checkpoint_size: int
    """Entries in the ledger that the proofs end in."""
    checkpoint_root: bytes
    """Of that ledger."""
    proof_bytes: int
    """Of all inclusion proofs together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedReceipt:
    """A file among the receipts."""

    file: Path
    """Where it is."""
    time: int
    """Unix seconds at which the job was settled; of the file's last change where it does not verify."""
    model: str | None
    """Its name; null where the file is no receipt."""
    tokens_in: int | None
    """Prompt tokens that were paid; null where it does not verify."""
    tokens_out: int | None
    """Generated tokens that were paid; null where it does not verify."""
    paid: int | None
    """Micro-units over all legs; null where it does not verify."""
    verified: bool
    """Whether it verifies offline."""
    error: dict[str, str] | None
    """``code``, ``message`` and ``hint`` where it does not."""


def claims(bundle: Bundle) -> Claims:
    """What a bundle says. Raises MalformedError, SignatureError where not even that can be read."""
    from protocol.messages import session_id
    from protocol.order import JobOrder
    from protocol.signing import open_envelope

    order, _ = open_envelope(bundle.order, JobOrder)
    return Claims(
        session=session_id(order.session),
        client=order.session.client,
        model=bundle.manifest.name,
        model_root=bundle.manifest.root,
        verifier_key=bundle.verifier_key,
        tokens_in=bundle.pay.voucher.tokens_in,
        tokens_out=bundle.pay.voucher.tokens_out,
        windows=len(bundle.windows),
        opened_entry=bundle.opened.index,
        settled_entry=bundle.settled.index,
        closed_entry=None if bundle.closed is None else bundle.closed.index,
        legs=tuple(
            ClaimedLeg(
                provider=leg.provider,
                blocks=str(hop.span),
                price_in=leg.price_in,
                price_out=leg.price_out,
                cap=leg.cap,
            )
            for leg, hop in zip(order.session.legs, order.hops, strict=False)
        ),
    )


def proven(verified: Verified) -> Proven:
    """What `verify_bundle` has established."""
    return Proven(
        verified=True,
        amounts=verified.amounts,
        millijoules=verified.millijoules,
        refunded=verified.refunded,
        checkpoint_size=verified.checkpoint.size,
        checkpoint_root=verified.checkpoint.root,
        proof_bytes=verified.proof_bytes,
    )
