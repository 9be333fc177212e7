"""Each lie that somebody could tell with a receipt bundle, under the name of what it tries, and refused.

Whoever lies has the keys of the party whose word it is: the client's, a leg's, the ledger's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from agreed_job import CLIENT, Play, agree, chain_of, manifest_of, offered
from market_offers import NOW, key_of, some_limits, some_rates
from paper_ledger import PaperLedger

from protocol.bundle import Bundle, seal_transcript, verify_bundle
from protocol.codec import decode, encode
from protocol.errors import DishonestError, MalformedError, PeerError, SignatureError
from protocol.evidence import LogProof
from protocol.fingerprint import SKETCH_BYTES
from protocol.ids import BlockSpan, keccak256
from protocol.messages import UNMEASURED, Receipt, SignedReceipt, session_id
from protocol.metering import served
from protocol.offer import Provenance
from protocol.operations import LogEntry, Release, SessionEffect, Settle, sign_op
from protocol.receipt import NO_HASH, bytes_hash, token_bytes
from protocol.signing import SigningKey, seal
from protocol.terms import Terms, open_reroutes, terms_hash

STRANGER = SigningKey(b"\x44" * 32)


def refused(bundle: Bundle, says: str, error: type[PeerError] = DishonestError) -> None:
    with pytest.raises(error, match=says):
        verify_bundle(bundle)


@pytest.fixture(scope="module")
def honest() -> Play:
    """One whole job of three legs; its bundle is `bundle`."""
    return Play(agree()).run()


@pytest.fixture(scope="module")
def bundle(honest: Play) -> Bundle:
    made = honest.bundle()
    verify_bundle(made)
    return made


# R1: what was agreed


def test_other_terms_told_after_the_job_are_another_session(bundle: Bundle) -> None:
    """The client signs another order afterwards: another policy, sampling, model, window, price or span."""
    terms = bundle.terms
    stories = [
        terms.replace(policy=terms.policy.replace(deny=("US",))),
        terms.replace(sampling=terms.sampling.replace(seed=6)),
        terms.replace(plan=terms.plan.replace(most=12)),
        terms.replace(route=(terms.route[0].replace(rates=some_rates()), *terms.route[1:])),
        terms.replace(credit=1),
        terms.replace(nonces=chain_of("another").anchor),
    ]
    for story in stories:
        refused(replace(bundle, terms=story), "not those that the session names", MalformedError)
        session = bundle.session.replace(terms=terms_hash(story))
        assert session_id(session) != session_id(bundle.session)
        # Nothing that the legs or the ledger have signed is about that session.
        with pytest.raises(PeerError):
            verify_bundle(replace(bundle, terms=story, session=session))


def test_another_model_under_the_same_receipts(bundle: Bundle) -> None:
    other = replace(bundle, manifest=bundle.manifest.replace(name="a better model"))
    refused(other, "not that of the model")
    refused(replace(bundle, manifest=manifest_of(7)), "not that of the model")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda terms: terms.replace(plan=terms.plan.replace(most=0)), "at least 1"),
        (lambda terms: terms.replace(plan=terms.plan.replace(prompt=0)), "at least 1"),
        (lambda terms: terms.replace(plan=terms.plan.replace(chunk=0)), "at least 1"),
        (lambda terms: terms.replace(plan=terms.plan.replace(window=0)), "at least 1"),
        (lambda terms: terms.replace(plan=terms.plan.replace(most=2**31)), "at least 1"),
        (lambda terms: terms.replace(credit=5), "credit"),
        (lambda terms: spans(terms, (0, 2), (3, 4), (4, 6)), "gap or overlaps at block 2"),
        (lambda terms: spans(terms, (0, 2), (1, 4), (4, 6)), "gap or overlaps at block 2"),
        (lambda terms: spans(terms, (0, 2), (2, 4), (4, 5)), "ends at block 5 of 6"),
        (lambda terms: terms.replace(venue=bytes(32)), "another ledger"),
        (lambda terms: terms.replace(model=bytes(32)), "not that of the model"),
        (lambda terms: terms.replace(policy=terms.policy.replace(precision="bf16")), "precision"),
    ],
)
def test_terms_that_are_none_under_a_session_that_names_them(
    bundle: Bundle, change: Callable[[Terms], Terms], says: str
) -> None:
    """`most: 0`, chunk 0, window 0, a hop that leaves a gap: agreed, but nothing that windows follow from."""
    terms = change(bundle.terms)
    session = bundle.session.replace(terms=terms_hash(terms))
    with pytest.raises(PeerError, match=says):
        verify_bundle(replace(bundle, terms=terms, session=session))


def spans(terms: Terms, *cuts: tuple[int, int]) -> Terms:
    legs = zip(terms.route, cuts, strict=True)
    return terms.replace(route=tuple(leg.replace(span=BlockSpan(start=a, end=b)) for leg, (a, b) in legs))


def test_a_plan_beyond_the_models_context() -> None:
    assert verify_bundle(Play(agree(prompt=4000, most=96, chunk=512, offers=roomy(8192))).bundle()).tokens_in == 0
    refused(Play(agree(prompt=4000, most=97, chunk=512, offers=roomy(8192))).bundle(), "model's context")


def roomy(context: int) -> dict[int, dict[str, Any]]:
    return {leg: {"limits": some_limits(context=context)} for leg in range(3)}


def test_one_provider_on_two_legs() -> None:
    def twice(terms: Terms) -> Terms:
        first, _, third = terms.route
        return terms.replace(route=(first, first.replace(span=BlockSpan(start=2, end=4)), third))

    refused(Play(agree(change=twice, silent={1})).bundle(end="open"), "twice", MalformedError)


# R2: offers and acceptances


def test_an_offer_that_the_terms_do_not_name(bundle: Bundle, honest: Play) -> None:
    venue, manifest = bundle.terms.venue, bundle.manifest
    cheaper = offered(1, (2, 4), manifest, venue, sequence=2)
    first, _, third = bundle.offers
    refused(replace(bundle, offers=(first, seal(cheaper, key_of(1)), third)), "name another offer")
    refused(replace(bundle, offers=(first, third, third)), "name another offer")
    refused(replace(bundle, offers=(first, third)), "an offer is missing")


def test_an_offer_that_the_client_wrote_in_a_providers_name(bundle: Bundle) -> None:
    """Its own rates and place under the provider's key, sealed with another; the terms name it."""
    forged = seal(offered(1, (2, 4), bundle.manifest, bundle.terms.venue, jurisdiction="IS"), CLIENT)

    def name_it(terms: Terms) -> Terms:
        first, second, third = terms.route
        return terms.replace(route=(first, second.replace(offer=keccak256(forged)), third))

    agreed = agree(change=name_it)
    first, _, third = agreed.offers
    agreed.offers = (first, forged, third)
    refused(Play(agreed).bundle(), "not signed by the node that it names", SignatureError)


