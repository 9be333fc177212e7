"""The receipt bundle: all that a client keeps of a job, and the check that needs nothing else and nobody's help.

`verify_bundle` follows docs/spec/receipt.md, clauses R1 to R11; `bundle_file` reads and writes it as JSON.
A bundle holds the prompt and the answer as token ids: whoever has it can read both, but of one `without_text`.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.chain.chain_evidence import ShownCall
from protocol.energy.power import JOB_SLACK_US
from protocol.errors import DishonestError, MalformedError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import ModelManifest
from protocol.log.checkpoint import Checkpoint
from protocol.market.offer import Offer
from protocol.policy.policy import Needs
from protocol.policy.trust import Trust
from protocol.receipts.bundle_law import LegLaw, check_hops, judged, law_behind, open_round_trips
from protocol.receipts.bundle_ledger import Entry, check_opening, check_settlement, domain_of, read_evidence
from protocol.receipts.bundle_text import check_text, check_tokens
from protocol.session.continuing import continued
from protocol.session.draws import check_nonce, nonces_up_to
from protocol.session.messages import (
    UNMEASURED,
    Session,
    SignedReceipt,
    SignedVoucher,
    check_voucher,
)
from protocol.session.metering import (
    chain_length,
    earned,
    last_position,
    paid_limit,
    positions_of,
    reserved_caps,
    served,
    spans,
    stints,
    window_end,
)
from protocol.session.order import Acceptance, check_acceptance, check_offer_of
from protocol.session.receipt import Accepted, Window, check_spent
from protocol.session.receipt_book import ReceiptBook
from protocol.session.terms import Reroute, Terms, check_terms, open_reroutes

__all__ = ["Bundle", "Verified", "verify_bundle", "without_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A job's evidence."""

    verifier_key: str
    """Of the ledger; of a contract, where it is: ``evm:CHAIN_ID:CONTRACT``."""
    manifest: ModelManifest
    terms: Terms
    session: Session
    offers: tuple[bytes, ...]
    """By leg: its sealed offer, which the terms name."""
    acceptances: tuple[bytes, ...]
    """By leg: its sealed acceptance; empty bytes for a leg that accepted nothing."""
    reroutes: tuple[bytes, ...] = ()
    """Sealed by the client, in order."""
    tokens: tuple[int, ...] | None
    """Token ids, prompt first, as far as receipts cover them; None where they are withheld, and with them `said`,
    `text` and `transcript`."""
    said: tuple[bytes, ...] = ()
    """By generated token of these, its log probabilities (`logprobs.unpack_said`), where the terms ask for them."""
    windows: tuple[tuple[tuple[SignedReceipt, bytes], ...], ...]
    """For each window, each leg's receipt and the sketches that it shows; then, where there is one, the closing row."""
    nonce: bytes | None
    """The client's nonce of the last window; None without windows."""
    pay: SignedVoucher
    """The last voucher."""
    opened: bytes
    """Evidence that the session was opened."""
    settled: bytes
    """Evidence of the operation that settled it, or of a later one."""
    released: bytes | None = None
    """Evidence of the last operation on it, where that is another one."""
    transcript: bytes | None = None
    """Sealed `Transcript`."""
    text: tuple[str, str] | None = None
    """Prompt and answer for people; held against the transcript."""
    trust: Trust | None = None
    """Whom the policy believes about places; None where it believes nobody."""
    lists: tuple[bytes, ...] = ()
    """Sealed, in the order of the policy."""
    measured: bytes | None = None
    """Sealed `bundle_law.RoundTrips`; None where the client has measured none, or shows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a bundle proves once `verify_bundle` has returned."""

    terms: Terms
    session: Session
    domain: Domain
    offers: tuple[Offer, ...]
    tokens_in: int
    """Prompt tokens that were paid for."""
    tokens_out: int
    """Generated tokens that were paid for."""
    amounts: tuple[int, ...]
    """Micro-units paid to each leg."""
    millijoules: tuple[int | None, ...]
    """What each leg says it spent; None where it did not measure, or served nothing."""
    continues: bytes | None
    """Id of the session that this one goes on from; None where it begins anew."""
    base: int
    """So many of its first positions only that session's receipts tell of."""
    starts: tuple[int, ...]
    """By leg of the terms' route, the first position that it computed in this session."""
    windows: tuple[Window, ...]
    sketches: tuple[dict[int, bytes], ...]
    """For each window whose sketches are in: by leg, of what entered and of what left."""
    seeds: tuple[bytes, ...]
    """For each window, what it was sketched under."""
    complete: bool
    """Whether the sketches of the last window are in, too."""
    withheld: bool
    """Whether the tokens are not in it: whose hashes the legs signed for, nobody sees."""
    refunded: int
    """Micro-units that went back to the client."""
    held: int
    """Micro-units that are still reserved."""
    checkpoint: Checkpoint | None
    """The newest one that the proofs end in; None for a contract."""
    proof_bytes: int
    """Size of all inclusion proofs together."""
    law: tuple[LegLaw, ...]
    """By leg: where it stands, and how far that is backed."""
    transactions: tuple[ShownCall, ...]
    """On a chain. That it has the blocks which are said to hold them is taken on trust, and without an inclusion that
    they do; empty for a ledger, whose log shows that."""
    seed: bytes
    """32 bytes that nobody knew while the job was served, to draw spot checks by (docs/spec/audit.md, F10)."""


