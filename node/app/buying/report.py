"""What a finished job has to say for itself, in one value: the command line renders it, ``--json`` dumps it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.app.buying.execution import Execution
from node.app.buying.receipts import Kept
from node.app.buying.saying import SaidToken
from node.pipeline.buying.job import HealedLegs, JobResult
from node.pipeline.buying.reclaim import worth_having
from protocol.errors import JoulemeshError
from protocol.identity.ids import BlockSpan, checksum_address
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import Offer
from protocol.policy.policy import Reason
from protocol.session.messages import UNMEASURED, Receipt
from protocol.session.metering import Stint, Work, owed, rates_for, spans, stints

__all__ = ["Healing", "JobReport", "LegReport", "NotTaken", "build_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegReport:
    """One leg as it was served."""

    provider: str
    """Its address."""
    jurisdiction: str
    """Where it says that it stands: ISO 3166-1 alpha-2, or ``ZZ``."""
    blocks: str
    """``START:END``, the end not included: that it served, or where it only stood by, could have served."""
    standby: bool
    """Whether it stood by to take over from another leg."""
    served: str | None
    """Positions of the sequence that it served and every leg signed for, as ``a:b``; None where there are none."""
    replayed: int
    """Positions that it computed again before it could take over."""
    replayed_micro: int
    """Micro-units of what it was paid that are for these."""
    gone: str | None
    """For people: why the answer went on without it; None where it did not."""
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
class Healing:
    """A change of the route in the middle of the answer."""

    session: str
    """Id of the session in which it was, in hex; its legs are meant, which the report lists of the last one."""
    tokens: int
    """Generated tokens that had come, in all sessions."""
    position: int
    """From which the new route serves: what had come beyond it was computed again."""
    gone: tuple[int, ...]
    """Legs that the answer went on without; none where the same route was only made anew."""
    joined: tuple[int, ...]
    """Legs that took over."""
    why: str
    """For people."""
    seconds: float
    """From when it was noticed until all legs had taken up the new route."""
    silent_s: float | None
    """Seconds in which no token came; null where none came afterwards."""


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
    """Its id on the ledger, in hex; of the last one where the answer took several."""
    sessions: int
    """In which tokens came: more than one where a session broke off, and another went on from there."""
    legs: tuple[LegReport, ...]
    """The first route, in the order in which tokens pass it; then those that stood by."""
    healed: tuple[Healing, ...]
    """How the route changed, in order."""
    not_taken: tuple[NotTaken, ...]
    """The other offers of the model."""
    tokens_in: int
    """Prompt tokens."""
    tokens_held: int
    """Of them, those that every leg still held from an earlier session."""
    tokens_out: int
    """Generated tokens that came."""
    paid_tokens: tuple[int, int]
    """Prompt and generated tokens that the last voucher pays."""
    price_in_micro: int
    """Micro-units per million prompt tokens, over all legs."""
    price_out_micro: int
    """Micro-units per million generated tokens, over all legs."""
    paid_micro: int
    """Micro-units, over all legs of the sessions in which tokens came."""
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
    tokens_per_pass: float | None
    """Tokens that came together, on average: 1 without drafts; None where none came."""
    drafts_taken: float | None
    """Of the tokens that were guessed ahead, the share that was right; None where nothing was."""
    windows: int
    """That every leg signed a receipt for."""
    receipt_file: str | None
    """Where the receipt is kept; None where nothing was settled."""
    earlier_receipt_files: tuple[str, ...]
    """Where those are kept of sessions that broke off."""
    unfinished_file: str | None
    """What to go on from (`joule run --resume`) where the answer broke off."""
    verified: bool
    """Whether the receipt verifies offline."""
    proof_bytes: int | None
    """Of all inclusion proofs together; None where it does not verify."""
    log_size: int | None
    """Entries in the ledger that the proofs end in; None where it does not verify, and for a contract."""
    places: tuple[str, ...]
    """Where the venue's books have the last session's opening, settlement and release: entries of a log, or
    transactions of a chain."""
    logprobs: tuple[SaidToken, ...] | None
    """Of the tokens that came in this run, where log probabilities were asked for; null where not."""
    error: dict[str, str] | None
    """``code``, ``message`` and ``hint`` where the answer did not come whole."""
    settle_error: dict[str, str] | None
    """Likewise where what was served could not be settled yet."""


def build_report(
    job: Execution,
    *,
    text: tuple[str, str],
    kept: Kept,
    balance_after_micro: int | None,
    places: Sequence[str] = (),
    earlier: Sequence[Kept] = (),
    unfinished: Path | None = None,
    said: tuple[SaidToken, ...] | None = None,
) -> JobReport:
    """The report of a job for which at least one session was opened.

    Args:
        text: prompt and answer.
        kept: the last session's receipt.
        places: where the venue's books have that session's operations.
        earlier: receipts of sessions that broke off.
        unfinished: where what is left to be done was kept.
        said: log probabilities, where they were asked for.
    """
    result, route, plan = job.results[-1], job.plan.route, job.plan
    tab, terms, answering = result.tab, result.deal.terms, job.answering
    times_s = [at for each in answering for at in each.token_times_s]
    voucher = None if result.pay is None else result.pay.voucher
    stand_by = [chosen.leg.offer for chosen in result.deal.legs[len(terms.route) :]]
    return JobReport(
        model=plan.manifest.name,
        prompt=text[0],
        answer=text[1],
        session=tab.id.hex(),
        sessions=len(answering),
        legs=_legs(result),
        healed=tuple(_healings(answering)),
        not_taken=tuple(_not_taken(offer, reason) for offer, reason in route.explanations if offer not in stand_by),
        tokens_in=answering[0].deal.terms.plan.prompt,
        tokens_held=min((each.start for each in answering[0].tab.joinings), default=0),
        tokens_out=len(job.tokens),
        paid_tokens=(0, 0) if voucher is None else (voucher.tokens_in, voucher.tokens_out),
        price_in_micro=route.price_in,
        price_out_micro=route.price_out,
        paid_micro=sum(sum(each.paid) for each in answering),
        fees_micro=job.fees_micro,
        attempts=len(job.results),
        paid_before_micro=sum(sum(each.paid) for each in job.results if each not in answering),
        balance_before_micro=plan.free_micro,
        balance_after_micro=balance_after_micro,
        claimed_micro=sum(sum(each.unreleased) - sum(each.held) for each in job.results),
        held_micro=sum(sum(each.held) for each in job.results),
        held_until=_held_until(job),
        seconds_to_open=(result.funded_s or result.started_s) - result.started_s,
        seconds_to_first_token=times_s[0] - answering[0].started_s if times_s else None,
        tokens_per_second=_tokens_per_second(times_s),
        windows=sum(len(each.tab.book.windows) for each in answering),
        tokens_per_pass=_tokens_per_pass(answering),
        drafts_taken=_drafts_taken(answering),
        receipt_file=None if kept.file is None else str(kept.file),
        earlier_receipt_files=tuple(str(each.file) for each in earlier if each.file is not None),
        unfinished_file=None if unfinished is None else str(unfinished),
        verified=kept.verified is not None,
        proof_bytes=None if kept.verified is None else kept.verified.proof_bytes,
        log_size=_log_size(kept),
        places=tuple(places),
        logprobs=said,
        error=_error(result.error, unfinished),
        settle_error=_error(result.settle_error),
    )


def _log_size(kept: Kept) -> int | None:
    if kept.verified is None or kept.verified.checkpoint is None:
        return None
    return kept.verified.checkpoint.size


def _held_until(job: Execution) -> int | None:
    rules = job.plan.rules
    open_ends = [
        each.deal.session.expiry + rules.grace_s for each in job.results if worth_having(sum(each.held), rules.fee)
    ]
    return max(open_ends, default=None)


def _tokens_per_second(times_s: Sequence[float]) -> float | None:
    return (len(times_s) - 1) / max(1e-9, times_s[-1] - times_s[0]) if len(times_s) > 1 else None


def _tokens_per_pass(results: Sequence[JobResult]) -> float | None:
    passes = sum(result.passes for result in results)
    return sum(result.tab.generated for result in results) / passes if passes else None


def _drafts_taken(results: Sequence[JobResult]) -> float | None:
    """Of what came together in one pass, all but one token was guessed; rejected rows were guessed in vain."""
    drafted = [result for result in results if result.deal.terms.speculation.depth]
    right = sum(max(0, result.tab.generated - result.passes) for result in drafted)
    wrong = sum(max(result.tab.book.rejected(leg) for leg in range(len(result.deal.legs))) for result in drafted)
    return right / (right + wrong) if right + wrong else None


def _legs(result: JobResult) -> tuple[LegReport, ...]:
    deal, tab = result.deal, result.tab
    found = stints(deal.terms, tab.reroutes, [each.start for each in tab.joinings], base=tab.book.base)
    parts = spans(tab.reroutes)
    return tuple(_leg(result, leg, stint, parts.get(leg)) for leg, stint in enumerate(found))


def _leg(result: JobResult, leg: int, stint: Stint, span: BlockSpan | None) -> LegReport:
    chosen, terms = result.deal.legs[leg].leg, result.deal.terms.legs[leg]
    receipt = _last_receipt(result, leg)
    measured = None if receipt is None or receipt.millijoules == UNMEASURED else receipt.millijoules
    windows = [window for window in result.tab.book.windows if any(each.leg == leg for each in window.route)]
    standby = leg >= len(result.deal.terms.route)
    replayed = stint.joined if standby and windows else 0
    caught_up = replayed if standby else max(0, stint.joined - stint.cached)
    positions = caught_up + sum(window.end - window.start for window in windows)
    rates = rates_for(terms, span)
    return LegReport(
        provider=_address(terms.public_key),
        jurisdiction=chosen.offer.jurisdiction,
        region=chosen.offer.region,
        blocks=str(terms.span if span is None else span),
        standby=standby,
        served=f"{windows[0].start}:{windows[-1].end}" if windows else None,
        replayed=replayed,
        replayed_micro=owed(rates, Work(tokens_in=replayed)) - rates.opening,
        gone=result.gone[leg].message if leg in result.gone else None,
        opening_micro=rates.opening,
        price_in_micro=rates.price_in,
        price_out_micro=rates.price_out,
        paid_micro=result.paid[leg],
        held_micro=result.held[leg],
        late_tokens=0 if receipt is None else receipt.late,
        millijoules=measured,
        energy_source=None if measured is None or receipt is None else str(receipt.source),
        millijoules_per_token=None if measured is None else measured / max(1, positions),
    )


def _last_receipt(result: JobResult, leg: int) -> Receipt | None:
    """The newest that it signed, of those that hold."""
    book = result.tab.book
    signed = [accepted.signed.receipt for accepted in result.tab.closing]
    for window in reversed(book.windows):
        signed += [accepted.signed.receipt for accepted in window.receipts]
    return next((receipt for receipt in signed if receipt.leg == leg), None)


def _healings(answering: Sequence[JobResult]) -> Iterator[Healing]:
    before = 0
    for result in answering:
        yield from (_healing(result, healed, before) for healed in result.healed)
        before += result.tab.generated


def _healing(result: JobResult, healed: HealedLegs, before: int) -> Healing:
    return Healing(
        session=result.tab.id.hex(),
        tokens=before + healed.tokens,
        position=healed.position,
        gone=healed.gone,
        joined=healed.joined,
        why=healed.why,
        seconds=healed.seconds,
        silent_s=_silent_s(result, healed),
    )


def _silent_s(result: JobResult, healed: HealedLegs) -> float | None:
    """The longest wait between two tokens that may be due to it: of those that nobody had signed for, and the next."""
    times = result.token_times_s
    if len(times) <= healed.tokens:
        return None
    first = max(1, healed.position - result.deal.terms.plan.prompt + 1)
    return max((times[at] - times[at - 1] for at in range(first, healed.tokens + 1)), default=None)


def _not_taken(offer: Offer, reason: Reason) -> NotTaken:
    return NotTaken(
        provider=_address(offer.public_key),
        jurisdiction=offer.jurisdiction,
        blocks=str(offer.span),
        reason=reason.sentence,
    )


def _address(public_key: bytes) -> str:
    return checksum_address(address_of_public_key(public_key))


def _error(error: JoulemeshError | None, unfinished: Path | None = None) -> dict[str, str] | None:
    if error is None:
        return None
    hint = error.hint if unfinished is None else f"go on from there with: joule run --resume {unfinished}"
    return {"code": error.code, "message": error.message, "hint": hint}