def test_rates_that_were_not_offered() -> None:
    def cheaper(terms: Terms) -> Terms:
        first, second, third = terms.route
        rates = second.rates.replace(price_out=second.rates.price_out - 1)
        return terms.replace(route=(first, second.replace(rates=rates), third))

    refused(Play(agree(change=cheaper)).run().bundle(), "rates are not those of the offer")


def test_blocks_that_were_not_offered() -> None:
    def moved(terms: Terms) -> Terms:
        return spans(terms, (0, 2), (2, 5), (5, 6))

    refused(Play(agree(change=moved)).bundle(), "the offer is for blocks 2:4")


@pytest.mark.parametrize("expires_at", [NOW - 61, NOW - 100])
def test_an_offer_that_had_expired_when_the_session_opened(expires_at: int) -> None:
    offers = {1: {"issued_at": NOW - 200, "expires_at": expires_at}}
    refused(Play(agree(offers=offers)).bundle(), "not in force")
    offers[1]["expires_at"] = NOW - 59  # within what two honest clocks differ by
    verify_bundle(Play(agree(offers=offers)).bundle())


def test_an_offer_made_after_the_session_opened() -> None:
    refused(Play(agree(offers={2: {"issued_at": NOW + 61, "expires_at": NOW + 100}})).bundle(), "not in force")
    verify_bundle(Play(agree(offers={2: {"issued_at": NOW + 60, "expires_at": NOW + 100}})).bundle())


def test_an_offer_for_a_longer_life_than_any_may_have() -> None:
    offers = {0: {"expires_at": NOW + 10_000}}
    refused(Play(agree(offers=offers)).bundle(), "an offer lasts", MalformedError)


@pytest.mark.parametrize(
    ("policy", "offer", "says"),
    [
        ({"deny": ("FR",)}, {"jurisdiction": "FR"}, "FR is among the jurisdictions you deny"),
        ({"deny": ("DE-BE",)}, {"jurisdiction": "DE"}, "DE is among"),
        ({"allow": ("FR",)}, {"jurisdiction": "US"}, "US is not among"),
        ({"max_price_out": 1_000_000}, {}, "of it costs|route costs more"),
        ({}, {"limits": some_limits(window=3)}, "windows of 3 tokens"),
        ({}, {"limits": some_limits(chunk=3)}, "chunks of 3"),
        ({}, {"limits": some_limits(context=19)}, "room for 19"),
    ],
)
def test_a_leg_that_the_policy_does_not_admit(policy: dict[str, Any], offer: dict[str, Any], says: str) -> None:
    base = {"jurisdiction": "NL"}
    offers = {leg: dict(base) for leg in range(3)}
    offers[1] |= offer
    if "allow" in policy:
        policy = {**policy, "allow": (*policy["allow"], "NL")}
    refused(Play(agree(policy=policy, offers=offers)).bundle(), says)
    allowed = {leg: dict(base) for leg in range(3)}
    verify_bundle(Play(agree(policy={**policy, "max_price_out": None}, offers=allowed)).bundle())