def without_text(bundle: Bundle) -> Bundle:
    """The same evidence for eyes that are not to read prompt and answer: of their tokens it has the signed hashes."""
    return dataclasses.replace(bundle, tokens=None, said=(), text=None, transcript=None)


def verify_bundle(bundle: Bundle) -> Verified:
    """Hold a bundle against itself. The caller still owes: that it trusts `bundle.verifier_key`, and, of a
    contract, that the chain has the blocks of the transactions that it gets back.

    Raises:
        MalformedError, SignatureError, DishonestError, ExpiredError: the first thing that does not hold.
    """
    domain, terms, session = domain_of(bundle.verifier_key), bundle.terms, bundle.session
    # R1: the terms are the session's, for this ledger and this model, and hold together.
    _require(terms.venue == domain.separator, "the terms are for another ledger")
    _require(terms.model == bundle.manifest.root, "the manifest is not that of the model in the terms")
    _require(terms.policy.precision == bundle.manifest.precision, "the model is in another precision than was asked")
    check_terms(terms, session, blocks=bundle.manifest.blocks)
    _require(
        terms.plan.prompt + terms.plan.most <= bundle.manifest.max_context, "the plan does not fit the model's context"
    )
    # R2: each leg's rates come from its own offer, which the policy admits; each leg that served agreed to all of it.
    offers = _check_offers(bundle)
    backed = _check_law(bundle, offers)
    acceptances = _check_acceptances(bundle)
    # R3: the ledger's entries stand in its log, and no two of its checkpoints contradict each other.
    proven = read_evidence((bundle.opened, bundle.settled, bundle.released), bundle.verifier_key, session)
    # R4: the opening entry opened this very session, with its caps reserved, while all its offers were in force.
    check_opening(proven.entries[0], session, offers)
    # R5 to R8: every window's receipts are signed, meet their neighbours' and the tokens, and show their sketches.
    reroutes = open_reroutes(bundle.reroutes, terms, session, blocks=bundle.manifest.blocks)
    check_hops(terms, session, offers, reroutes)
    book, complete = _check_windows(bundle, domain, reroutes, acceptances)
    # R9: the voucher is the client's, names exactly these receipts, and pays for what they show.
    check_voucher(domain, session, bundle.pay)
    _check_payment(bundle, book, reroutes, acceptances)
    # R10: it was settled; what was left went back, or is still reserved.
    final = check_settlement(proven.entries, session, bundle.pay.voucher, domain)
    _check_spent(bundle, offers, proven.entries)
    # R11: the text is what the client says that the tokens read as.
    check_text(bundle.text, bundle.transcript, session, withheld=bundle.tokens is None)
    counts = bundle.pay.voucher
    return Verified(
        terms=terms,
        session=session,
        domain=domain,
        offers=offers,
        tokens_in=counts.tokens_in,
        tokens_out=counts.tokens_out,
        amounts=final.settled,
        millijoules=_energy(bundle, len(terms.legs)),
        continues=None if terms.continues is None else terms.continues.session,
        base=book.base,
        starts=tuple(each.start for each in continued(terms, acceptances)),
        windows=tuple(book.windows),
        sketches=tuple(book.sketches[: book.shown]),
        seeds=tuple(book.seeds),
        complete=complete,
        withheld=bundle.tokens is None,
        refunded=reserved_caps(session) - sum(final.ceilings),
        held=sum(final.ceilings) - sum(final.settled),
        checkpoint=proven.newest,
        proof_bytes=proven.proof_bytes,
        law=backed,
        transactions=proven.transactions,
        seed=proven.seed,
    )


