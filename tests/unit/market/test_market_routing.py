"""Routes, what they cost, why offers are left out of them, and every way to have none."""

from __future__ import annotations

from typing import Any

import pytest
from market_offers import MODEL, NOW, VENUE, a_policy, an_energy_claim, an_offer, key_of
from routes_of_offers import route

from protocol.errors import ConfigurationError, RoutingError
from protocol.market.offer import EnergyClaim, Evidence, Offer
from protocol.policy.corridors import Corridor
from protocol.policy.policy import Known, LatencyClass, Needs, Policy, ReasonCode
from protocol.routing.routes import NoRouteError, Route
from protocol.routing.ways import UNKNOWN_RTT_US, Regions


def ask(offers: list[Offer], policy: Policy | None = None, **changes: Any) -> Route:
    values: dict[str, Any] = {
        "model": MODEL,
        "blocks": 4,
        "venue": VENUE,
        "now": NOW,
        "rtt_us": {key_of(n).public_key: 2_000 for n in range(20)},
        "latency_weight": 0,
        "needs": Needs(positions=100),
    }
    return route(offers, policy or a_policy(), **{**values, **changes})


def refusal(offers: list[Offer], policy: Policy | None = None, **changes: Any) -> NoRouteError:
    with pytest.raises(NoRouteError) as raised:
        ask(offers, policy, **changes)
    assert isinstance(raised.value, RoutingError)
    return raised.value


def spans(found: Route) -> list[tuple[int, str]]:
    numbers = {key_of(n).public_key: n for n in range(20)}
    return [(numbers[leg.offer.public_key], str(leg.span)) for leg in found.legs]


def reasons(found: Route | NoRouteError) -> list[tuple[ReasonCode, str]]:
    return [(reason.code, reason.sentence) for _, reason in found.explanations]


def thirds(**changes: Any) -> list[Offer]:
    return [an_offer(n, span, **changes) for n, span in enumerate([(0, 2), (2, 3), (3, 4)])]


def test_three_providers_make_a_ring() -> None:
    found = ask(thirds(price_in=10, price_out=30, position_us=500))
    assert spans(found) == [(0, "0:2"), (1, "2:3"), (2, "3:4")]
    assert (found.price_in, found.price_out, found.gap) == (30, 90, 0)
    assert found.latency_us == 3 * 500 + 3 * 2_000
    assert found.explanations == ()


def test_one_provider_has_no_hops() -> None:
    found = ask([an_offer(position_us=700)])
    assert spans(found) == [(0, "0:4")]
    assert found.latency_us == 700


def test_a_partial_span_pays_its_share_rounded_up() -> None:
    found = ask(
        [
            an_offer(0, (0, 3), price_in=100, price_out=200, position_us=100),
            an_offer(1, (1, 4), price_in=1, price_out=1),
        ]
    )
    assert spans(found) == [(0, "0:1"), (1, "1:4")]
    assert (found.legs[0].price_in, found.legs[0].price_out) == (34, 67)
    assert found.price_in == 34 + 1
    assert found.latency_us == 34 + 1000 + 2 * 2_000


