"""What a finished job has to say for itself, in one value: the command line renders it, ``--json`` dumps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.app.execution import Execution
from node.app.receipts import Kept
from node.pipeline.buying.job import JobResult
from node.pipeline.buying.reclaim import worth_having
from protocol.errors import JoulemeshError
from protocol.ids import checksum_address
from protocol.messages import UNMEASURED, Receipt
from protocol.offer import Offer
from protocol.policy import Reason
from protocol.routing import Route
from protocol.signing import address_of_public_key

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
    region: str
    """ISO 3166-2, or empty where it does not say."""
    opening_micro: int
    """Micro-units for taking the job."""
    price_in_micro: int
    """Micro-units per million prompt tokens."""
    price_out_micro: int
    """Micro-units per million generated tokens."""
    paid_micro: int
    """Micro-units that the ledger has paid it, or, where that is not known, that the last voucher promises."""
    held_micro: int
    """Micro-units that are still reserved for it and come back to the client later."""
    late_tokens: int
    """Generated tokens that took it longer than its offer says, by its own receipts."""
    millijoules: int | None
    """What the provider's receipts say; None where it does not measure."""
    energy_source: str | None
    """Where its figure comes from; None where there is none."""
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
    price_in_micro: int
    """Micro-units per million prompt tokens, over all legs."""
    price_out_micro: int
    """Micro-units per million generated tokens, over all legs."""
    paid_micro: int
    """Micro-units, over all legs."""
    fees_micro: int
    """Micro-units that the ledger took for this client's operations, over all attempts."""
    attempts: int
    """Sessions that were opened: more than one where providers did not take the job."""
    paid_before_micro: int
    """Micro-units that providers were paid in the attempts that came to nothing."""
    balance_before_micro: int
    """Micro-units that were free."""
    balance_after_micro: int | None
    """Micro-units; None where the ledger could not be asked."""
    claimed_micro: int
    """Micro-units that providers may still redeem: of what they had computed ahead when the job was cut short, over all
    attempts."""
    held_micro: int
    """Micro-units still reserved for providers that are gone, over all attempts."""
    held_until: int | None
    """Unix seconds when that can be had back; None where nothing is held that is worth an operation."""
    seconds_to_open: float
    """From asking for the session until it was open."""
    seconds_to_first_token: float | None
    """From asking for the session; None where none came."""
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


def build_report(job: Execution, *, text: tuple[str, str], kept: Kept, balance_after_micro: int | None) -> JobReport:
    """The report of a job for which at least one session was opened; `text` is prompt and answer."""
    result, route, plan = job.results[-1], job.plan.route, job.plan
    tab, terms = result.tab, result.deal.terms
    voucher = None if result.pay is None else result.pay.voucher
    return JobReport(
        model=plan.manifest.name,
        prompt=text[0],
        answer=text[1],
        session=tab.id.hex(),
        legs=tuple(_leg(result, route, leg) for leg in range(len(terms.route))),
        not_taken=tuple(_not_taken(offer, reason) for offer, reason in route.explanations),
        tokens_in=terms.plan.prompt,
        tokens_out=tab.generated,
        paid_tokens=(0, 0) if voucher is None else (voucher.tokens_in, voucher.tokens_out),
        price_in_micro=route.price_in,
        price_out_micro=route.price_out,
        paid_micro=sum(result.paid),
        fees_micro=job.fees_micro,
        attempts=len(job.results),
        paid_before_micro=sum(sum(each.paid) for each in job.results[:-1]),
        balance_before_micro=plan.free_micro,
        balance_after_micro=balance_after_micro,
        claimed_micro=sum(sum(each.unreleased) - sum(each.held) for each in job.results),
        held_micro=sum(sum(each.held) for each in job.results),
        held_until=_held_until(job),
        seconds_to_open=(result.funded_s or result.started_s) - result.started_s,
        seconds_to_first_token=result.token_times_s[0] - result.started_s if result.token_times_s else None,
        tokens_per_second=_tokens_per_second(result.token_times_s),
        windows=len(tab.book.windows),
        receipt_file=None if kept.file is None else str(kept.file),
        verified=kept.verified is not None,
        proof_bytes=None if kept.verified is None else kept.verified.proof_bytes,
        log_size=None if kept.verified is None else kept.verified.checkpoint.size,
        error=_error(result.error),
        settle_error=_error(result.settle_error),
    )


def _held_until(job: Execution) -> int | None:
    rules = job.plan.rules
    open_ends = [
        each.deal.session.expiry + rules.grace_s for each in job.results if worth_having(sum(each.held), rules.fee)
    ]
    return max(open_ends, default=None)


def _tokens_per_second(times_s: Sequence[float]) -> float | None:
    return (len(times_s) - 1) / max(1e-9, times_s[-1] - times_s[0]) if len(times_s) > 1 else None


def _leg(result: JobResult, route: Route, leg: int) -> LegReport:
    chosen, terms = route.legs[leg], result.deal.terms.route[leg]
    receipt = _last_receipt(result, leg)
    measured = None if receipt is None or receipt.millijoules == UNMEASURED else receipt.millijoules
    positions = 0 if receipt is None else receipt.tokens_in + max(0, receipt.tokens_out - 1)
    return LegReport(
        provider=_address(terms.public_key),
        jurisdiction=chosen.offer.jurisdiction,
        region=chosen.offer.region,
        blocks=str(terms.span),
        opening_micro=terms.rates.opening,
        price_in_micro=chosen.price_in,
        price_out_micro=chosen.price_out,
        paid_micro=result.paid[leg],
        held_micro=result.held[leg],
        late_tokens=0 if receipt is None else receipt.late,
        millijoules=measured,
        energy_source=None if measured is None or receipt is None else str(receipt.source),
        millijoules_per_token=None if measured is None else measured / max(1, positions),
    )


def _last_receipt(result: JobResult, leg: int) -> Receipt | None:
    tab = result.tab
    rows = [window.receipts for window in tab.book.windows] + ([tab.closing] if tab.closing else [])
    return rows[-1][leg].signed.receipt if rows else None


def _not_taken(offer: Offer, reason: Reason) -> NotTaken:
    return NotTaken(
        provider=_address(offer.public_key),
        jurisdiction=offer.jurisdiction,
        blocks=str(offer.span),
        reason=reason.sentence,
    )


def _address(public_key: bytes) -> str:
    return checksum_address(address_of_public_key(public_key))


def _error(error: JoulemeshError | None) -> dict[str, str] | None:
    return None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
