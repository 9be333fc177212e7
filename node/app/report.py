"""What a finished job has to say for itself, in one value: the command line renders it, ``--json`` dumps it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.pipeline.client import JobResult
from protocol.bundle import Verified
from protocol.errors import JoulemeshError
from protocol.ids import checksum_address
from protocol.metering import leg_amount
from protocol.receipt import UNMEASURED
from protocol.routing import Route

__all__ = ["JobReport", "LegReport", "NotTaken", "build_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegReport:
    """One leg as it was served."""

    provider: str
    """Its address."""
    jurisdiction: str
    """Where it says that it stands: ISO 3166-1 alpha-2, or ``ZZ``."""
    blocks: str
    """``START:END``, the end not included."""
    price_in: int
    """Micro-units per million prompt tokens."""
    price_out: int
    """Micro-units per million generated tokens."""
    paid: int
    """Micro-units by the last voucher."""
    millijoules: int | None
    """What the provider's receipts say; None where it does not measure."""
    energy_source: str | None
    """Where its figure comes from; None where it offers none."""
    millijoules_per_token: float | None
    """By the receipts, over all positions; None where it does not measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """An offer that the route does without, and why."""

    provider: str
    """Its address."""
    jurisdiction: str
    """Where it says that it stands."""
    blocks: str
    """``START:END``, the end not included."""
    reason: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """Everything that people ask about a job afterwards."""

    model: str
    """Its name."""
    prompt: str
    """As it was asked."""
    answer: str
    """As far as it came."""
    session: str
    """Its id on the ledger, in hex."""
    legs: tuple[LegReport, ...]
    """In the order in which tokens pass them."""
    not_taken: tuple[NotTaken, ...]
    """The other offers of the model."""
    tokens_in: int
    """Prompt tokens."""
    tokens_out: int
    """Generated tokens that came."""
    paid_tokens: tuple[int, int]
    """Prompt and generated tokens that the last voucher pays."""
    price_in: int
    """Micro-units per million prompt tokens, over all legs."""
    price_out: int
    """Micro-units per million generated tokens, over all legs."""
    paid: int
    """Micro-units, over all legs."""
    balance_before: int
    """Micro-units that were free."""
    balance_after: int | None
    """Micro-units; None where the ledger could not be asked."""
    held: int
    """Micro-units still reserved; 0 once the session is closed."""
    held_until: int | None
    """Unix seconds when the rest can be had back; None once it is."""
    seconds_to_open: float
    """From the start until the session was open."""
    seconds_to_first_token: float | None
    """From the start; None where none came."""
    tokens_per_second: float | None
    """From the first token to the last; None where there was one at most."""
    windows: int
    """That every leg signed a receipt for."""
    receipt_file: str | None
    """Where the receipt is kept; None where nothing was settled."""
    verified: bool
    """Whether the receipt verifies offline."""
    proof_bytes: int | None
    """Of all inclusion proofs together; None where it does not verify."""
    log_size: int | None
    """Entries in the ledger that the proofs end in."""
    error: dict[str, str] | None
    """``code``, ``message`` and ``hint`` where the answer did not come whole."""
    settle_error: dict[str, str] | None
    """Likewise where what was served could not be settled yet."""


def build_report(
    result: JobResult,
    route: Route,
    *,
    model: str,
    text: tuple[str, str],
    balances: tuple[int, int | None],
    grace_s: int,
    receipt_file: Path | None,
    verified: Verified | None,
) -> JobReport:
    """The report of a job; `text` is prompt and answer, `balances` before and after."""
    tab, terms = result.tab, result.order.session
    counts = tab.paid
    legs = tuple(_leg(result, route, index) for index in range(len(terms.legs)))
    paid = sum(leg_amount(leg, *counts) for leg in terms.legs)
    caps = sum(leg.cap for leg in terms.legs)
    started, funded = result.times[0], result.times[1]
    tokens_at = result.times[3:]
    rate = None
    if len(tokens_at) > 1:
        rate = (len(tokens_at) - 1) / max(1e-9, tokens_at[-1] - tokens_at[0])
    return JobReport(
        model=model,
        prompt=text[0],
        answer=text[1],
        session=tab.session.hex(),
        legs=legs,
        not_taken=tuple(
            NotTaken(
                provider=_short(offer.public_key),
                jurisdiction=offer.jurisdiction,
                blocks=str(offer.span),
                reason=reason.sentence,
            )
            for offer, reason in route.explanations
        ),
        tokens_in=tab.plan.prompt,
        tokens_out=tab.generated,
        paid_tokens=counts,
        price_in=route.price_in,
        price_out=route.price_out,
        paid=paid,
        balance_before=balances[0],
        balance_after=balances[1],
        held=0 if result.closed else caps - paid,
        held_until=None if result.closed else terms.expiry + grace_s,
        seconds_to_open=funded - started,
        seconds_to_first_token=tokens_at[0] - started if tokens_at else None,
        tokens_per_second=rate,
        windows=len(tab.windows),
        receipt_file=None if receipt_file is None else str(receipt_file),
        verified=verified is not None,
        proof_bytes=None if verified is None else verified.proof_bytes,
        log_size=None if verified is None else verified.checkpoint.size,
        error=_error(result.error),
        settle_error=_error(result.settle_error),
    )


def _leg(result: JobResult, route: Route, index: int) -> LegReport:
    leg, offer = result.order.session.legs[index], route.legs[index].offer
    receipts = [window[index][0].receipt for window in result.tab.windows]
    energy = receipts[-1].millijoules if receipts else UNMEASURED
    positions = result.tab.plan.prompt + max(0, (receipts[-1].tokens_out if receipts else 0) - 1)
    measured = None if energy == UNMEASURED else energy
    return LegReport(
        provider=checksum_address(leg.provider),
        jurisdiction=offer.jurisdiction,
        blocks=str(result.order.hops[index].span),
        price_in=leg.price_in,
        price_out=leg.price_out,
        paid=leg_amount(leg, *result.tab.paid),
        millijoules=measured,
        energy_source=None if offer.energy is None else str(offer.energy.source),
        millijoules_per_token=None if measured is None else measured / max(1, positions),
    )


def _short(public_key: bytes) -> str:
    from protocol.signing import address_of_public_key

    return checksum_address(address_of_public_key(public_key))


def _error(error: JoulemeshError | None) -> dict[str, str] | None:
    return None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