def test_more_unpaid_tokens_than_were_offered() -> None:
    def generous(terms: Terms) -> Terms:
        return terms.replace(credit=4)

    enough = {leg: {"limits": some_limits(credit=4)} for leg in range(3)}
    assert verify_bundle(Play(agree(offers=enough)).bundle()).terms.credit == 4
    short = {leg: {"limits": some_limits(credit=3)} for leg in range(3)}
    refused(Play(agree(change=generous, offers=short)).bundle(), "more than it offered")


def test_a_leg_that_accepted_nothing(bundle: Bundle) -> None:
    first, _, third = bundle.acceptances
    with pytest.raises(MalformedError):
        verify_bundle(replace(bundle, acceptances=(first, b"", third)))
    refused(replace(bundle, acceptances=(first, third)), "an acceptance is missing")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"leg": 2}, "another session, leg or terms"),
        ({"session": bytes(32)}, "another session, leg or terms"),
        ({"terms": bytes(32)}, "another session, leg or terms"),
        ({"cached": 1}, "holds more positions"),
    ],
)
def test_an_acceptance_of_something_else(bundle: Bundle, honest: Play, changes: dict[str, Any], says: str) -> None:
    first, _, third = bundle.acceptances
    refused(replace(bundle, acceptances=(first, honest.agreed.accept(1, **changes), third)), says)


def test_an_acceptance_by_somebody_else(bundle: Bundle, honest: Play) -> None:
    first, second, _ = bundle.acceptances
    forged = honest.agreed.accept(2, CLIENT)
    refused(replace(bundle, acceptances=(first, second, forged)), "leg 2 is not sealed", SignatureError)
    refused(replace(bundle, acceptances=(second, first, forged)), "leg 0 is not sealed", SignatureError)


# R3, R4 and R10: the ledger


def proof(evidence: bytes) -> LogProof:
    return decode(evidence, LogProof)


def test_two_logs_of_one_size_under_one_key() -> None:
    """The ledger shows the client one log and everybody else another: the bundle proves it."""
    play = Play(agree()).run()
    ledger = play.agreed.ledger
    other = ledger.fork()
    made = play.bundle()
    other.fund(STRANGER.address, 5)
    while len(other.entries) < len(ledger.entries):
        other.fund(STRANGER.address, 5)
    refused(replace(made, opened=other.evidence(play.agreed.opened)), "two different logs")


def test_two_entries_in_one_place() -> None:
    play = Play(agree())
    other = play.agreed.ledger.fork()
    made = play.bundle(end="open")
    other.act(CLIENT, Settle, vouchers=(play.voucher(8),))
    for _ in range(4):
        other.fund(STRANGER.address, 5)
    refused(replace(made, released=other.evidence(len(play.agreed.ledger.entries) - 1)), "two entries in one place")


@pytest.fixture(scope="module")
def short() -> Bundle:
    """Of an answer that ended early, so that the legs gave something back."""
    made = Play(agree()).run(generated=6).bundle()
    assert made.released is not None
    return made


def test_entries_that_are_out_of_order(short: Bundle) -> None:
    refused(replace(short, settled=short.released, released=short.settled), "out of order")


@pytest.mark.parametrize("which", ["opened", "settled", "released"])
def test_an_entry_that_is_not_in_the_log(short: Bundle, which: str) -> None:
    honest_proof = proof(getattr(short, which))
    entry = decode(honest_proof.entry, LogEntry)
    forged = encode(honest_proof.replace(entry=encode(entry.replace(time=entry.time + 1))))
    refused(replace(short, **{which: forged}), "not in the tree")
    other = honest_proof.replace(index=honest_proof.index - 1)
    with pytest.raises(PeerError):
        verify_bundle(replace(short, **{which: encode(other)}))


def test_another_ledgers_entries_under_this_ones_name(bundle: Bundle) -> None:
    other = PaperLedger(NOW, name="ledger.example/other")
    with pytest.raises(PeerError):
        verify_bundle(replace(bundle, verifier_key=other.verifier_key))
    with pytest.raises(PeerError):
        verify_bundle(replace(bundle, opened=other.evidence(0)))


def forged_entry(play: Play, index: int, changes: Callable[[LogEntry], LogEntry]) -> bytes:
    """The ledger writes an entry down that the rules do not give, and signs for it."""
    ledger = play.agreed.ledger
    return ledger.evidence(ledger.write(changes(ledger.entries[index])))


def session_effect(**changes: Any) -> Callable[[LogEntry], LogEntry]:
    def change(entry: LogEntry) -> LogEntry:
        return entry.replace(sessions=tuple(effect.replace(**changes) for effect in entry.sessions))

    return change


def effect_of(evidence: bytes | None) -> SessionEffect:
    assert evidence is not None
    return decode(proof(evidence).entry, LogEntry).sessions[0]


