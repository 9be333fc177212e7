"""A receipt proves the law of the whole path: each leg, each hop, and whom the client believed about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from agreed_job import CLIENT, agree
from market_offers import NOW, key_of
from played_job import Play

from protocol.errors import DishonestError, PeerError
from protocol.geography.distances import point
from protocol.identity.ids import keccak256
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import Evidence, Statement
from protocol.policy.corridors import Corridor
from protocol.policy.denials import Denial, DenialKind, Denials
from protocol.policy.residency import Ground
from protocol.policy.trust import Trust, trust_hash
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.receipts.bundle_file import dump_bundle, load_bundle
from protocol.receipts.bundle_law import LegLaw, RoundTrips, seal_round_trips
from protocol.session.messages import session_id

ATTESTOR = SigningKey(b"\x0a" * 32)
LONG = NOW + 10**6
TRUST = Trust(anchors=(), lying=0, attestors=(ATTESTOR.address,), stands=point(48.85, 2.35))
NEAR = (2_000, 3_000)


def attested(leg: int, place: str, until: int = LONG) -> bytes:
    said = Statement(subject=key_of(leg).public_key, claim="place", value=place, issued_at=NOW - 60, expires_at=until)
    return seal(said, ATTESTOR)


def a_list(*entries: tuple[DenialKind, str], until: int = LONG) -> bytes:
    lines = tuple(Denial(what=what, value=value) for what, value in entries)
    made = Denials(name="list", issued_at=NOW - 60, effective_from=NOW - 60, expires_at=until, entries=lines)
    return seal(made, ATTESTOR)


def bundle_of(
    policy: dict[str, Any],
    offers: Mapping[int, dict[str, Any]] | None = None,
    *,
    trust: Trust | None = None,
    lists: tuple[bytes, ...] = (),
    trips: tuple[int | None, ...] = (None, None),
) -> Bundle:
    """Of two legs in France; the policy names what is given besides."""
    named = {"trust": None if trust is None else trust_hash(trust), "lists": tuple(keccak256(each) for each in lists)}
    agreed = agree(spans=((0, 2), (2, 4)), policy={**named, **policy}, offers=offers)
    bundle = Play(agreed).run().bundle()
    return replace(bundle, trust=trust, lists=lists, measured=seal_round_trips(bundle.session, trips, CLIENT))


def law_of(bundle: Bundle) -> tuple[LegLaw, ...]:
    return verify_bundle(load_bundle(dump_bundle(bundle).encode())).law


def test_a_claim_is_a_claim() -> None:
    assert law_of(bundle_of({"allow": ("EU",)})) == (LegLaw(places=("FR",), evidence=Evidence.CLAIMED, grounds=()),) * 2


def test_the_evidence_of_each_leg_is_computed_again() -> None:
    offers = {0: {"statements": (attested(0, "FR-75"),)}}
    found = law_of(bundle_of({"min_evidence": Evidence.RTT_CONSISTENT}, offers, trust=TRUST, trips=NEAR))
    assert [(each.evidence, each.grounds) for each in found] == [
        (Evidence.ATTESTED, (Ground.ATTESTORS,)),
        (Evidence.RTT_CONSISTENT, (Ground.CLIENT,)),
    ]


@pytest.mark.parametrize(
    ("policy", "offers", "trips"),
    [
        ({"min_evidence": Evidence.ATTESTED}, {0: {"statements": (attested(0, "FR"),)}}, NEAR),
        ({"min_evidence": Evidence.RTT_CONSISTENT}, {}, (2_000, None)),
        ({"min_evidence": Evidence.RTT_CONSISTENT}, {}, (None, None)),
        ({"allow": ("JP", "FR")}, {1: {"jurisdiction": "JP"}}, NEAR),
        (
            {"min_evidence": Evidence.ATTESTED},
            {leg: {"statements": (attested(leg, "FR", NOW + 30),)} for leg in range(2)},
            NEAR,
        ),
    ],
    ids=["one-leg", "one-trip", "no-trips", "faster-than-light", "expired-meanwhile"],
)
def test_a_leg_that_the_policy_would_not_have_admitted(
    policy: dict[str, Any], offers: dict[int, Any], trips: tuple[int | None, ...]
) -> None:
    with pytest.raises(DishonestError, match="does not admit leg"):
        verify_bundle(bundle_of(policy, offers, trust=TRUST, trips=trips))


def test_whom_the_client_believed_is_in_it() -> None:
    bundle = bundle_of({"min_evidence": Evidence.RTT_CONSISTENT}, trust=TRUST, trips=NEAR)
    assert law_of(bundle)
    for other in (None, TRUST.replace(stands=point(48.9, 2.35))):
        with pytest.raises(DishonestError, match="believes somebody else"):
            verify_bundle(replace(bundle, trust=other))
    with pytest.raises(DishonestError, match="believes somebody else"):
        verify_bundle(replace(bundle_of({}), trust=TRUST))


def test_the_lists_that_it_obeyed_are_in_it() -> None:
    obeyed = a_list((DenialKind.PLACE, "IR"))
    bundle = bundle_of({}, lists=(obeyed,))
    assert law_of(bundle)
    for others in ((), (a_list(),), (obeyed, a_list())):
        with pytest.raises(DishonestError, match="other lists"):
            verify_bundle(replace(bundle, lists=others))
    for lists in ((a_list((DenialKind.PLACE, "FR")),), (a_list(until=NOW + 30),)):
        with pytest.raises(DishonestError, match="does not admit leg 0"):
            verify_bundle(bundle_of({}, lists=lists))


def test_a_statement_that_was_taken_back_backs_nothing() -> None:
    statements = [attested(leg, "FR") for leg in range(2)]
    offers = {leg: {"statements": (each,)} for leg, each in enumerate(statements)}
    asked = {"min_evidence": Evidence.ATTESTED}
    assert law_of(bundle_of(asked, offers, trust=TRUST))
    taken_back = a_list((DenialKind.STATEMENT, keccak256(statements[1]).hex()))
    with pytest.raises(DishonestError, match="does not admit leg 1"):
        verify_bundle(bundle_of(asked, offers, trust=TRUST, lists=(taken_back,)))


def test_round_trips_are_the_clients_word_on_this_session() -> None:
    bundle = bundle_of({"min_evidence": Evidence.RTT_CONSISTENT}, trust=TRUST, trips=NEAR)
    honest = RoundTrips(session=session_id(bundle.session), us=NEAR)
    for broken in (
        seal(honest, ATTESTOR),
        seal(honest.replace(session=bytes(32)), CLIENT),
        seal(honest.replace(us=NEAR[:1]), CLIENT),
        b"junk",
    ):
        with pytest.raises(PeerError):
            verify_bundle(replace(bundle, measured=broken))


def test_each_hop_is_held_against_the_corridors() -> None:
    def corridor(source: str, to: str, until: int = LONG) -> Corridor:
        return Corridor(source=source, to=to, purpose="inference", expires_at=until)

    offers = {0: {"jurisdiction": "DE"}, 1: {"jurisdiction": "CH"}}
    out = corridor("EU", "CH")
    assert law_of(bundle_of({"origin": "DE", "corridors": (out,)}, offers))
    cases: list[tuple[str, tuple[Corridor, ...], str]] = [
        ("DE", (), "does not admit leg 1"),
        ("DE", (corridor("EU", "CH", NOW + 30),), "does not admit leg 1"),
        ("FR", (out, corridor("FR", "DE")), "from leg 1 to leg 0"),
    ]
    for origin, corridors, why in cases:
        with pytest.raises(DishonestError, match=why):
            verify_bundle(bundle_of({"origin": origin, "corridors": corridors}, offers))


def test_a_standby_that_served_is_on_the_path() -> None:
    corridors = tuple(
        Corridor(source=source, to=to, purpose="inference", expires_at=LONG)
        for source, to in (("FR", "DE"), ("FR", "CH"), ("DE", "CH"))
    )

    def played(heal: bool) -> Bundle:
        play = Play(
            agree(
                spans=((0, 2), (2, 4)), standbys=((2, 4),), window=3,
                policy={"origin": "FR", "corridors": corridors},
                offers={0: {"jurisdiction": "DE"}, 1: {"jurisdiction": "FR"}, 2: {"jurisdiction": "CH"}},
            )
        )  # fmt: skip
        play.window()
        if heal:
            play.reroute((0, (0, 2)), (2, (2, 4)))
        return play.run().bundle()

    assert verify_bundle(played(heal=False)).law[2].places == ("CH",)
    with pytest.raises(DishonestError, match="from leg 2 to leg 0"):
        verify_bundle(played(heal=True))


def test_the_models_licence_is_the_manifests() -> None:
    with pytest.raises(DishonestError, match="licence"):
        verify_bundle(bundle_of({"licenses": ("apache-2.0",)}))
