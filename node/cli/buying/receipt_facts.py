"""What `joule receipt` says of a bundle: its claims, what it proves, and its line in the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.chain.chain_evidence import ShownCall
    from protocol.policy.policy import Policy
    from protocol.receipts.bundle import Bundle, Verified

__all__ = [
    "ClaimedLeg",
    "ClaimedReroute",
    "ClaimedSeat",
    "ClaimedTransaction",
    "Claims",
    "Proven",
    "ProvenPlace",
    "Redacted",
    "ServedPart",
    "claims",
    "proven",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLeg:
    """One leg as it was agreed."""

    provider: bytes
    """Its address."""
    blocks: str
    """``START:END``, the end not included; of one that stood by, all that it could have served."""
    standby: bool
    """Whether it stood by, to take over from another one."""
    price_in: int
    """Micro-units per million prompt tokens."""
    price_out: int
    """Micro-units per million generated tokens."""
    cap: int
    """Micro-units that were reserved for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedSeat:
    """One leg's part of a route."""

    leg: int
    """Its place among the legs, from 0."""
    blocks: str
    """``START:END``, the end not included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedReroute:
    """A change of the route in the middle of the answer, as the client signed it."""

    position: int
    """From which the new route serves."""
    route: tuple[ClaimedSeat, ...]
    """All of it, in the order in which tokens pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPart:
    """What one leg did in a stretch of windows, by its receipts."""

    leg: int
    """Its place among the legs, from 0."""
    blocks: str
    """``START:END``, the end not included."""
    windows: str
    """``A:B``, from 0, the end not included."""
    positions: str
    """Of the sequence, ``A:B``, the end not included."""


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
    """Of the ledger; of a contract, where it is: ``evm:CHAIN_ID:CONTRACT``."""
    tokens_in: int
    """Prompt tokens that the last voucher pays."""
    tokens_out: int
    """Generated tokens that the last voucher pays."""
    windows: int
    """That the legs signed receipts for."""
    legs: tuple[ClaimedLeg, ...]
    """In the order in which tokens pass them, then those that stood by."""
    reroutes: tuple[ClaimedReroute, ...]
    """In order; empty where the route never changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """A copy of a receipt without prompt and answer."""

    file: Path
    """Where it was written."""
    session: bytes
    """The session's id on the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenPlace:
    """Where a leg stands."""

    leg: int
    """Its place among the legs, from 0."""
    places: tuple[str, ...]
    """Countries or parts of them, as its offer says."""
    evidence: str
    """How far that is backed: claimed, rtt_consistent, rtt_proven or attested."""
    grounds: tuple[str, ...]
    """What that rests on: attestors, anchors, client; empty for the operator's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTransaction:
    """A transaction that the receipt shows whole, and where it says that the chain holds it."""

    transaction: bytes
    """Its hash."""
    operation: str
    """What it asks for, such as ``settle``."""
    sender: bytes
    """Address of who signed it."""
    block: int
    """Number of the block that is said to hold it."""
    block_hash: bytes
    """Of that block."""
    time: int
    """Of that block, Unix seconds."""
    included: bool
    """Whether the receipt proves that the block with this hash holds it, and has not refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a bundle proves, beside its claims."""

    verified: bool
    """Always true: a bundle that does not verify is an error."""
    withheld: bool
    """Whether prompt and answer are not in it: of their tokens it has the hashes that the legs signed for."""
    complete: bool
    """Whether the sketches of the last window are in it, too."""
    continues: bytes | None
    """Id of the session that this one goes on from; null for a job that begins anew."""
    base: int
    """So many first positions were served in that session, and its receipt tells of them."""
    served: tuple[ServedPart, ...]
    """Who served which windows, by leg; a leg that only stood by is not in it."""
    amounts: tuple[int, ...]
    """Micro-units paid to each leg."""
    millijoules: tuple[int | None, ...]
    """By each leg's receipts; null where it did not measure, or served nothing."""
    refunded: int
    """Micro-units that went back to the client."""
    held: int
    """Micro-units that are still reserved."""
    checkpoint_size: int | None
    """Entries in the ledger that the proofs end in; null for a contract."""
    checkpoint_root: bytes | None
    """Of that ledger; null for a contract."""
    proof_bytes: int
    """Of all inclusion proofs together."""
    places: tuple[ProvenPlace, ...]
    """By leg: where it stands, and how far the receipt itself backs that."""
    asks_law: bool
    """Whether the policy asks anything of places, data or conduct; it is held against each leg and hop."""
    clients_word: tuple[str, ...]
    """What of it rests on the client's word alone."""
    transactions: tuple[ClaimedTransaction, ...]
    """Of a contract: what the receipt says that the chain holds; empty for a ledger."""
    confirmations: int | None
    """Blocks on top of the last of these, by a node of the chain that was asked; null where none was, and for a
    ledger."""
    blocks_known: bool
    """Whether all these are proven to be in blocks whose hashes were given."""
    witnesses: tuple[int, ...]
    """By piece of evidence, the opening first: how many of the witnesses that were named cosigned its checkpoint."""


