"""A day on arrays is the day that plain Python ints give, provider by provider, or it is refused: it never wraps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from small_economy import small_settings

from protocol.errors import ConfigurationError
from simulator.clearing import clear, merit_order, quotes
from simulator.demand import draw_classes
from simulator.draws import draws_for
from simulator.population import draw_population, tariffs
from simulator.pricing import hour_prices
from simulator.reference import plain_hour, sites
from simulator.scenario import Demand, Hardware, Market, Region, Settings
from simulator.settlement import Books, settle

MONEY = ("tokens_in", "tokens_out", "revenue", "work_cost", "idle_cost", "energy")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), day=st.integers(0, 12), busier=st.sampled_from([0, 1, 2, 20]))
def test_a_day_on_arrays_equals_the_day_on_ints(seed: int, day: int, busier: int) -> None:
    plan = small_settings()
    _compare(dataclasses.replace(plan, run=dataclasses.replace(plan.run, seed=seed)), day, busier)


def _whole(least: int, most: int) -> st.SearchStrategy[int]:
    """Any magnitude between the bounds is as likely as any other, and the bounds themselves are likely."""
    magnitudes = st.integers(0, most.bit_length()).map(lambda bits: min(most, max(least, (1 << bits) - 1)))
    return magnitudes | st.integers(least, most) | st.sampled_from([least, most])


EXTREMES = st.builds(
    lambda market, region, hardware, demand: dataclasses.replace(
        small_settings(),
        run=dataclasses.replace(small_settings().run, providers=5, hours=24),
        market=market,
        regions={"here": region},
        hardware={"this": hardware},
        demand={"all": demand},
    ),
    st.builds(
        Market,
        energy_scale=_whole(0, 100_000),
        overhead=_whole(0, 10**9),
        target_use=_whole(50_000, 10**6),
        margin=_whole(0, 4 * 10**6),
    ),
    st.builds(
        Region,
        share=st.just(1),
        jurisdiction=st.just("NO"),
        energy_price=_whole(0, 25_000_000),
        shape=st.just("spot"),
        swing=_whole(0, 2_000_000),
        noise=_whole(0, 2_000_000),
        pue=_whole(1000, 5000),
        pue_spread=_whole(0, 4000),
    ),
    st.builds(
        Hardware,
        share=st.just(1),
        tokens_in_per_s=_whole(1, 10**7),
        tokens_out_per_s=_whole(1, 10**7),
        joules_in=_whole(0, 10**6),
        joules_out=_whole(0, 10**6),
        idle_watts=_whole(0, 100_000),
        hourly_cost=_whole(0, 10**9),
        most_units=_whole(1, 1000),
    ),
    st.builds(
        Demand,
        requests_per_hour=_whole(0, 10**9),
        tokens_in=_whole(0, 10**6),
        tokens_out=_whole(1, 10**6),
        price_cap=_whole(0, 10**10),
    ),
)


@settings(max_examples=300, deadline=None)
@given(plan=EXTREMES)
def test_whatever_a_file_may_say_is_computed_exactly_or_refused(plan: Settings) -> None:
    try:
        _compare(plan, 0, 1)
    except ConfigurationError as refusal:
        event(f"refused: {refusal.message}")


def test_equal_quotes_go_by_tie_rank() -> None:
    quote = np.full((1, 3), 5)
    assert merit_order(quote, np.array([2, 0, 1])).order.tolist() == [[1, 2, 0]]


def test_quotes_that_outgrow_the_sort_key_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="62-bit"):
        merit_order(np.full((1, 3), 2**61), np.arange(3))


def _compare(plan: Settings, day: int, busier: int) -> None:
    """One day both ways; the state that providers bring to it is drawn."""
    population, hours = draw_population(plan), slice(day * 24, day * 24 + 24)
    classes, tariff = draw_classes(plan, population), tariffs(plan)[population.region]
    lots = draws_for(plan.run.seed, "test")
    present = lots.integers(0, 2, len(population))
    use = lots.integers(0, 1_000_001, len(population))
    ties = lots.permutation(len(population)).astype(np.int64)
    want = classes.potential[:, hours] * busier

    prices = hour_prices(plan.market, population, use, tariff[:, hours].T)
    sizes = set(zip(classes.tokens_in.tolist(), classes.tokens_out.tolist(), strict=True))
    orders = {size: merit_order(quotes(*size, prices.ask_in, prices.ask_out), ties) for size in sizes}
    served = clear(classes, classes.turns(day), want, present, orders)
    outcome = settle(classes, population, present, served, prices)
    books = Books(classes)
    books.post(outcome)
    books.check()

    for hour in range(24):
        plain = plain_hour(
            plan.market,
            sites(population),
            classes,
            turns=classes.turns(day),
            tie_rank=ties.tolist(),
            present=present.astype(bool).tolist(),
            use=use.tolist(),
            tariff=tariff[:, day * 24 + hour].tolist(),
            want=want[:, hour].tolist(),
        )
        for c, name in enumerate(classes.names):
            assert served[c, hour].tolist() == [site.requests.get(name, 0) for site in plain]
        for field in MONEY:
            assert getattr(outcome, field)[hour].tolist() == [getattr(site, field) for site in plain], field
