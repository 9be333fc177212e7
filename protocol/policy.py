"""What a client asks of every node on its route, and why an offer does not meet it. Fails closed.

A policy travels in the job order, and its hash in the session: a node that serves against it does so provably.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from protocol.codec import Count, Message, TextSize, encode, message
from protocol.errors import InvalidError
from protocol.ids import U64, Name, keccak256
from protocol.jurisdictions import UNDECLARED, expand, is_known
from protocol.offer import Evidence, Offer
from protocol.units import ceil_div, format_micro

__all__ = [
    "TIME_PER_TOKEN_US",
    "LatencyClass",
    "Policy",
    "Reason",
    "ReasonCode",
    "excluded",
    "policy_hash",
]


class LatencyClass(StrEnum):
    """How long a client can wait for the next token; distance follows from it."""

    BATCH = "batch"
    """Seconds; anywhere."""
    CHAT = "chat"
    """Half a second to one; some 5,000 km."""
    VOICE = "voice"
    """0.1 to 0.3 s; some 1,000 km."""
    METRO = "metro"
    """Under 50 ms; some 200 km."""
    DEVICE = "device"
    """Under 20 ms: belongs on the client's own device, and is never routed."""


TIME_PER_TOKEN_US: dict[LatencyClass, int] = {
    LatencyClass.BATCH: 10_000_000,
    LatencyClass.CHAT: 1_000_000,
    LatencyClass.VOICE: 300_000,
    LatencyClass.METRO: 50_000,
}
"""Most microseconds for one token round the ring of a route. A class that is not here is not routed."""

Jurisdictions = Annotated[tuple[Annotated[str, TextSize(3)], ...], Count(0, 64)]
"""ISO 3166-1 alpha-2 codes, or names of groups (`jurisdictions.GROUPS`)."""


@message("policy/1")
class Policy(Message):
    """What has to hold for every leg, or for the route as a whole.

    A jurisdiction that is not known is an error: in `deny` it would let through what was meant to be kept out.
    """

    latency_class: LatencyClass
    max_price_in: U64 | None
    """Micro-units per million prompt tokens for the whole route; None for no limit."""
    max_price_out: U64 | None
    """Micro-units per million generated tokens for the whole route; None for no limit."""
    allow: Jurisdictions
    """Where the machines may stand; empty for anywhere."""
    deny: Jurisdictions
    """Where they must not stand; stronger than `allow`."""
    min_evidence: Evidence
    """Least backing of a machine's location."""
    min_stake: U64
    """Micro-units."""
    precision: Name
    """Number format of the model, exactly."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        for code in (*self.allow, *self.deny):
            if not is_known(code):
                raise InvalidError(f"{code!r} is neither an ISO 3166-1 alpha-2 country code nor a known group")


def policy_hash(policy: Policy) -> bytes:
    """32 bytes that name a policy in a session."""
    return keccak256(encode(policy))


class ReasonCode(StrEnum):
    """Why an offer is not taken; stable, for programs."""

    MODEL = "model"
    BLOCKS = "blocks"
    VENUE = "venue"
    EXPIRED = "expired"
    LATENCY_CLASS = "latency-class"
    UNDECLARED = "jurisdiction-undeclared"
    DENIED = "jurisdiction-denied"
    NOT_ALLOWED = "jurisdiction-not-allowed"
    EVIDENCE = "evidence"
    STAKE = "stake"
    PRECISION = "precision"
    ROOM = "room"
    PRICE_CAP = "price-cap"
    TOO_SLOW = "too-slow"
    SUPERSEDED = "superseded"
    UNREACHABLE = "unreachable"
    DEARER = "dearer"
    LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an offer is not taken."""

    code: ReasonCode
    sentence: str
    """For people."""


def excluded(
    policy: Policy, offer: Offer, *, model: bytes, venue: bytes, now: int, tokens_needed: int = 0
) -> Reason | None:
    """The first reason why `offer` must not be used, or None when it may be.

    Args:
        model: root of the model that is wanted.
        venue: domain separator of the ledger that the client pays on.
        tokens_needed: positions of KV that the job takes.
    """
    if offer.model != model:
        return Reason(ReasonCode.MODEL, f"it serves another model, {offer.model_name}")
    if offer.venue != venue:
        return Reason(ReasonCode.VENUE, "it settles on another ledger")
    if offer.expires_at <= now:
        return Reason(ReasonCode.EXPIRED, f"it expired {now - offer.expires_at} s ago")
    if policy.latency_class not in TIME_PER_TOKEN_US:
        return Reason(ReasonCode.LATENCY_CLASS, f"{policy.latency_class} jobs are never sent over a network")
    return _unlawful(policy, offer) or _unfit(policy, offer, tokens_needed)


def _unlawful(policy: Policy, offer: Offer) -> Reason | None:
    where = offer.jurisdiction
    if where == UNDECLARED and (policy.deny or policy.allow):
        return Reason(ReasonCode.UNDECLARED, "it does not say where it stands, and your policy names jurisdictions")
    if where in expand(policy.deny):
        return Reason(ReasonCode.DENIED, f"{where} is among the jurisdictions you deny ({', '.join(policy.deny)})")
    if policy.allow and where not in expand(policy.allow):
        allowed = ", ".join(policy.allow)
        return Reason(ReasonCode.NOT_ALLOWED, f"{where} is not among the jurisdictions you allow ({allowed})")
    if not offer.evidence.reaches(policy.min_evidence):
        text = f"its place is only {offer.evidence}, and you ask for {policy.min_evidence}"
        return Reason(ReasonCode.EVIDENCE, text)
    return None


def _unfit(policy: Policy, offer: Offer, tokens_needed: int) -> Reason | None:
    if offer.stake < policy.min_stake:
        text = f"its stake is {format_micro(offer.stake)}, and you ask for {format_micro(policy.min_stake)}"
        return Reason(ReasonCode.STAKE, text)
    if offer.precision != policy.precision:
        return Reason(ReasonCode.PRECISION, f"it computes in {offer.precision}, and you ask for {policy.precision}")
    if offer.kv_tokens < tokens_needed:
        return Reason(
            ReasonCode.ROOM, f"it has room for {offer.kv_tokens} positions, and the job takes {tokens_needed}"
        )
    return _beyond_limits(policy, offer)


def _beyond_limits(policy: Policy, offer: Offer) -> Reason | None:
    """Limits of the whole route that a single block of this offer already breaks."""
    length = len(offer.span)
    for word, price, cap in (
        ("prompt", offer.price_in, policy.max_price_in),
        ("generated", offer.price_out, policy.max_price_out),
    ):
        if cap is not None and ceil_div(price, length) > cap:
            least, most = format_micro(ceil_div(price, length)), format_micro(cap)
            text = f"one block of it costs {least} per 1M {word} tokens, more than the {most} you pay for a route"
            return Reason(ReasonCode.PRICE_CAP, text)
    limit_us = TIME_PER_TOKEN_US[policy.latency_class]
    if offer.position_us // length > limit_us:
        text = f"one block of it takes {offer.position_us // length} us, and {policy.latency_class} allows {limit_us}"
        return Reason(ReasonCode.TOO_SLOW, text)
    return None