def test_an_opening_that_reserved_something_else() -> None:
    play = Play(agree())
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    for wrong in ({"ceilings": (caps[0], caps[1], caps[2] - 1)}, {"settled": (0, 0, 1)}):
        opened = forged_entry(play, play.agreed.opened, session_effect(**wrong))
        refused(replace(play.bundle(end="open"), opened=opened, settled=opened), "did not reserve the caps")
        play = Play(agree())


def test_an_opening_of_another_session(bundle: Bundle) -> None:
    other = agree(salt=1)
    refused(replace(bundle, opened=other.ledger.evidence(other.opened)), "another session|two different logs")
    refused(replace(bundle, opened=bundle.settled), "another one")


def test_a_session_opened_after_its_expiry() -> None:
    play = Play(agree())
    late = lambda entry: entry.replace(time=play.agreed.session.expiry)  # noqa: E731
    opened = forged_entry(play, play.agreed.opened, late)
    made = play.bundle(end="open")
    refused(replace(made, opened=opened, settled=opened), "had expired")


def test_an_entry_with_fewer_legs_than_the_session() -> None:
    for counts in ({"settled": (7, 7)}, {"ceilings": (7, 7)}, {"settled": (7,) * 4, "ceilings": (7,) * 4}):
        play = Play(agree())
        made = play.bundle(end="open")
        settled = forged_entry(play, len(play.agreed.ledger.entries) - 1, session_effect(**counts))
        refused(replace(made, settled=settled), "another number of legs")


def test_a_voucher_that_was_not_paid_out(honest: Play) -> None:
    play = Play(agree()).run()
    made = play.bundle(end="open")
    full = effect_of(made.settled).settled
    short = forged_entry(play, len(play.agreed.ledger.entries) - 1, session_effect(settled=(*full[:2], full[2] - 1)))
    refused(replace(made, settled=short), "did not settle the voucher for leg 2")


def test_settled_amounts_that_fall() -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle()
    paid = effect_of(made.released).settled
    fallen = (paid[0] - 1, *paid[1:])
    index = len(play.agreed.ledger.entries) - 1
    refused(replace(made, released=forged_entry(play, index, session_effect(settled=fallen))), "took back what leg 0")


def test_a_ledger_that_pays_a_leg_more_than_its_cap() -> None:
    play = Play(agree()).run()
    made = play.bundle(end="open")
    index = len(play.agreed.ledger.entries) - 1
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    over = (caps[0] + 1, *caps[1:])
    refused(replace(made, settled=forged_entry(play, index, session_effect(settled=over))), "more than its cap")
    both = session_effect(settled=over, ceilings=over)
    refused(replace(made, settled=forged_entry(play, index, both)), "keeps money that it had released")


@pytest.mark.parametrize("end", ["release", "close"])
def test_a_last_entry_that_keeps_money_back(end: str) -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle(end=end)
    index = len(play.agreed.ledger.entries) - 1
    ceilings = effect_of(made.released).ceilings
    kept = forged_entry(play, index, session_effect(ceilings=(*ceilings[:2], ceilings[2] + 1)))
    refused(replace(made, released=kept), "keeps money back")


def test_a_session_that_was_closed_before_its_time() -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle(end="close")
    early = lambda entry: entry.replace(time=NOW + 600)  # noqa: E731
    last = forged_entry(play, len(play.agreed.ledger.entries) - 1, early)
    refused(replace(made, released=last), "closed before its time")


def rewritten(play: Play, action: type[Any], effect: SessionEffect, **fields: Any) -> bytes:
    """An entry that the ledger wrote for an operation which the rules would refuse."""
    ledger = play.agreed.ledger
    made = action(actor=CLIENT.address, nonce=1000, **fields)
    op = sign_op(ledger.domain, CLIENT, made)
    return ledger.evidence(ledger.write(LogEntry(time=ledger.now, op=op, accounts=(), sessions=(effect,))))


def test_a_discharge_of_another_leg_or_by_somebody_else() -> None:
    play = Play(agree()).run(generated=3)
    made = play.bundle(end="open")
    before = effect_of(made.settled)
    freed = before.replace(ceilings=(before.ceilings[0], before.settled[1], before.ceilings[2]))
    amount = before.settled[1]
    assert verify_bundle(
        replace(made, released=rewritten(play, Release, freed, discharges=(play.discharge(1, amount),)))
    ).refunded
    for key in (play.agreed.keys[0], CLIENT):
        forged = play.discharge(1, amount, key)
        released = rewritten(play, Release, freed, discharges=(forged,))
        refused(replace(made, released=released), "not signed by its leg", SignatureError)
    nobody = rewritten(play, Release, freed, discharges=(play.discharge(1, amount, leg=3),))
    refused(replace(made, released=nobody), "no leg of it", MalformedError)


