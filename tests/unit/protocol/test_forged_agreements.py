"""Forged bundles: other terms, offers and acceptances than those of the job (receipt.md, R1 and R2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from agreed_job import CLIENT, agree, chain_of, manifest_of, offered
from forged_bundles import honest_bundle, honest_play, refused
from market_offers import NOW, key_of, some_limits, some_rates
from played_job import Play

from protocol.errors import MalformedError, PeerError, SignatureError
from protocol.identity.ids import BlockSpan, keccak256
from protocol.identity.signing import seal
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.session.messages import session_id
from protocol.session.terms import Speculation, Terms, terms_hash


@pytest.fixture(scope="module")
def honest() -> Play:
    """One whole job of three legs; its bundle is `bundle`."""
    return honest_play()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return honest_bundle()


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


def test_credit_beyond_the_offers_is_what_the_legs_agreed_to() -> None:
    """A leg that remembers its client serves further ahead than its offer says to anybody."""
    short = {leg: {"limits": some_limits(credit=3)} for leg in range(3)}
    remembered = agree(change=lambda terms: terms.replace(credit=4), offers=short)
    assert verify_bundle(Play(remembered).bundle()).terms.credit == 4


def test_deeper_drafts_than_were_offered() -> None:
    def drafted(terms: Terms) -> Terms:
        return terms.replace(speculation=Speculation(depth=3, flights=1))

    enough = {leg: {"limits": some_limits(draft_depth=3)} for leg in range(3)}
    assert verify_bundle(Play(agree(change=drafted, offers=enough)).bundle()).terms.speculation.depth == 3
    short = {leg: {"limits": some_limits(draft_depth=2)} for leg in range(3)}
    refused(Play(agree(change=drafted, offers=short)).bundle(), "more than it offered")


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
