"""Markets that move: scarcity, entry, waiting for cheap hours, places; and wrong models, which tests must catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plain_markets import growing_toml, market_toml, run_market

import simulator.entry
import simulator.pricing
import simulator.settlement
import simulator.zones
from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.deferral import next_cheaper
from simulator.figures import figures_of
from simulator.pricing import asks_of
from simulator.tables import Market

SURGE = '[[event]]\nat = 24\nfor = 12\nwhat = "demand"\nfactor = 10'
SITES = [(1, 3600), (2, 3600)]


def surged(cap: float, **market: object) -> Any:
    sites = [(0.5 + at / 10, 1000) for at in range(8)]
    return run_market(market_toml(sites, [(4000, cap)], hours=48, market=market, classes="swing = 0.3", more=SURGE))


@pytest.mark.parametrize("rule", ["uniform", "pay-as-ask"])
def test_ten_times_the_demand_costs_the_cap_in_nearly_all_short_hours(rule: str) -> None:
    prices = {}
    for cap in (5, 20):
        records = surged(cap, price_rule=rule)
        short = records.classes["short"][:, 0].astype(bool)
        assert 10 <= short.sum() <= 14
        paid = records.classes["price_micro_per_mtok"][:, 0]
        assert (paid[short] == cap * MICRO).mean() > 0.9
        assert (paid[~short] < 2 * MICRO).all()
        prices[cap] = figures_of(records)["market.price"]
    assert prices[20] > 2 * prices[5]
    most = surged(20, price_rule=rule, value_of_lost_load=8)
    assert figures_of(most)["market.top_price"] == 8


def test_posted_prices_do_not_show_a_shortage_but_figures_do() -> None:
    records = surged(20)
    assert figures_of(records)["market.price"] < 2
    assert figures_of(records)["market.top_price"] == 20


def grown(rule: str, *, capital: int = 0, sites: int = 20, noise: float = 0) -> dict[str, float]:
    """The figures of half a year after a burn-in."""
    return figures_of(run_market(growing_toml(rule, capital=capital, sites=sites, noise=noise, hours=4380)))


@pytest.mark.slow
@pytest.mark.parametrize("capital", [0, 25_000])
def test_free_entry_leaves_no_profit_and_no_lasting_loss(capital: int) -> None:
    found = grown("posted", capital=capital)
    assert abs(found["market.margin"]) < 0.03
    assert found["market.worst_quarter_margin"] > -0.05


@pytest.mark.long
@pytest.mark.parametrize("capital", [0, 25_000])
def test_one_price_for_all_leaves_no_lasting_loss_where_a_site_is_a_small_part(capital: int) -> None:
    """No two days are alike: else short hours are a whole number a day, and margins leap from one site to the next."""
    found = grown("uniform", capital=capital, sites=100, noise=0.05)
    assert abs(found["market.margin"]) < 0.03
    assert found["market.worst_quarter_margin"] > -0.05


@pytest.mark.long
@pytest.mark.parametrize("capital", [0, 25_000])
def test_one_price_leaves_no_lasting_loss_where_demand_answers_to_it(capital: int) -> None:
    """Days may be alike then: in a short hour the price rises as far as some go without, and no further."""
    toml = growing_toml("uniform", capital=capital, sites=55, noise=0, hours=4380, patience=14, elasticity=0.3)
    found = figures_of(run_market(toml))
    assert abs(found["market.margin"]) < 0.03
    assert found["market.worst_quarter_margin"] > -0.05


def test_next_cheaper_is_what_a_plain_search_finds() -> None:
    price = np.random.Generator(np.random.Philox(2)).integers(0, 9, 60)
    for at, found in enumerate(next_cheaper(price).tolist()):
        later = [t for t in range(at + 1, 60) if price[t] < price[at]]
        assert (found == later[0]) if later else found >= 60


def test_work_that_may_wait_is_done_in_cheap_hours_and_none_is_lost() -> None:
    toml = market_toml([(1, 3600)], [(100, 10)], hours=72).replace(
        "energy_price = 1", 'energy_price = 1\nshape = "time-of-use"\nswing = 0.5'
    )
    now, later = run_market(toml), run_market(toml.replace("price_cap = 10", "price_cap = 10\ndefer_hours = 24"))
    assert figures_of(later)["market.price"] < 0.75 * figures_of(now)["market.price"]
    assert later.classes["requests_served"].sum() >= 48 * 100
    full = market_toml(
        [(1, 360)], [(300, 10)], hours=48, more='[[event]]\nat = 2\nfor = 2\nwhat = "demand"\nfactor = 5'
    )
    lost, waited = run_market(full), run_market(full.replace("price_cap = 10", "price_cap = 10\ndefer_hours = 47"))
    assert lost.classes["requests_served"].sum() < waited.classes["requests_served"].sum() == 46 * 300 + 2 * 1500


def test_what_is_out_of_reach_serves_nobody_and_what_is_far_ranks_lower() -> None:
    toml = market_toml([(1, 3600), (1.01, 3600)], [(100, 10)], hours=2)
    toml = toml.replace('[site.s000]\nregion = "here"', '[site.s000]\nregion = "far"')
    toml += '\n[region.far]\njurisdiction = "AU"\nenergy_price = 1\npue = 1\nlatitude = -33\nlongitude = 151\n'
    far, near = "price_cap = 10", "price_cap = 10\nmax_round_trip_ms = 50"
    names = ("tokens_out", "revenue_micro")
    assert run_market(toml).sites[names[0]].tolist()[0] > 0
    assert run_market(toml.replace(far, near)).sites[names[0]].tolist()[0] == 0
    ranked = run_market(toml.replace("[market]", "[market]\ndelay_cost = 0.001"))
    assert ranked.sites[names[0]].tolist()[0] == 0
    assert figures_of(ranked)["market.price"] == pytest.approx(1.01, abs=1e-3), "a way costs no money"


def test_a_plug_in_asks_what_it_likes() -> None:
    fixed, idle = (
        run_market(market_toml(SITES, [(100, 10)], hours=2, market={"strategy": f"greedy_strategy:{name}"}))
        for name in ("Fixed", "Idle")
    )
    assert figures_of(fixed)["market.price"] == 5
    assert figures_of(idle)["market.price"] == 1
    with pytest.raises(ConfigurationError, match="greedy_strategy:None"):
        run_market(market_toml(SITES, [(100, 10)], hours=2, market={"strategy": "greedy_strategy:None"}))


# Wrong models


def floor_without_clamp(energy: Any, overhead: Any) -> Any:
    return energy + overhead


def margin_before_floor(floor: Any, margin: Any, capital: Any, use: Any) -> Any:
    return floor + floor * margin // MICRO + capital


def down(tokens_in: Any, tokens_out: Any, price_in: Any, price_out: Any, **_: Any) -> Any:
    return (tokens_in * price_in + tokens_out * price_out) // MICRO


def check_floor() -> None:
    assert int(asks_of(Market(), np.array([1000]), np.array([1000]), np.array([-(10**6)]), np.array([0]), 0)[0]) == 0


def check_use() -> None:
    assert int(asks_of(Market(margin=0), np.array([0]), np.array([1000]), np.array([1]), np.array([900]), 0)[0]) == 0


def check_rounding() -> None:
    toml = market_toml([(1, 3600)], [(1, 10)], hours=1).replace("tokens_out = 1000", "tokens_out = 1")
    assert run_market(toml).sites["revenue_micro"].tolist() == [1]
    assert run_market(toml.replace("= 3.600", "= 0.001")).sites["revenue_micro"].tolist() == [1]


def check_shortage() -> None:
    assert (
        figures_of(run_market(market_toml([(1, 360)], [(4000, 7)], hours=1, market={"price_rule": "uniform"})))[
            "market.price"
        ]
        == 7
    )


def check_losses() -> None:
    toml = market_toml([], [(500, 4)], hours=24 * 60, entry="present = 1\njoin = 0.5\npatience_days = 7")
    toml = toml.replace("[run]", "[run]\nproviders = 9").replace("[region.here]", "[region.here]\nshare = 1")
    toml += "\n[hardware.rack]\ntokens_in_per_s = 8000\ntokens_out_per_s = 700\n"
    toml += "joules_in = 0.1\njoules_out = 0.2\nhourly_cost = 2"
    assert figures_of(run_market(toml))["market.providers"] < 5


def ignored_losses(movers: Any, state: Any, day: int) -> Any:
    return np.full(len(state.present), -(10.0**15))


WRONG: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (simulator.pricing, "floor_price", floor_without_clamp, check_floor),
    (simulator.pricing, "ask_price", margin_before_floor, check_use),
    (simulator.settlement, "amount", down, check_rounding),
    (simulator.entry.Movers, "_scrap_daily", ignored_losses, check_losses),
    (simulator.zones, "_cheapest_left", lambda *_: np.ones((1, 1, 1), dtype=np.int64), check_shortage),
]


@pytest.mark.parametrize(("module", "name", "wrong", "check"), WRONG, ids=[name for _, name, *_ in WRONG])
def test_wrong_models_are_caught(
    module: Any, name: str, wrong: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        check()