def test_a_settlement_by_a_voucher_that_the_client_never_signed() -> None:
    play = Play(agree()).run(generated=3)
    forged = play.voucher(14, STRANGER)
    made = play.bundle(end="open")
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    effect = effect_of(made.settled).replace(settled=forged.voucher.amounts, ceilings=caps)
    settled = rewritten(play, Settle, effect, vouchers=(forged,))
    refused(replace(made, settled=settled), "not signed by the session's client", SignatureError)


def test_an_entry_that_its_actor_did_not_sign() -> None:
    play = Play(agree())
    made = play.bundle()
    forged = lambda entry: entry.replace(op=entry.op.replace(signature=bytes(63) + b"\x01"))  # noqa: E731
    last = forged_entry(play, len(play.agreed.ledger.entries) - 1, forged)
    with pytest.raises(SignatureError):
        verify_bundle(replace(made, released=last))


# R5: receipts, one by one


Lie = Callable[[Receipt, bytes], tuple[Receipt, bytes]]


def lying(leg: int, window: int, /, **changes: Any) -> Lie:
    """A leg signs something else in one window."""

    def alter(receipt: Receipt, shown: bytes) -> tuple[Receipt, bytes]:
        return (receipt.replace(**changes) if (receipt.leg, receipt.window) == (leg, window) else receipt), shown

    return alter


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"session": bytes(32)}, "another session"),
        ({"leg": 2}, "not signed by its provider"),
        ({"leg": 9}, "another session, or of 3 legs"),
        ({"window": 4}, "another leg or window"),
        ({"tokens_in": 11}, "counts 11"),
        ({"tokens_out": 9}, "counts 10.9"),
        ({"tokens_out": 2**62}, "counts"),
        ({"input": bytes(32)}, "not what leg 1 says"),
        ({"output": bytes(32)}, "not what leg 2 says"),
        ({"tokens": b"\x01" * 32}, "draws no tokens"),
        ({"nonce": b"\x01" * 32}, "leg 1: a nonce"),
        ({"nonce": chain_of("leg 1").nonce(4)}, "leg 1: a nonce"),
        ({"nonce": chain_of("leg 0").nonce(3)}, "leg 1: a nonce"),
        ({"sketches": bytes(32)}, "other sketches than it signed"),
        ({"millijoules": 10}, "takes back energy"),
        ({"rows": 3}, "takes back energy"),
        ({"millijoules": UNMEASURED}, "energy without a source"),
        ({"source": Provenance.UNKNOWN}, "energy without a source"),
        ({"late": 5}, "more tokens were late"),
        ({"pue_milli": 999}, "PUE below 1"),
        ({"p50_us": 1001}, "median above"),
    ],
)
def test_a_receipt_that_lies(changes: dict[str, Any], says: str) -> None:
    """Leg 1, in the fourth window, where the first whole window of generated tokens ends."""
    play = Play(agree(), lying(1, 3, **changes)).run()
    with pytest.raises((DishonestError, SignatureError), match=says):
        verify_bundle(play.bundle())


def test_energy_that_falls_in_the_last_word() -> None:
    play = Play(agree(), lying(0, 6, millijoules=1)).run()
    refused(play.bundle(), "takes back energy")


def test_late_tokens_that_are_taken_back() -> None:
    play = Play(agree(), lying(2, 5, late=0))
    for window in range(6):
        play.window(late={2: 1} if window == 4 else {})
    refused(play.bundle(), "takes back energy, rows or late")


def test_a_receipt_that_somebody_else_signed(bundle: Bundle) -> None:
    (first, shown), *others = bundle.windows[2]
    forged = SignedReceipt(receipt=first.receipt, signature=bundle.windows[2][1][0].signature)
    windows = (*bundle.windows[:2], ((forged, shown), *others), *bundle.windows[3:])
    refused(replace(bundle, windows=windows), "not signed by its provider", SignatureError)


def test_a_receipt_of_an_empty_window() -> None:
    """Counts of nothing new: it was an IndexError once."""
    play = Play(agree())
    play.window(end=4)
    play.window(end=8)
    counts = dict(zip(("tokens_in", "tokens_out"), served(play.agreed.plan, 8), strict=True))
    play.alter = lambda receipt, shown: (receipt.replace(**counts), shown)
    play.window(end=10)
    refused(play.bundle(play.voucher(8)), "window 2 is empty")


def test_rows_of_receipts_that_are_empty(bundle: Bundle) -> None:
    for windows in (((),), (*bundle.windows[:2], (), *bundle.windows[3:]), (*bundle.windows, ())):
        with pytest.raises((MalformedError, DishonestError)):
            verify_bundle(replace(bundle, windows=windows))


# R6: windows


@pytest.mark.parametrize("missing", range(6))
def test_a_window_that_is_missing(bundle: Bundle, missing: int) -> None:
    windows = bundle.windows[:missing] + bundle.windows[missing + 1 :]
    with pytest.raises(DishonestError):
        verify_bundle(replace(bundle, windows=windows))


