"""The signed job order, and what a provider answers: the promise that starts work, or a reasoned refusal.

`check_order` holds every rule that needs no I/O. The node still owes the rest: is the session open on the ledger, is
there room, and does the price reach its floor.
"""

from __future__ import annotations

from typing import Annotated

from protocol.codec import Count, Message, TextSize, message
from protocol.errors import ExpiredError, MalformedError, RefusedError, SignatureError
from protocol.ids import (
    U8,
    U32,
    U40,
    U64,
    Address,
    BlockSpan,
    Bytes32,
    ModelManifest,
    Name,
    PublicKeyBytes,
    SignatureBytes,
)
from protocol.messages import MAX_LEGS, Session
from protocol.metering import Plan, leg_amount
from protocol.policy import Policy, policy_hash
from protocol.signing import address_of_public_key

__all__ = ["Acceptance", "Hop", "JobOrder", "Refusal", "SamplingTerms", "check_order"]

MAX_ORDER_AGE_S = 120
"""An order older than this is refused, so that a recorded one is of no use."""
CLOCK_SKEW_S = 60


@message()
class Hop(Message):
    """Where one leg of the route is served."""

    public_key: PublicKeyBytes
    """Of the provider; its address is that of the session's leg."""
    data_address: Annotated[str, TextSize(128)]
    """Its data plane, such as ``/ip4/203.0.113.7/tcp/4002/tls``."""
    span: BlockSpan
    """The blocks that it runs for this job."""


@message()
class SamplingTerms(Message):
    """How tokens are drawn: reproducible from these two numbers and the position."""

    temperature_milli: U32
    """Thousandths; 0 is greedy."""
    seed: U64
    """Key of the noise."""


@message("order/1")
class JobOrder(Message):
    """What a client asks of one leg, sealed with the client's key."""

    venue: Bytes32
    """Domain separator of the ledger that the session is on."""
    session: Session
    """Its terms; their hash is the job's name."""
    leg: U8
    """Which leg the receiver is."""
    hops: Annotated[tuple[Hop, ...], Count(1, MAX_LEGS)]
    """The whole route, in order."""
    plan: Plan
    """Counts that fix the windows."""
    policy: Policy
    """Its hash stands in the session."""
    sampling: SamplingTerms
    """How the last leg draws tokens."""
    issued_at: U40
    """Unix seconds."""


@message("acceptance/1")
class Acceptance(Message):
    """A provider's promise to serve an order, sealed with its key."""

    order: Bytes32
    """Keccak-256 of the sealed order."""
    session: Bytes32
    """Session id."""
    leg: U8


@message("refusal/1")
class Refusal(Message):
    """Why a provider will not serve an order, sealed with its key."""

    order: Bytes32
    """Keccak-256 of the sealed order."""
    code: Name
    """Stable, for programs."""
    reason: Annotated[str, TextSize(512)]
    """For people."""
    discharge: SignatureBytes | None
    """The leg's signature over a `Discharge` of zero tokens, so that the client has its reserve back at once."""


def check_order(
    order: JobOrder, signer: Address, *, me: bytes, venue: bytes, manifest: ModelManifest, now: int
) -> None:
    """Hold an order against everything that needs no I/O, cheapest first (docs/spec/session.md, clauses O1 to O7).

    Args:
        me: the receiving provider's 33-byte public key.
        venue: domain separator of the ledger that the provider settles on.
        manifest: the model that it serves.
        now: unix seconds.

    Raises:
        SignatureError, ExpiredError, MalformedError: the order is not a valid one.
        RefusedError: it is valid, but not for this provider.
    """
    terms = order.session
    # O1: the session's client signed it.
    if signer != terms.client:
        raise SignatureError("the order is not signed by the session's client")
    # O2: it is fresh.
    if not now - MAX_ORDER_AGE_S <= order.issued_at <= now + CLOCK_SKEW_S:
        raise ExpiredError("the order is too old, or dated in the future", hint="compare the clocks of both machines")
    if terms.expiry <= now:
        raise ExpiredError("the session has expired")
    # O3: it is for this ledger and this model.
    if order.venue != venue:
        raise RefusedError("this provider settles on another ledger", code="venue")
    if terms.model != manifest.root:
        raise RefusedError("this provider serves another model", code="model")
    # O4: the route covers the model, and names the session's providers.
    _check_hops(order, me, manifest)
    # O5: the policy is the one that the session was opened under.
    if policy_hash(order.policy) != terms.policy:
        raise MalformedError("the policy is not the one in the session")
    _check_counts(order, manifest)


def _check_counts(order: JobOrder, manifest: ModelManifest) -> None:
    # O6: the counts fit the model and the session.
    plan, terms = order.plan, order.session
    if plan.window != terms.window:
        raise MalformedError("the order's window is not the session's")
    if not (plan.prompt and plan.most and plan.chunk and plan.window):
        raise MalformedError("prompt, tokens, chunk and window are at least 1")
    if plan.prompt + plan.most > manifest.max_context:
        raise RefusedError(
            f"{plan.prompt} + {plan.most} tokens do not fit the model's context of {manifest.max_context}",
            code="context",
        )
    # O7: the cap pays for all of it.
    leg = terms.legs[order.leg]
    if leg_amount(leg, plan.prompt, plan.most) > leg.cap:
        raise RefusedError("the session's cap does not pay for the whole order", code="cap")


def _check_hops(order: JobOrder, me: bytes, manifest: ModelManifest) -> None:
    legs = order.session.legs
    if len(order.hops) != len(legs) or order.leg >= len(legs):
        raise MalformedError("the route does not match the session's legs")
    if order.hops[order.leg].public_key != me:
        raise RefusedError("this leg is another provider's", code="not-mine")
    at = 0
    for hop, leg in zip(order.hops, legs, strict=True):
        if hop.span.start != at:
            raise MalformedError(f"the route leaves a gap or overlaps at block {at}")
        if address_of_public_key(hop.public_key) != leg.provider:
            raise MalformedError("a hop's key is not that of its leg's provider")
        at = hop.span.end
    if at != manifest.blocks:
        raise MalformedError(f"the route ends at block {at} of {manifest.blocks}")
