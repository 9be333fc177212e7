"""More markets whose answer is known on paper: queues that lose and lose patience, ways, two-part tariffs, carbon."""

from __future__ import annotations

import math

import pytest
from plain_markets import market_toml, run_market

from protocol.errors import ConfigurationError
from protocol.geography.distances import LIGHT_M_PER_S, distance_m
from simulator.engine import Market
from simulator.figures import figures_of
from simulator.metrics import Records
from simulator.scenario import parse_scenario

EVENTS = '[run]\nfidelity = "event"'
UNIFORM = {"price_rule": "uniform"}


def slots_of(load: float, slots: int, *, hardware: str = "", classes: str = "", hours: int = 5) -> dict[str, float]:
    """The figures of one site of so many slots that could serve 3,600 requests an hour together."""
    classes = f'service = "exponential"\n{classes}'
    toml = market_toml([(1, 3600)], [(round(3600 * load), 10)], hours=hours, classes=classes)
    toml = toml.replace("joules_in = 0", f"joules_in = 0\nslots = {slots}\n{hardware}")
    return figures_of(run_market(toml.replace("[run]", EVENTS)))


def chain(load: float, slots: int, most: int, patience: float = math.inf) -> list[float]:
    """Chances of 0 to `most` requests: births at `load * slots`, deaths at 1 each in service, and out of patience."""
    weights = [1.0]
    for n in range(1, most + 1):
        weights.append(weights[-1] * load * slots / (min(n, slots) + max(0, n - slots) / patience))
    return [each / sum(weights) for each in weights]


@pytest.mark.parametrize(("load", "slots", "queue"), [(0.8, 5, 0), (1.2, 5, 0), (0.9, 2, 3), (2.0, 1, 1)])
def test_a_queue_without_room_loses_what_erlang_says(load: float, slots: int, queue: int) -> None:
    """M/M/c/K; without a queue that is Erlang's B."""
    found = slots_of(load, slots, hardware=f"queue = {queue}")
    chances = chain(load, slots, slots + queue)
    assert 1 - found["demand.d0.served"] == pytest.approx(chances[-1], rel=0.06, abs=0.004)
    waiting = sum((n - slots) * chance for n, chance in enumerate(chances) if n > slots)
    passed = load * slots * (1 - chances[-1])
    assert found["demand.d0.wait"] / slots == pytest.approx(waiting / passed, rel=0.08, abs=0.004), "Little's law"


@pytest.mark.parametrize(("load", "slots", "patience"), [(1.0, 4, 1.0), (1.5, 2, 0.5)])
def test_who_loses_patience_leaves_as_in_erlangs_a(load: float, slots: int, patience: float) -> None:
    """M/M/c+M: a request is served in `slots` seconds on average, and waits for `patience` times that."""
    words = f'patience_ms = {round(patience * slots * 1000)}\npatience = "exponential"'
    found = slots_of(load, slots, classes=words)
    chances = chain(load, slots, 200, patience)
    leaving = sum((n - slots) / patience * chance for n, chance in enumerate(chances) if n > slots)
    assert 1 - found["demand.d0.served"] == pytest.approx(leaving / (load * slots), rel=0.06)


def test_waits_are_longer_than_a_limit_as_often_as_on_paper() -> None:
    """M/M/1: `load * exp(-(1 - load) t)` wait for longer than `t` service times."""
    found = slots_of(0.8, 1, classes="max_wait_ms = 5000", hours=12)
    assert found["demand.d0.late"] == pytest.approx(0.8 * math.exp(-0.2 * 5), rel=0.1)


@pytest.mark.parametrize(("fidelity", "load", "cv"), [("event", 0.6, 1.2), ("fluid", 0.8, 0.5), ("fluid", 0.9, 3)])
def test_waits_grow_with_how_services_vary_as_pollaczek_and_khinchine_say(
    fidelity: str, load: float, cv: float
) -> None:
    """M/G/1: `(1 + cv^2) / 2 * load / (1 - load)` services."""
    words = f'service = "gamma"\nservice_cv = {cv}'
    toml = market_toml([(1, 3600)], [(round(3600 * load), 10)], hours=20, classes=words)
    found = figures_of(run_market(toml.replace("[run]", f'[run]\nfidelity = "{fidelity}"')))
    assert found["demand.d0.wait"] == pytest.approx((1 + cv**2) / 2 * load / (1 - load), rel=0.06)


