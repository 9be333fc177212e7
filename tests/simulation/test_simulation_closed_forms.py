"""Markets whose answer is known on paper: what a referee of a paper would try first."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from plain_markets import market_toml, run_market

from simulator.engine import Market
from simulator.figures import figures_of
from simulator.metrics import Records
from simulator.population import draft_speed
from simulator.scenario import parse_scenario
from simulator.tables import Token
from simulator.tokens import Treasury, emission, token_price
from simulator.waiting import mean_wait_s

UNIFORM = {"price_rule": "uniform"}
LADDER = [(1, 3600), (2, 3600), (3, 3600)]
LINEAR = "elasticity = 1\nreference_price = 5"  # demand d (2 - p / 5)


def price(records: Records) -> float:
    return figures_of(records)["market.price"]


@pytest.mark.parametrize(
    ("requests", "clears", "rents"),
    [(1800, 1, [0, 0, 0]), (5400, 2, [1, 0, 0]), (9000, 3, [2, 1, 0]), (12_600, 10, [9, 8, 7])],
)
def test_a_uniform_price_is_that_of_the_last_one_needed_and_the_rest_is_rent(
    requests: int, clears: int, rents: list[int]
) -> None:
    records = run_market(market_toml(LADDER, [(requests, 10)], hours=2, market=UNIFORM))
    assert price(records) == clears
    sold = records.sites["tokens_out"]
    assert sold.tolist() == [min(3600, max(0, requests - 3600 * at)) * 2000 for at in range(3)]
    assert records.sites["profit_micro"].tolist() == [rent * int(each) for rent, each in zip(rents, sold, strict=True)]


@pytest.mark.parametrize(("cap", "most", "clears"), [(10, 0, 10), (20, 0, 20), (10, 5, 5), (10, 50, 10)])
def test_a_shortage_costs_the_cap_or_the_value_of_lost_load(cap: int, most: int, clears: int) -> None:
    keys = {**UNIFORM, "value_of_lost_load": most}
    assert price(run_market(market_toml(LADDER, [(20_000, cap)], hours=2, market=keys))) == clears
    bids = {**keys, "price_rule": "pay-as-ask"}
    assert price(run_market(market_toml(LADDER, [(20_000, cap)], hours=2, market=bids))) == clears


def test_the_price_lies_at_the_cap_of_the_last_one_who_is_served_when_more_would_pay() -> None:
    records = run_market(market_toml(LADDER, [(9000, 10), (9000, 4)], hours=2, market=UNIFORM))
    assert price(records) == 4
    assert records.classes["requests_served"][0].tolist() == [9000, 1800]


def test_who_is_priced_out_says_what_the_last_place_costs() -> None:
    """Two serve 7,200 at 1 and 2, a third asks 5: 2,800 who would pay 4 go without, so no price below 4 clears."""
    records = run_market(
        market_toml([(1, 3600), (2, 3600), (5, 3600)], [(5000, 10), (5000, 4)], hours=2, market=UNIFORM)
    )
    assert price(records) == 4
    assert records.classes["requests_served"][0].tolist() == [5000, 2200]
    assert not records.classes["short"].any(), "there is room for who pays 5"


def test_posted_prices_are_what_each_one_asks() -> None:
    records = run_market(market_toml(LADDER, [(5400, 10)], hours=2))
    assert price(records) == pytest.approx(4 / 3, abs=1e-6)
    assert records.sites["profit_micro"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("costs", "expected"), [([1, 1], 1), ([1, 2], 2), ([1, 1, 3], 1), ([2, 1, 3], 2), ([1, 12], 10)]
)
def test_bertrand_ends_at_the_second_lowest_cost_or_the_cap(costs: list[float], expected: float) -> None:
    keys = {"strategy": "best-response"}
    records = run_market(market_toml([(cost, 36_000) for cost in costs], [(3600, 10)], hours=2, market=keys))
    assert price(records) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("costs", [[1], [1, 2], [1, 1, 2, 2, 3], [0.5, 4], [1, 9.5, 9.8]])
def test_cournot_quantities_and_price(costs: list[float]) -> None:
    keys = {**UNIFORM, "strategy": "cournot"}
    toml = market_toml([(cost, 90_000) for cost in costs], [(36_000, 10)], hours=2, market=keys, classes=LINEAR)
    records = run_market(toml)
    slope = 36_000 / 5
    active = sorted(costs)
    while active and (10 + sum(active)) / (len(active) + 1) <= active[-1]:
        active.pop()
    expected = (10 + sum(active)) / (len(active) + 1)
    assert price(records) == pytest.approx(expected, rel=0.001)
    quantities = [max(0.0, slope * (expected - cost)) for cost in costs]
    assert records.sites["tokens_out"] / 2000 == pytest.approx(quantities, rel=0.01, abs=2)


@pytest.mark.parametrize(
    ("capacity", "expected"), [(10_000, 10 - 20_000 / 7200), (40_000, 4.0), (50_000, 50_000 / 7200), (90_000, 1.0)]
)
def test_demand_that_answers_at_once_meets_supply(capacity: int, expected: float) -> None:
    """Between two asks the price is where demand is just what the cheaper ones can serve."""
    costs = [(1, capacity), (4, capacity)]
    records = run_market(market_toml(costs, [(36_000, 10)], hours=2, market=UNIFORM, classes=LINEAR))
    if capacity == 50_000:
        expected = max(10 - 50_000 / 7200, 1)
    assert price(records) == pytest.approx(expected, rel=0.001)


def test_each_zone_of_law_has_its_own_price_and_no_more() -> None:
    """Of two classes one may go anywhere; a full zone costs what its users would pay elsewhere."""
    toml = market_toml([(1, 3600), (3, 3600)], [(1800, 10), (5400, 10)], hours=2, market=UNIFORM)
    toml = toml.replace('[site.s001]\nregion = "here"', '[site.s001]\nregion = "there"')
    toml += '\n[region.there]\njurisdiction = "SE"\nenergy_price = 1\npue = 1\n'
    toml = toml.replace("[demand.d0]", '[demand.d0]\nallow = ["NO"]')
    records = run_market(toml)
    assert records.classes["requests_served"][0].tolist() == [1800, 5400]
    assert records.classes["price_micro_per_mtok"][0].tolist() == [3_000_000, 3_000_000]


def test_burn_and_mint_close_in_both_ways() -> None:
    fees, minted, supply = 3_141_592_653, 1_000_000_007, 10**12
    token = Token(emission_per_day=minted, supply=supply, fee=10**6, closure="burn-equals-mint")
    day = Treasury(token).day(0, fees=fees, given=0)
    assert day.burned == day.minted == minted
    assert day.price == pytest.approx(fees / minted * 1e12, rel=1e-6)
    held = Token(supply=supply, fee=10**6, closure="equation-of-exchange", holding_days=30 * 10**6)
    exact = Fraction(fees) * 30 / (Fraction(10**12) / 10**6) * 10**6
    found = token_price(held, fees=fees, minted=0, supply=10**12, given=0)
    assert found == pytest.approx(float(exact), rel=1e-6)
    burned = Treasury(held).day(0, fees=fees, given=0).burned
    assert burned == pytest.approx(10**12 / 30, rel=1e-4)


def test_halving_mints_no_more_than_twice_the_first_period() -> None:
    token = Token(emission_per_day=1 << 40, halving_days=10)
    by_day = [emission(token, day) for day in range(500)]
    assert [by_day[10 * k] for k in range(5)] == [(1 << 40) >> k for k in range(5)]
    assert sum(by_day) == 10 * ((2 << 40) - 1)


@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_audits_deter_where_what_is_lost_outweighs_what_is_gained(ratio: float) -> None:
    """A request earns 1e-3 dollars, of which cheating saves a half; half of all checks lose a dollar of stake."""
    rate = 0.5e-3 / (0.5 * 1) * ratio
    audit = f'[audit]\nrate = {rate:.6f}\npower = 0.5\nstake = 1\ngain = 0.5\ncheats = "if-it-pays"'
    records = run_market(market_toml([(1, 3600)] * 20, [(3600, 1)], hours=24 * 3, more=audit))
    assert (records.days["cheated_requests"].sum() > 0) == (ratio < 1)


def test_cheating_pays_on_average_just_up_to_the_threshold() -> None:
    """What cheats gain, and lose when they are found out, as drawn: both sides meet where the rule says."""
    audit = '[audit]\nrate = {rate:.6f}\npower = 0.5\nstake = 1\ngain = 0.5\ncheats = "always"'
    toml = market_toml([(1, 360)] * 300, [(300 * 360, 1)], hours=24, more=audit.format(rate=0.00005))
    records = run_market(toml)
    found, cheated = records.days["caught"].sum(), records.days["cheated_requests"].sum()
    assert cheated == 300 * 360 * 24
    expected = 300 * (1 - (1 - 0.00005 * 0.5) ** (360 * 24))
    assert found == pytest.approx(expected, rel=0.25)
    assert records.days["slashed_micro"].sum() == found * 1_000_000


def test_a_stake_that_is_lost_is_parted_as_a_ledger_does() -> None:
    """Half of each one, rounded down, is whose check it was; the rest is burned."""
    audit = '[audit]\nrate = 1\nstake = 0.000007\ngain = 0.5\ncheats = "always"'
    toml = market_toml([(1, 360)] * 5, [(5 * 360, 1)], hours=24, more=audit)
    market = Market(next(iter(parse_scenario(toml).runs.values())))
    for day, epochs in market.timeline.days():
        market.day(day, epochs)
    assert (market.books.accounts["auditors"], market.books.accounts["burned"]) == (5 * 3, 5 * 4)


@pytest.mark.parametrize(("right", "depth"), [(0.8, 4), (0.5, 1), (0.95, 16)])
def test_speculation_brings_the_published_number_of_tokens(right: float, depth: int) -> None:
    toml = market_toml([(1, 3600)], [(1, 10)]).replace(
        "joules_in = 0", f"joules_in = 0\ndraft_accept = {right}\ndraft_depth = {depth}"
    )
    kind = next(iter(next(iter(parse_scenario(toml).runs.values())).hardware.values()))
    expected = kind.tokens_out_per_s * (1 - right ** (depth + 1)) / (1 - right)
    assert draft_speed(kind) == pytest.approx(expected, rel=1e-3)


def test_a_pipeline_carries_what_its_least_cut_does() -> None:
    """Against the least sum of rates over all blocks, for random spans."""
    lots = np.random.Generator(np.random.Philox(5))
    for _ in range(3):
        spans = [(0, 4), (4, 8), *(tuple(sorted(lots.choice(9, 2, replace=False).tolist())) for _ in range(6))]
        rates = lots.integers(1000, 9000, len(spans)).tolist()
        toml = market_toml([(1, rate) for rate in rates], [(200_000, 100)], hours=1)
        toml = toml.replace("[run]", "[run]\nblocks = 8")
        for at, span in enumerate(spans):
            toml = toml.replace(f"[hardware.h{at:03d}]", f"[hardware.h{at:03d}]\nblocks = [{span[0]}, {span[1]}]")
        cut = min(sum(r for r, (a, b) in zip(rates, spans, strict=True) if a <= block < b) for block in range(8))
        assert run_market(toml).classes["requests_served"].sum() == pytest.approx(cut, rel=0.02)


@pytest.mark.parametrize("load", [0.5, 0.9])
def test_the_correction_for_waiting_is_exact_for_one_server_and_near_for_more(load: float) -> None:
    one = np.array([1.0])
    assert mean_wait_s(one, load * one, one, variation=1) == pytest.approx(load / (1 - load))
    assert mean_wait_s(one, load * one, one) == pytest.approx(load / (1 - load) / 2)
    for servers in (2, 10, 50, 400):
        many = np.array([float(servers)])
        expected = erlang_c(servers, load) / (servers * (1 - load))
        assert mean_wait_s(many, load * one, one, variation=1) == pytest.approx(expected, rel=0.05, abs=0.002)


def erlang_c(servers: int, load: float) -> float:
    """The chance that a request has to wait, by its series."""
    offered = Fraction(servers) * Fraction(str(load))
    terms = list(itertools.accumulate(range(1, servers + 1), lambda term, k: term * offered / k, initial=Fraction(1)))
    last = terms[-1] / (1 - Fraction(str(load)))
    return float(last / (sum(terms[:-1]) + last))