def test_windows_that_are_swapped_or_doubled(bundle: Bundle) -> None:
    one, two, three, *others = bundle.windows
    for windows in ((two, one, three, *others), (one, one, two, three, *others), (one, three, two, *others)):
        with pytest.raises(DishonestError):
            verify_bundle(replace(bundle, windows=windows))


def test_legs_that_are_swapped_missing_or_doubled_in_a_window(bundle: Bundle) -> None:
    one, (first, second, third), *others = bundle.windows
    for row in ((second, first, third), (first, second), (first, second, third, third), (first, first, third)):
        with pytest.raises(DishonestError):
            verify_bundle(replace(bundle, windows=(one, row, *others)))


def test_a_closing_row_in_the_middle(bundle: Bundle) -> None:
    *windows, closing = bundle.windows
    refused(replace(bundle, windows=(*windows[:3], closing, *windows[3:])), "closing row of receipts stands before")
    refused(replace(bundle, windows=(*windows, closing, closing)), "closing row of receipts stands before")
    refused(replace(bundle, windows=(closing,)), "of no window")
    refused(replace(bundle, windows=(closing,), nonce=None), "no window to close")


def test_a_closing_row_of_some_legs_or_with_bytes(bundle: Bundle) -> None:
    *windows, closing = bundle.windows
    refused(replace(bundle, windows=(*windows, closing[:2])), "closing receipt of a leg is missing")
    for name in ("input", "output", "tokens"):
        play = Play(agree(), lying(1, 6, **{name: b"\x01" * 32})).run()
        refused(play.bundle(), "fixes bytes of no window")


def test_a_window_that_ends_before_it_should() -> None:
    play = Play(agree())
    play.window(end=3)
    play.window(end=7)
    refused(play.bundle(), "ends before it should")


def test_a_last_window_after_the_end_of_the_plan() -> None:
    play = Play(agree()).run(close=False)
    play.window(end=21)
    with pytest.raises(DishonestError):
        verify_bundle(play.bundle(play.voucher(20)))


def test_what_one_leg_sent_is_not_what_the_next_received() -> None:
    play = Play(agree(), lying(2, 1, input=bytes_hash(b"other rows"))).run()
    refused(play.bundle(), "what leg 1 says it sent is not what leg 2 says it received")


# R7: tokens


def test_one_token_is_changed(bundle: Bundle) -> None:
    for at in range(len(bundle.tokens)):
        tokens = list(bundle.tokens)
        tokens[at] ^= 1
        refused(replace(bundle, tokens=tuple(tokens)), "signed for other tokens")


def test_5000_tokens_are_appended_that_nobody_signed(bundle: Bundle) -> None:
    refused(replace(bundle, tokens=bundle.tokens + (5,) * 5000), "where the receipts cover 21")
    refused(replace(bundle, tokens=bundle.tokens[:-1]), "more tokens than there are")


def test_a_token_that_the_model_does_not_have() -> None:
    play = Play(agree(), tokens=[1000] * 10).run()
    refused(play.bundle(), "a token that the model does not have")


def test_a_last_leg_that_signs_for_other_tokens_than_it_sent() -> None:
    for said in (bytes_hash(token_bytes([1])), NO_HASH, bytes_hash(b"")):
        play = Play(agree(), lying(2, 2, tokens=said)).run()
        refused(play.bundle(), "leg 2 signed for other tokens")


# R8: nonces and sketches


def test_a_client_whose_nonces_are_not_those_of_the_terms(bundle: Bundle, honest: Play) -> None:
    chain = honest.agreed.client_chain
    for nonce in (chain.nonce(4), chain.nonce(6), chain_of("another").nonce(5), bytes(32)):
        refused(replace(bundle, nonce=nonce), "not the one that was committed to")
    refused(replace(bundle, nonce=None), "nonce is missing, or of no window")
    early = Play(agree()).bundle()
    refused(replace(early, nonce=chain.nonce(0)), "nonce is missing, or of no window")


@pytest.mark.parametrize(
    ("window", "at", "neighbours"), [(2, 0, "0 and 1"), (6, -1, "1 and 2"), (6, SKETCH_BYTES, "1 and 2")]
)
def test_sketches_of_neighbours_that_differ_by_one_bit(window: int, at: int, neighbours: str) -> None:
    def flip(leg: int, index: int, shown: bytes) -> bytes:
        if (leg, index) != (1, window):
            return shown
        changed = bytearray(shown)
        changed[at] ^= 1
        return bytes(changed)

    refused(Play(agree(), forge=flip).run().bundle(), f"the sketches of legs {neighbours} differ")


def test_a_client_that_tells_the_legs_another_seed() -> None:
    """What honest legs then show fits no re-execution under the window's own seed: it proves nothing against them."""
    play = Play(agree(), tell=lambda seed: seed[::-1]).run()
    refused(play.bundle(), "sketches")