def test_clients_between_two_places_part_where_the_way_outweighs_the_price() -> None:
    """Hotelling's line: who is nearer to the dearer one than the difference is worth goes there."""
    toml = market_toml([(1, 36_000), (1.5, 36_000)], [(10, 10)] * 7, hours=1, market={"delay_cost": 0.01, "stretch": 2})
    toml = toml.replace('[site.s001]\nregion = "here"', '[site.s001]\nregion = "there"')
    toml += '\n[region.there]\njurisdiction = "NO"\nenergy_price = 1\npue = 1\npue_spread = 0\nlongitude = 90\n'
    for at in range(7):
        toml = toml.replace(f"[demand.d{at}]", f"[demand.d{at}]\nlongitude = {15 * at}")
    records = run_market(toml)
    dearer = records.classes["price_micro_per_mtok"][0] > 1_000_000
    each_ms = 3 * 2 / LIGHT_M_PER_S * 1000
    ways = [[distance_m((0, 15 * at), (0, end)) * each_ms for end in (0, 90)] for at in range(7)]
    assert dearer.tolist() == [0.5 + 0.01 * (to - fro) < 0 for fro, to in ways]
    assert 0 < dearer.sum() < 6


@pytest.mark.parametrize(("tokens", "flat"), [(1900, True), (2100, False)])
def test_a_two_part_tariff_is_for_long_requests(tokens: int, flat: bool) -> None:
    """3 dollars a million, or 1 and 0.004 for the request: they cost the same at 2,000 tokens."""
    toml = market_toml([(1, 3600), (1, 3600)], [(100, 10)], hours=1).replace(
        "tokens_out = 1000", f"tokens_out = {tokens}"
    )
    toml = toml.replace("[hardware.h000]", "[hardware.h000]\nask_out = 3").replace(
        "[hardware.h001]", "[hardware.h001]\nask_out = 1\nopening = 0.004"
    )
    revenue = run_market(toml).sites["revenue_micro"].tolist()
    assert revenue == ([100 * 3 * tokens, 0] if flat else [0, 100 * (4000 + tokens)])


@pytest.mark.parametrize("carbon_price", [0, 50, 1000])
def test_the_marginal_sites_carbon_is_passed_on_whole(carbon_price: int) -> None:
    """A kWh costs a dollar and 800 g; the last site needs 7.2 joules a token, so 2 kWh a million tokens."""
    toml = market_toml([(1, 3600), (2, 3600)], [(5400, 10)], hours=1, market={**UNIFORM, "carbon_price": carbon_price})
    found = run_market(toml.replace("energy_price = 1", "energy_price = 1\ncarbon = 800"))
    assert figures_of(found)["market.price"] == pytest.approx(2 * (1 + 0.0008 * carbon_price), abs=1e-6)


@pytest.mark.parametrize(("clean_first", "carbon_price"), [(False, 400), (True, 600)])
def test_carbon_turns_the_merit_order_where_costs_cross(clean_first: bool, carbon_price: int) -> None:
    """Half a dollar more a kWh against a kilogram of CO2: they cross at 500 dollars a tonne."""
    toml = market_toml([(1, 3600), (1, 3600)], [(1800, 10)], hours=1, market={"carbon_price": carbon_price})
    toml = toml.replace('[site.s001]\nregion = "here"', '[site.s001]\nregion = "clean"')
    toml = toml.replace("energy_price = 1", "energy_price = 1\ncarbon = 1000")
    toml += '\n[region.clean]\njurisdiction = "SE"\nenergy_price = 1.5\npue = 1\npue_spread = 0\n'
    records = run_market(toml)
    served = records.regions["tokens_out"].sum(axis=0)
    assert records.region_names[int(served.argmax())] == ("clean" if clean_first else "here")
    assert served.min() == 0


