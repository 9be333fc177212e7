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
    legs: tuple[ClaimedLeg, ...]
    """In the order in which tokens pass them, then those that stood by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a bundle proves, beside its claims."""

    verified: bool
    """Always true: a bundle that does not verify is an error."""
    complete: bool
    """Whether the sketches of the last window are in it, too."""
    continues: bytes | None
    """Id of the session that this one goes on from; null for a job that begins anew."""
    base: int
    """So many first positions were served in that session, and its receipt tells of them."""
    amounts: tuple[int, ...]
    """Micro-units paid to each leg."""
    millijoules: tuple[int | None, ...]
    """By each leg's receipts; null where it did not measure, or served nothing."""
    refunded: int
    """Micro-units that went back to the client."""
    held: int
    """Micro-units that are still reserved."""
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
    """Unix seconds of the file's last change: it is written at the end of a job."""
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
    """What a bundle says."""
    from protocol.messages import session_id

    counts, legs = bundle.pay.voucher, zip(bundle.terms.legs, bundle.session.legs, strict=False)
    return Claims(
        session=session_id(bundle.session),
        client=bundle.session.client,
        model=bundle.manifest.name,
        model_root=bundle.manifest.root,
        verifier_key=bundle.verifier_key,
        tokens_in=counts.tokens_in,
        tokens_out=counts.tokens_out,
        windows=len(bundle.windows),
        legs=tuple(
            ClaimedLeg(
                provider=money.provider,
                blocks=str(agreed.span),
                price_in=agreed.rates.price_in,
                price_out=agreed.rates.price_out,
                cap=money.cap,
            )
            for agreed, money in legs
        ),
    )


def proven(verified: Verified) -> Proven:
    """What `verify_bundle` has established."""
    return Proven(
        verified=True,
        complete=verified.complete,
        continues=verified.continues,
        base=verified.base,
        amounts=verified.amounts,
        millijoules=verified.millijoules,
        refunded=verified.refunded,
        held=verified.held,
        checkpoint_size=verified.checkpoint.size,
        checkpoint_root=verified.checkpoint.root,
        proof_bytes=verified.proof_bytes,
    )