def test_sketches_that_are_not_those_that_were_signed(bundle: Bundle) -> None:
    (signed, shown), *others = bundle.windows[3]
    for wrong, error in ((shown[:-1] + b"\xff", DishonestError), (shown[:-1], MalformedError), (b"", MalformedError)):
        windows = (*bundle.windows[:3], ((signed, wrong), *others), *bundle.windows[4:])
        refused(replace(bundle, windows=windows), "sketches", error)


@pytest.mark.parametrize("spans", [((0, 6),), ((0, 2), (2, 4), (4, 6))])
def test_a_first_leg_that_shows_a_sketch_of_tokens(spans: tuple[tuple[int, int], ...]) -> None:
    def forge(leg: int, _: int, shown: bytes) -> bytes:
        return shown if leg or not shown else b"\x01" + shown[1:]

    refused(Play(agree(spans=spans), forge=forge).run().bundle(), "sketch of token ids")


def test_sketches_before_there_is_anything_to_sketch() -> None:
    def forge(_: int, window: int, shown: bytes) -> bytes:
        return shown if window else bytes(2 * SKETCH_BYTES)

    refused(Play(agree(), forge=forge).run().bundle(), "nothing before the first window")


# R9: the voucher


@pytest.mark.parametrize(
    "counts",
    [
        {"tokens_in": 11},
        {"tokens_in": 9},
        {"tokens_in": 2**62},
        {"tokens_in": 10, "tokens_out": 0},
        {"tokens_out": 10},
        {"tokens_out": 12},
        {"tokens_out": 2**62},
    ],
)
def test_a_voucher_for_more_or_fewer_tokens_than_there_were(
    bundle: Bundle, honest: Play, counts: dict[str, int]
) -> None:
    refused(replace(bundle, pay=honest.voucher(**counts)), "voucher")


def test_a_voucher_beyond_the_receipts() -> None:
    play = Play(agree())
    play.window()
    play.window()
    assert verify_bundle(play.bundle(play.voucher(13))).tokens_out == 4
    play = Play(agree())
    play.window()
    play.window()
    refused(play.bundle(play.voucher(14)), "far beyond the receipts")


def test_a_voucher_below_the_receipts() -> None:
    play = Play(agree()).run()
    refused(play.bundle(play.voucher(17)), "less than every leg has signed for")


def test_amounts_above_the_caps(bundle: Bundle, honest: Play) -> None:
    cap = bundle.session.legs[2].cap
    over = honest.voucher(amounts=(*bundle.pay.voucher.amounts[:2], cap + 1))
    with pytest.raises(MalformedError) as raised:
        verify_bundle(replace(bundle, pay=over))
    assert raised.value.code == "cap"


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("leg", range(3))
def test_amounts_other_than_what_was_earned(leg: int, step: int) -> None:
    play = Play(agree()).run(generated=6)
    earned = list(play.voucher().voucher.amounts)
    earned[leg] += step
    refused(play.bundle(play.voucher(amounts=tuple(earned))), f"leg {leg} is paid {earned[leg]}")


def test_amounts_for_another_number_of_legs(bundle: Bundle, honest: Play) -> None:
    pay = honest.voucher(amounts=bundle.pay.voucher.amounts[:2])
    refused(replace(bundle, pay=pay), "amounts for 2 legs of 3", MalformedError)


def test_a_voucher_that_names_other_receipts(bundle: Bundle, honest: Play) -> None:
    refused(replace(bundle, pay=honest.voucher(receipts=bytes(32))), "names other receipts")
    shorter = replace(bundle, windows=bundle.windows[:-1])
    refused(shorter, "names other receipts")


def test_a_voucher_by_somebody_else_or_for_another_session(bundle: Bundle, honest: Play) -> None:
    refused(replace(bundle, pay=honest.voucher(key=STRANGER)), "not signed by the session's client", SignatureError)
    refused(replace(bundle, pay=honest.voucher(session=bytes(32))), "another session", MalformedError)


# R8 and N6: reroutes


def rerouted(*route: tuple[int, tuple[int, int]], after: int = 3, key: SigningKey = CLIENT, **changes: Any) -> Play:
    """A job whose route changes after so many windows; the lie is in what is signed, not in who serves."""
    play = Play(agree(standbys=((2, 4), (0, 6))))
    for _ in range(after):
        play.window()
    play.reroute(*route, key=key, **changes)
    return play


TAKES_OVER = ((0, (0, 2)), (3, (2, 4)), (2, (4, 6)))


def test_a_reroute_signed_by_another() -> None:
    verify_bundle(rerouted(*TAKES_OVER).run().bundle())
    for key in (STRANGER, key_of(3)):
        refused(rerouted(*TAKES_OVER, key=key).run().bundle(), "not signed by the session's client", SignatureError)