def test_unmeasured_providers_are_taken_for_distant() -> None:
    found = ask(thirds(), rtt_us={key_of(0).public_key: 10_001})
    assert found.latency_us == 3 * 1000 + 2 * (5_001 + 2 * UNKNOWN_RTT_US // 2)


def test_regions_add_the_way_between_them() -> None:
    regions = Regions({key_of(1).public_key: 1}, ((0, 40_000), (30_000, 0)))
    assert ask(thirds(), regions=regions).latency_us == 3 * 1000 + 3 * 2_000 + 70_000


def test_latency_is_worth_its_weight() -> None:
    near, far = an_offer(0, price_in=1_000_000, position_us=1_000), an_offer(1, price_in=100_000, position_us=41_000)
    # Half of a job's tokens are prompt: 450,000 micro-units less per million, for 40 ms more.
    assert spans(ask([near, far], latency_weight=11_249)) == [(1, "0:4")]
    assert spans(ask([near, far], latency_weight=11_251)) == [(0, "0:4")]


def test_carbon_is_worth_its_price_and_nobody_is_paid_it() -> None:
    def powered(grams: int | None) -> EnergyClaim:
        return an_energy_claim(millijoules_in=3_600, millijoules_out=3_600, pue_milli=1000, carbon_g_per_kwh=grams)

    # 1 kWh a million tokens: 0.5 kg at $100 a tonne are 5 cents.
    dirty = an_offer(0, price_in=100_000, price_out=100_000, energy=powered(500))
    clean = an_offer(1, price_in=149_999, price_out=149_999, energy=powered(0))
    mute = an_offer(2, price_in=50_001, price_out=50_001, energy=powered(None))
    assert spans(ask([dirty, clean])) == [(0, "0:4")]
    found = ask([dirty, clean], carbon_price=100_000_000)
    assert spans(found) == [(1, "0:4")]
    assert (found.price_in, found.price_out) == (149_999, 149_999)
    assert reasons(found)[0][1].endswith("per 1M tokens, carbon included")
    assert spans(ask([dirty, clean], carbon_price=99_990_000)) == [(0, "0:4")]
    assert spans(ask([dirty, clean, mute])) == [(2, "0:4")]
    assert spans(ask([dirty, clean, mute], carbon_price=100_000_000)) == [(1, "0:4")]


def test_the_mix_of_tokens_weighs_the_two_prices() -> None:
    prompt, answer = an_offer(0, price_in=1, price_out=100), an_offer(1, price_in=100, price_out=1)
    assert spans(ask([prompt, answer], prompt_milli=900)) == [(0, "0:4")]
    assert spans(ask([prompt, answer], prompt_milli=100)) == [(1, "0:4")]


def test_equals_are_decided_by_a_fixed_rule() -> None:
    offers = [an_offer(n) for n in range(5)]
    first = ask(offers).legs
    assert all(ask(offers[n:] + offers[:n]).legs == first for n in range(5))
    sentences = {sentence for _, sentence in reasons(ask(offers))}
    assert sentences == {"a route with it costs the same; a fixed order decides between equals"}


def test_a_dearer_offer_is_told_by_how_much() -> None:
    found = ask([an_offer(0, price_in=100, price_out=100), an_offer(1, price_in=300, price_out=500)])
    assert reasons(found) == [
        (ReasonCode.DEARER, "the cheapest route with it costs 0.000075 more per 1M tokens")
    ]  # one block of four of it: (75 + 125) / 2 - 25
    timed = ask([an_offer(0, price_in=100), an_offer(1, price_in=300)], latency_weight=1)
    assert reasons(timed)[0][1].endswith("per 1M tokens, time included")


def test_a_provider_is_one_leg_at_most() -> None:
    offers = [
        an_offer(0, (0, 4), price_in=40, price_out=40),
        an_offer(1, (1, 2), price_in=0, price_out=0),
        an_offer(2, (0, 1), price_in=12, price_out=12),
    ]
    # 0, then 1, then 0 again would cost 30; so the cheapest is 2, 1, 0 for 12 + 0 + 20.
    found = ask(offers)
    assert spans(found) == [(2, "0:1"), (1, "1:2"), (0, "2:4")]
    assert found.gap == 0
    alone = refusal([an_offer(0, (0, 2)), an_offer(0, (2, 4))])
    assert alone.code == "no-route"


def test_a_route_has_16_legs_at_most() -> None:
    single = [an_offer(n, (n, n + 1), blocks=17, price_in=10, price_out=10) for n in range(17)]
    assert refusal(single, blocks=17).code == "no-route"
    dear = an_offer(18, (3, 5), blocks=17, price_in=100, price_out=100)
    found = ask([*single, dear], blocks=17)
    assert len(found.legs) == 16
    assert found.price_in == 250
    assert found.gap > 0


# Failures


def test_nobody_offers_the_model() -> None:
    for offers in ([], [an_offer(model=b"\x77" * 32)]):
        error = refusal(offers)
        assert error.code == "no-offers"
        assert error.hint
        assert len(error.explanations) == len(offers)


def test_blocks_that_nobody_serves_are_listed() -> None:
    error = refusal([an_offer(0, (1, 2)), an_offer(1, (2, 3), jurisdiction="DE")], a_policy(deny=("DE",)))
    assert (error.code, error.message) == ("gap", "no usable offer serves blocks 0:1, 2:4 of 4")
    assert "loosen" in error.hint
    assert reasons(error)[0][0] is ReasonCode.DENIED
    assert refusal([an_offer(0, (0, 3))]).message == "no usable offer serves blocks 3:4 of 4"


def test_every_offer_is_excluded_for_its_own_reason() -> None:
    offers = [
        an_offer(0, jurisdiction="DE"),
        an_offer(1, context=99),
        an_offer(2, expires_at=NOW),
        an_offer(3, blocks=5),
        an_offer(4, precision="bf16"),
    ]
    error = refusal(offers, a_policy(allow=("FR",)))
    assert error.code == "all-excluded"
    assert error.message == "none of the 5 offers of this model can be used"
    assert [offer for offer, _ in error.explanations] == offers
    assert [code for code, _ in reasons(error)] == [
        "jurisdiction-not-allowed",
        "room",
        "expired",
        "blocks",
        "precision",
    ]


def test_what_the_client_found_out_counts_by_provider() -> None:
    offers = [an_offer(0, price_in=1, price_out=1), an_offer(1)]
    policy = a_policy(min_evidence=Evidence.RTT_CONSISTENT, min_stake=5)
    assert refusal(offers, policy).code == "all-excluded"
    known = {key_of(1).public_key: Known(evidence=Evidence.RTT_PROVEN, stake=5)}
    found = ask(offers, policy, known=known)
    assert spans(found) == [(1, "0:4")]
    assert [code for code, _ in reasons(found)] == ["evidence"]


def test_windows_and_chunks_that_a_job_needs() -> None:
    offers = [an_offer(0, window=7), an_offer(1, chunk=15), an_offer(2, sessions=0)]
    error = refusal(offers, needs=Needs(positions=100, window=8, chunk=16))
    assert [code for code, _ in reasons(error)] == ["window", "window", "room"]
    assert spans(ask([*offers, an_offer(3)], needs=Needs(positions=100, window=8, chunk=16))) == [(3, "0:4")]


def test_a_price_cap_below_the_cheapest_route() -> None:
    offers = thirds(price_in=10, price_out=30)
    assert ask(offers, a_policy(max_price_in=30, max_price_out=90)).price_out == 90
    error = refusal(offers, a_policy(max_price_out=89))
    assert error.code == "price-cap"
    assert error.message == "the cheapest route costs 0.000090 per 1M generated tokens, and your limit is 0.000089"
    assert refusal(offers, a_policy(max_price_in=29)).code == "price-cap"


def test_a_cap_makes_the_router_take_the_slower_way() -> None:
    offers = [an_offer(0, price_in=100, position_us=1_000), an_offer(1, price_in=10, position_us=90_000)]
    assert spans(ask(offers, latency_weight=100)) == [(0, "0:4")]
    found = ask(offers, a_policy(max_price_in=30), latency_weight=100)
    assert spans(found) == [(1, "0:4")]
    # It has a price, and the faster offer is not called dearer: it breaks the limit.
    assert reasons(found)[0][0] is ReasonCode.LIMITS


def test_a_latency_class_that_no_route_keeps() -> None:
    slow = thirds(position_us=20_000)
    voice = a_policy(latency_class=LatencyClass.VOICE)
    assert ask(slow, voice).latency_us == 66_000
    error = refusal(slow, a_policy(latency_class=LatencyClass.METRO))
    assert error.code == "too-slow"
    assert error.message == "the fastest route takes 66 ms for a token, and the latency class allows 50 ms"


def test_limits_that_cannot_be_kept_together() -> None:
    offers = [an_offer(0, price_in=10, position_us=90_000), an_offer(1, price_in=1_000, position_us=1_000)]
    error = refusal(offers, a_policy(latency_class=LatencyClass.METRO, max_price_in=300))
    assert error.code == "no-route"


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": 0},
        {"blocks": 257},
        {"latency_weight": -1},
        {"latency_weight": 10_000_001},
        {"prompt_milli": 1001},
    ],
)
def test_arguments_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="outside"):
        ask([an_offer()], **changes)