@pytest.mark.parametrize("capacities", [(6000, 6000), (9000, 3000), (4000, 4000, 4000)])
def test_prices_under_small_capacities_clear_the_market(capacities: tuple[int, ...]) -> None:
    """Bertrand and Edgeworth: nobody undercuts who is sold out, so all ask what sells just all of it."""
    classes = "elasticity = 1\nreference_price = 5"
    toml = market_toml(
        [(1, each) for each in capacities],
        [(36_000, 10)],
        hours=1,
        market={"strategy": "best-response"},
        classes=classes,
    )
    records = run_market(toml)
    assert figures_of(records)["market.price"] == pytest.approx(10 - sum(capacities) / 7200, rel=0.02)


def test_a_monopolist_asks_half_way_to_where_nobody_buys() -> None:
    """Linear demand up to 10 dollars, a cost of 2: the best ask is 6."""
    toml = market_toml(
        [(2, 90_000)], [(36_000, 10)], hours=1, market={"strategy": "best-response"},
        classes="elasticity = 1\nreference_price = 5",
    )  # fmt: skip
    assert figures_of(run_market(toml))["market.price"] == pytest.approx(6, rel=0.02)


@pytest.mark.parametrize(("followers", "price"), [(1, 1 + 9 / 4), (3, 1 + 9 / 8), (0, 1 + 9 / 2)])
def test_who_chooses_first_offers_half_of_all(followers: int, price: float) -> None:
    """Stackelberg, linear demand up to 10, a cost of 1: the leader sells half of it, others share the rest."""
    toml = market_toml(
        [(1, 90_000)] * (followers + 1), [(36_000, 10)], hours=1, classes="elasticity = 1\nreference_price = 5",
        market={**UNIFORM, "strategy": "cournot", "leader": "s000"},
    )  # fmt: skip
    records = run_market(toml)
    assert figures_of(records)["market.price"] == pytest.approx(price, rel=0.01)
    sold = records.sites["tokens_out"] / 1000
    assert sold[0] == pytest.approx(7200 * 9 / 2, rel=0.01)
    assert sold[1:] == pytest.approx([7200 * 9 / 2 / (followers + 1)] * followers, rel=0.01)


def test_a_leader_is_one_site_that_chooses_quantities() -> None:
    for keys in ({"leader": "s000"}, {**UNIFORM, "strategy": "cournot", "leader": "s001"}):
        with pytest.raises(ConfigurationError, match=r"market\.leader"):
            run_market(market_toml([(1, 3600)], [(10, 10)], hours=1, market=keys))


def test_who_is_alone_in_two_places_asks_in_each_what_it_bears() -> None:
    """Third-degree discrimination: half way from a cost of 2 to where nobody there buys, at 10 and at 6."""
    toml = market_toml(
        [(2, 90_000), (2, 90_000)], [(36_000, 10), (36_000, 10)], hours=1, market={"strategy": "best-response"},
        classes="elasticity = 1\nreference_price = 5",
    )  # fmt: skip
    toml = toml.replace('[site.s001]\nregion = "here"', '[site.s001]\nregion = "there"')
    toml = toml.replace("[demand.d0]", '[demand.d0]\nallow = ["NO"]').replace(
        "[demand.d1]", '[demand.d1]\nallow = ["SE"]'
    )
    head, _, tail = toml.rpartition("reference_price = 5")
    toml = f"{head}reference_price = 3{tail}"
    toml += '\n[region.there]\njurisdiction = "SE"\nenergy_price = 1\npue = 1\npue_spread = 0\n'
    prices = run_market(toml).classes["price_micro_per_mtok"][0] / 1e6
    assert prices.tolist() == pytest.approx([6, 4], rel=0.02)


def test_of_a_fee_a_part_is_burned_and_the_rest_kept() -> None:
    token = '[token]\nfee = 0.1\nburn_share = 0.3\nemission_per_day = 5\nclosure = "burn-equals-mint"'
    market = Market(next(iter(parse_scenario(market_toml([(1, 3600)], [(3600, 10)], more=token)).runs.values())))
    for day, epochs in market.timeline.days():
        market.day(day, epochs)
    paid = -sum(market.books.clients.values())
    assert market.books.accounts["treasury"] == paid * 7 // 100
    assert market.recorder.records().days["token_price_pico"][0] == paid * 3 // 100 * 10**12 // 5_000_000