def claims(bundle: Bundle) -> Claims:
    """What a bundle says."""
    from protocol.session.messages import session_id

    counts, legs = bundle.pay.voucher, zip(bundle.terms.legs, bundle.session.legs, strict=False)
    route = len(bundle.terms.route)
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
                standby=leg >= route,
                price_in=agreed.rates.price_in,
                price_out=agreed.rates.price_out,
                cap=money.cap,
            )
            for leg, (agreed, money) in enumerate(legs)
        ),
        reroutes=tuple(map(_reroute, bundle.reroutes)),
    )


def _reroute(sealed: bytes) -> ClaimedReroute:
    from protocol.identity.signing import open_envelope
    from protocol.session.terms import Reroute

    reroute, _ = open_envelope(sealed, Reroute)
    route = tuple(ClaimedSeat(leg=each.leg, blocks=str(each.span)) for each in reroute.route)
    return ClaimedReroute(position=reroute.position, route=route)


def proven(
    verified: Verified,
    confirmations: int | None = None,
    *,
    blocks_known: bool = False,
    witnesses: tuple[int, ...] = (),
) -> Proven:
    """What `verify_bundle` has established."""
    return Proven(
        verified=True,
        complete=verified.complete,
        withheld=verified.withheld,
        continues=verified.continues,
        base=verified.base,
        served=tuple(_served(verified)),
        amounts=verified.amounts,
        millijoules=verified.millijoules,
        refunded=verified.refunded,
        held=verified.held,
        checkpoint_size=None if verified.checkpoint is None else verified.checkpoint.size,
        checkpoint_root=None if verified.checkpoint is None else verified.checkpoint.root,
        proof_bytes=verified.proof_bytes,
        places=tuple(
            ProvenPlace(leg=leg, places=each.places, evidence=str(each.evidence), grounds=tuple(map(str, each.grounds)))
            for leg, each in enumerate(verified.law)
        ),
        asks_law=asks_law(verified.terms.policy),
        clients_word=tuple(_clients_word(verified)),
        transactions=tuple(map(_transaction, verified.transactions)),
        confirmations=confirmations,
        blocks_known=blocks_known,
        witnesses=witnesses,
    )


def _transaction(shown: ShownCall) -> ClaimedTransaction:
    return ClaimedTransaction(
        transaction=shown.transaction,
        operation=shown.call.action.kind.partition("/")[0],
        sender=shown.call.action.actor,
        block=shown.proof.block,
        block_hash=shown.proof.block_hash,
        time=shown.proof.time,
        included=shown.proof.inclusion is not None,
    )


def asks_law(policy: Policy) -> bool:
    """Whether a policy asks anything beside latency, prices and precision."""
    from protocol.market.offer import Evidence
    from protocol.policy.policy import Policy

    silent = Policy(
        latency_class=policy.latency_class,
        max_price_in=policy.max_price_in,
        max_price_out=policy.max_price_out,
        allow=(),
        deny=(),
        min_evidence=Evidence.CLAIMED,
        min_stake=0,
        precision=policy.precision,
        trust=policy.trust,
        purpose=policy.purpose,
        blocs=policy.blocs,
    )
    return policy != silent


def _clients_word(verified: Verified) -> Iterator[str]:
    from protocol.policy.residency import Ground

    policy = verified.terms.policy
    legs = [leg for leg, each in enumerate(verified.law) if Ground.CLIENT in each.grounds]
    if legs:
        yield f"the round trips to {', '.join(f'leg {leg}' for leg in legs)}, and where they were measured from"
    if policy.origin:
        yield f"that the data come from {policy.origin}, and are for {policy.purpose}"
    if policy.min_stake:
        yield "that each leg had the stake that was asked for"


def _served(verified: Verified) -> Iterator[ServedPart]:
    for leg in range(len(verified.terms.legs)):
        found = [
            (number, window, seat.span)
            for number, window in enumerate(verified.windows)
            for seat in window.route
            if seat.leg == leg
        ]
        if found:  # all in a row: a leg that was left does not come back
            (first, begins, span), (last, ends, _) = found[0], found[-1]
            yield ServedPart(
                leg=leg, blocks=str(span), windows=f"{first}:{last + 1}", positions=f"{begins.start}:{ends.end}"
            )