@pytest.mark.parametrize("matrix", [(), ((0, 1),), ((-1,),)])
def test_distances_are_a_square(matrix: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ConfigurationError, match="square"):
        Regions({}, matrix)


def test_a_region_has_distances() -> None:
    assert Regions({b"k": 0}).of == {b"k": 0}
    with pytest.raises(ConfigurationError, match="region"):
        Regions({b"k": 1})


@pytest.mark.parametrize("most", [1, 3, 4, 9])
def test_a_provider_may_be_capped_to_fewer_blocks_than_its_span(most: int) -> None:
    cheap, dear = an_offer(0, (0, 4), price_out=40), an_offer(1, (0, 4), price_out=4_000)
    found = ask([cheap, dear], most_blocks={cheap.public_key: most})
    used = {leg.offer.public_key: len(leg.span) for leg in found.legs}
    assert used == {cheap.public_key: min(most, 4)} | ({dear.public_key: 4 - most} if most < 4 else {})
    assert found.price_out == min(most, 4) * 10 + max(0, 4 - most) * 1_000


def test_a_cap_holds_for_who_stands_by_and_for_backups_and_concerns_nobody_else() -> None:
    cheap, dear, capped = an_offer(0, price_out=40), an_offer(1, price_out=400), an_offer(2, price_out=80)
    free = ask([cheap, dear, capped], standbys=1, backups=1, most_blocks={key_of(9).public_key: 1})
    held = ask([cheap, dear, capped], standbys=1, backups=1, most_blocks={capped.public_key: 3})
    assert spans(free) == spans(held) == [(0, "0:4")]
    assert [leg.offer for legs in free.standbys for leg in legs] == [capped]
    assert [leg.offer for legs in held.standbys for leg in legs] == [dear]
    assert spans(free.backups[0]) == [(2, "0:4")]
    assert {leg.offer.public_key: len(leg.span) for leg in held.backups[0].legs} == {
        capped.public_key: 3,
        dear.public_key: 1,
    }