@pytest.mark.parametrize("changes", [{"session": bytes(32)}, {"number": 0}, {"number": 2}])
def test_a_reroute_of_another_session_or_replayed(changes: dict[str, Any]) -> None:
    refused(rerouted(*TAKES_OVER, **changes).run().bundle(), "another session, or out of order")


def test_reroutes_out_of_order_or_twice() -> None:
    play = rerouted(*TAKES_OVER)
    play.window()
    play.reroute((4, (0, 6)))
    made = play.run().bundle()
    verify_bundle(made)
    one, two = made.reroutes
    for reroutes in ((two, one), (one, one, two), (one, two, two), (two,)):
        refused(replace(made, reroutes=reroutes), "out of order")
    with pytest.raises(PeerError):
        verify_bundle(replace(made, reroutes=(one,)))
    with pytest.raises(PeerError):
        verify_bundle(replace(made, reroutes=()))


def test_a_reroute_that_goes_back_behind_the_one_before() -> None:
    play = rerouted(*TAKES_OVER)
    play.reroute((4, (0, 6)), position=play.position - 2)
    refused(play.bundle(), "goes back behind")


def test_a_reroute_inside_a_window() -> None:
    play = rerouted(*TAKES_OVER, after=3)
    made = play.run().bundle()
    inside = Play(play.agreed)
    inside.position = 12
    inside.reroute(*TAKES_OVER)
    refused(replace(made, reroutes=tuple(inside.reroutes)), "begins inside of a window")


def test_a_reroute_from_a_position_that_nobody_has_signed_for() -> None:
    play = Play(agree(standbys=((2, 4), (0, 6))))
    for _ in range(3):
        play.window()
    play.position = 13
    play.reroute(*TAKES_OVER)
    play.position = 10
    refused(play.bundle(), "where nobody has signed")


def test_a_leg_that_was_left_comes_back() -> None:
    play = rerouted(*TAKES_OVER)
    play.window()
    play.reroute((0, (0, 2)), (1, (2, 4)), (2, (4, 6)))
    refused(play.bundle(), "does not come back")


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (((0, (0, 2)), (3, (1, 4)), (2, (4, 6))), "gap or overlaps"),
        (((0, (0, 2)), (3, (2, 4))), "ends at block 4 of 6"),
        (((4, (0, 2)), (3, (2, 5)), (2, (5, 6))), "leg 3 agreed to blocks 2:4"),
        (((0, (0, 1)), (4, (1, 6))), "leg 0 goes on, so it keeps its blocks"),
        (((4, (0, 2)), (4, (2, 6))), "names a leg twice"),
        (((0, (0, 2)), (5, (2, 6))), "one that the session does not have"),
    ],
)
def test_a_reroute_to_blocks_or_legs_that_were_not_agreed(route: Any, says: str) -> None:
    play = rerouted(*route)
    with pytest.raises((MalformedError, DishonestError), match=says):
        open_reroutes(play.reroutes, play.agreed.terms, play.agreed.session, blocks=6)


def test_receipts_of_the_old_route_after_a_reroute() -> None:
    """The client keeps the dead leg's word and pays it on: the reroute says otherwise."""
    play = Play(agree(standbys=((2, 4), (0, 6)))).run()
    early = Play(play.agreed)
    early.position = 10
    early.reroute(*TAKES_OVER)
    refused(replace(play.bundle(), reroutes=tuple(early.reroutes)), "another leg or window|another session")


def test_a_standby_that_serves_without_having_accepted() -> None:
    play = Play(agree(standbys=((2, 4),), silent={3}))
    play.window()
    play.reroute(*TAKES_OVER)
    refused(play.run().bundle(), "leg 3 is for another leg or window")


def test_a_standby_that_is_paid_and_has_accepted_nothing() -> None:
    play = Play(agree(standbys=((2, 4),), silent={3})).run()
    amounts = (*play.amounts(20)[:3], 7)
    refused(play.bundle(play.voucher(amounts=amounts)), "leg 3 is paid and has accepted nothing")


# R11: text


def test_text_that_is_altered_in_the_file(bundle: Bundle) -> None:
    for text in (("Q", "B"), ("q", "A"), ("", ""), ("Q", "A\n"), ("A", "Q"), ("QA", "")):
        refused(replace(bundle, text=text), "not the one that the client sealed")


def test_text_without_the_clients_word_or_the_word_without_text(bundle: Bundle) -> None:
    refused(replace(bundle, transcript=None), "without its client's word")
    refused(replace(bundle, text=None), "without its client's word")
    verify_bundle(replace(bundle, text=None, transcript=None))


def test_a_transcript_by_another_or_of_another_session(bundle: Bundle) -> None:
    refused(
        replace(bundle, transcript=seal_transcript(bundle.session, ("Q", "A"), STRANGER)),
        "not sealed by the session's client",
    )
    other = bundle.session.replace(salt=b"\x05" * 32)
    refused(replace(bundle, transcript=seal_transcript(other, ("Q", "A"), CLIENT)), "of another session")