def _check_offers(bundle: Bundle) -> tuple[Offer, ...]:
    terms = bundle.terms
    _require(len(bundle.offers) == len(terms.legs), "an offer is missing")
    offers = []
    for leg, (agreed, sealed) in enumerate(zip(terms.legs, bundle.offers, strict=True)):
        offer = check_offer_of(agreed, sealed, terms, now=None)
        _require(offer.blocks == bundle.manifest.blocks, f"the offer of leg {leg} is for another number of blocks")
        # Credit beyond the offer's is what the leg remembered of its client, and agreed to in its acceptance.
        fits = terms.speculation.depth <= offer.limits.draft_depth
        _require(fits, f"leg {leg} was asked for more than it offered")
        offers.append(offer)
    for word, most in (("price_in", terms.policy.max_price_in), ("price_out", terms.policy.max_price_out)):
        price = sum(getattr(leg.rates, word) for leg in terms.route)
        _require(most is None or price <= most, "the route costs more than the policy allows")
    return tuple(offers)


def _check_law(bundle: Bundle, offers: Sequence[Offer]) -> tuple[LegLaw, ...]:
    """That the policy admits each leg. Stake and free places are what the client knew, which no bundle proves."""
    terms, plan = bundle.terms, bundle.terms.plan
    law = law_behind(terms, bundle.session, bundle.trust, bundle.lists)
    trips = open_round_trips(bundle.measured, bundle.session)
    needs = Needs(positions=last_position(plan), window=plan.window, chunk=plan.chunk, law=law)
    licenses = terms.policy.licenses
    _require(not licenses or bundle.manifest.license in licenses, "the policy does not admit the model's licence")
    return tuple(judged(leg, offer, terms, needs, trips[leg]) for leg, offer in enumerate(offers))


def _check_acceptances(bundle: Bundle) -> dict[int, Acceptance]:
    terms, session = bundle.terms, bundle.session
    _require(len(bundle.acceptances) == len(terms.legs), "an acceptance is missing")
    return {
        leg: check_acceptance(sealed, session, terms, leg)
        for leg, sealed in enumerate(bundle.acceptances)
        if sealed or leg < len(terms.route)
    }


def _check_windows(
    bundle: Bundle, domain: Domain, reroutes: Sequence[Reroute], acceptances: dict[int, Acceptance]
) -> tuple[ReceiptBook, bool]:
    plan = bundle.terms.plan
    anchors = {leg: each.nonces for leg, each in acceptances.items()}
    nonces = _client_nonces(bundle)
    joined = continued(bundle.terms, acceptances)
    base, starts = joined[0].base, [each.start for each in joined]
    book = ReceiptBook(domain, bundle.session, bundle.terms, anchors, nonces.__getitem__, base=base, starts=starts)
    rows = [tuple(Accepted(*each) for each in row) for row in bundle.windows]
    to_come = deque(reroutes)
    for number, row in enumerate(rows):
        if not row:
            raise MalformedError(f"window {number} has no receipts at all")
        _take_reroutes(book, to_come)
        if row[0].signed.receipt.nonce == bytes(32):
            _require(number == len(rows) - 1, "a closing row of receipts stands before the end")
            book.take_closing(row)
            break
        _require(
            not to_come or to_come[0].position >= window_end(plan, book.positions),
            "a reroute begins inside of a window, or before the first",
        )
        end = min(window_end(plan, book.positions), _said_positions(bundle, row))
        _require(end > book.positions, f"window {number} is empty")
        _require(end == window_end(plan, book.positions) or _is_last(rows, number), "a window ends before it should")
        book.take_window(end, bundle.tokens, row, bundle.said)
    _take_reroutes(book, to_come)
    _require(not to_come, "a reroute begins where nobody has signed for anything")
    _require(book.positions <= last_position(plan), "the receipts count more tokens than were ordered")
    check_tokens(bundle.tokens, bundle.said, bundle.terms, book, vocabulary=bundle.manifest.vocabulary)
    return book, bool(rows) and len(book.windows) < len(rows)