def test_caps_that_leave_blocks_to_nobody_leave_no_route() -> None:
    alone = an_offer(0)
    assert spans(ask([alone], most_blocks={alone.public_key: 4})) == [(0, "0:4")]
    assert refusal([alone], most_blocks={alone.public_key: 3}).code == "no-route"


# Further routes


def test_backups_are_whole_routes_that_share_no_provider() -> None:
    offers = [*thirds(price_in=1, price_out=1), an_offer(5, price_out=10**6), an_offer(6, price_out=2 * 10**6)]
    offers += [an_offer(1, (0, 4), price_out=9 * 10**5)]
    found = ask(offers, backups=3)
    assert [spans(each) for each in (found, *found.backups)] == [
        [(0, "0:2"), (1, "2:3"), (2, "3:4")],
        [(5, "0:4")],
        [(6, "0:4")],
    ]
    assert found.backups[0].price_out == 10**6
    assert ask(offers).backups == ()


def test_an_offer_of_several_places_is_held_to_the_law_of_all() -> None:
    """A hyper-node in FR and CH may pass on what may leave both, and is passed what may come to both."""
    halves = [an_offer(0, (0, 2), jurisdiction="FR"), an_offer(1, (2, 4), jurisdiction="FR", places=("CH",))]
    dear = an_offer(2, (2, 4), jurisdiction="FR", price_out=10**6)
    open_now = Corridor(source="FR", to="CH", purpose="inference", expires_at=2**40 - 1)
    free = ask([*halves, dear], a_policy())
    assert spans(free) == [(0, "0:2"), (1, "2:4")]
    assert spans(ask([*halves, dear], a_policy(origin="FR", corridors=(open_now,)))) == spans(free)
    bound = ask([*halves, dear], a_policy(origin="FR"))
    assert spans(bound) == [(0, "0:2"), (2, "2:4")]
    assert [code for code, _ in reasons(bound)] == ["no-corridor"]


def test_what_no_lawful_ring_passes_through_is_told() -> None:
    open_now = tuple(Corridor(source="FR", to=to, purpose="inference", expires_at=2**40 - 1) for to in ("DE", "CH"))
    offers = [
        an_offer(0, (0, 2), jurisdiction="DE"),
        an_offer(1, (2, 4), jurisdiction="CH"),
        an_offer(2, (2, 4), jurisdiction="FR", price_out=10**6),
    ]
    found = ask(offers, a_policy(origin="FR", corridors=open_now))
    assert spans(found) == [(0, "0:2"), (2, "2:4")]
    assert reasons(found) == [
        ("no-corridor", "each route with it has a hop that your policy forbids, or leaves blocks out")
    ]