def test_nothing_depends_on_how_one_demand_is_cut_into_classes() -> None:
    whole = run_market(market_toml([(1, 3600), (2, 3600)], [(5400, 10)], hours=3))
    parts = run_market(market_toml([(1, 3600), (2, 3600)], [(1800, 10)] * 3, hours=3))
    for name in ("tokens_out", "work_cost_micro"):
        assert whole.sites[name].tolist() == parts.sites[name].tolist()
    paid = [sum(each.classes["paid_micro"].sum(axis=1).tolist()) for each in (whole, parts)]
    assert paid[0] == pytest.approx(paid[1], abs=9)


def failing(shape: float, days: int) -> Records:
    """Four thousand sites that run for ten days on average, and are down for two."""
    toml = market_toml([(1, 3600)], [(10, 10)], hours=days * 24).replace(
        'hardware = "h000"', 'hardware = "h000"\ncount = 4000'
    )
    fails = f"[hardware.h000]\nfails_after_days = 10\nfailure_shape = {shape}\nrepair_hours = 48"
    return run_market(toml.replace("[hardware.h000]", fails))


@pytest.mark.parametrize("shape", [0.7, 1.0, 3.0])
def test_machines_fail_by_weibulls_law(shape: float) -> None:
    """Those that never failed by a day are as many as the law says, and in the long run a sixth is down."""
    records = failing(shape, 30 if shape == 1 else 1)
    scale = 10 / math.gamma(1 + 1 / shape)
    up = records.regions["working_us"][:, 0] / (4000 * 3600 * 1_000_000)
    short = 6  # hours, in which next to nobody is repaired
    assert 1 - up[short] == pytest.approx(1 - math.exp(-(((short + 0.5) / 24 / scale) ** shape)), rel=0.2, abs=0.004)
    if shape == 1:
        assert up[-240:].mean() == pytest.approx(10 / 12, rel=0.02)
        by_day = 10 / 12 + 2 / 12 * math.exp(-(1 / 10 + 1 / 2) * 3)
        assert up[71:73].mean() == pytest.approx(by_day, rel=0.02), "a Markov chain of two states"


def test_a_months_highest_draw_is_charged_once() -> None:
    """3,600 requests an hour of 1,000 tokens at 3.6 joules draw 3.6 kW; ten times as many for an hour, 36 kW."""
    surge = '[[event]]\nat = 100\nfor = 1\nwhat = "demand"\nfactor = 10'
    toml = market_toml([(1, 36_000)], [(3600, 10)], hours=60 * 24, more=surge)
    plain, charged = (run_market(toml.replace("pue = 1\n", f"pue = 1\ndemand_charge = {rate}\n")) for rate in (0, 12))
    extra = charged.sites["idle_cost_micro"] - plain.sites["idle_cost_micro"]
    assert extra.tolist() == [12 * (36_000 + 3_600) * 1000]
    assert charged.sites["profit_micro"].tolist() == (plain.sites["profit_micro"] - extra).tolist()


def test_a_rival_that_is_full_leaves_the_rest_of_demand_to_the_other() -> None:
    """Demand 7,200 (10 - p), costs 1 and 1: who can serve 10,000 does, the other half of what is left at cost."""
    keys = {"price_rule": "uniform", "strategy": "cournot"}
    toml = market_toml(
        [(1, 10_000), (1, 90_000)], [(36_000, 10)], hours=2, market=keys, classes="elasticity = 1\nreference_price = 5"
    )
    other = (9 * 7200 - 10_000) / 2
    assert figures_of(run_market(toml))["market.price"] == pytest.approx(10 - (10_000 + other) / 7200, rel=1e-3)


def test_two_queues_in_a_row_are_each_as_if_alone() -> None:
    """Jackson: what leaves a queue of exponential services is again Poisson."""
    toml = market_toml([(1, 720), (1, 900)], [(360, 10)], hours=40, classes='service = "exponential"')
    toml = toml.replace("[run]", '[run]\nfidelity = "event"\nblocks = 2')
    for at in range(2):
        toml = toml.replace(f"[hardware.h{at:03d}]", f"[hardware.h{at:03d}]\nblocks = [{at}, {at + 1}]")
    expected = 3600 / (720 - 360) + 3600 / (900 - 360)
    assert figures_of(run_market(toml))["demand.d0.latency"] == pytest.approx(expected, rel=0.05)