def _take_reroutes(book: ReceiptBook, to_come: deque[Reroute]) -> None:
    """Those that begin where the book stands."""
    while to_come and to_come[0].position == book.positions:
        book.take_reroute(to_come.popleft().route)


def _said_positions(bundle: Bundle, row: Sequence[Accepted]) -> int:
    receipt = row[0].signed.receipt
    return positions_of(bundle.terms.plan, receipt.tokens_in, receipt.tokens_out)


def _is_last(rows: Sequence[Sequence[Accepted]], number: int) -> bool:
    """Whether no window follows: at most the closing row does."""
    rest = rows[number + 1 :]
    return not rest or (len(rest) == 1 and bool(rest[0]) and rest[0][0].signed.receipt.nonce == bytes(32))


def _client_nonces(bundle: Bundle) -> tuple[bytes, ...]:
    """The client's nonces by index of the window, up to that of the last window: not of the closing row."""
    indices = [
        signed.receipt.window for row in bundle.windows for signed, _ in row[:1] if signed.receipt.nonce != bytes(32)
    ]
    count = indices[-1] + 1 if indices else 0
    _require(count <= chain_length(bundle.terms.plan), "a window that no plan has")
    _require((bundle.nonce is None) is (count == 0), "the client's nonce is missing, or of no window")
    if bundle.nonce is None:
        return ()
    check_nonce(bundle.terms.nonces, bundle.nonce, steps=count)
    return nonces_up_to(bundle.nonce, count)


def _check_payment(
    bundle: Bundle, book: ReceiptBook, reroutes: Sequence[Reroute], acceptances: dict[int, Acceptance]
) -> None:
    voucher, plan, terms = bundle.pay.voucher, bundle.terms.plan, bundle.terms
    _require(voucher.receipts == book.root, "the voucher names other receipts")
    positions = positions_of(plan, voucher.tokens_in, voucher.tokens_out)
    _require((voucher.tokens_in, voucher.tokens_out) == served(plan, positions), "the voucher counts no job's tokens")
    limit = paid_limit(plan, book.positions)
    _require(book.earned <= positions, "the voucher pays for less than every leg has signed for")
    _require(positions <= min(limit, last_position(plan)), "the voucher pays far beyond the receipts")
    parts, starts = spans(reroutes), [each.start for each in continued(terms, acceptances)]
    for leg, stint in enumerate(stints(terms, reroutes, starts, base=book.base)):
        if leg not in acceptances:
            _require(voucher.amounts[leg] == 0, f"leg {leg} is paid and has accepted nothing")
            continue
        late, rejected = book.late(leg), book.rejected(leg)
        price = earned(terms, bundle.session, leg, stint, positions, span=parts.get(leg), late=late, rejected=rejected)
        _require(voucher.amounts[leg] == price, f"leg {leg} is paid {voucher.amounts[leg]} where it has earned {price}")


def _check_spent(bundle: Bundle, offers: Sequence[Offer], entries: Sequence[Entry]) -> None:
    """No leg says that it spent more than its machine can draw between the opening and the settling entry (R10)."""
    us = (entries[1].time - entries[0].time) * 1_000_000 + 2 * JOB_SLACK_US  # a client has granted it half of that
    for row in bundle.windows:
        for signed, _ in row:
            check_spent(signed.receipt, offers[signed.receipt.leg].hardware, us)


def _energy(bundle: Bundle, legs: int) -> tuple[int | None, ...]:
    newest: dict[int, int] = {}
    for row in bundle.windows:
        for signed, _ in row:
            newest[signed.receipt.leg] = signed.receipt.millijoules
    return tuple(None if newest.get(leg, UNMEASURED) == UNMEASURED else newest[leg] for leg in range(legs))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DishonestError(otherwise)
