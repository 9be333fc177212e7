"""A day on arrays is the day that plain Python ints give, provider by provider."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_economy import small_settings

from simulator.clearing import clear, merit_order, quotes
from simulator.demand import draw_classes
from simulator.draws import draws_for
from simulator.population import draw_population, tariffs
from simulator.pricing import hour_prices
from simulator.reference import plain_hour, sites
from simulator.settlement import settle


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), day=st.integers(0, 12), busier=st.sampled_from([0, 1, 2, 20]))
def test_a_day_on_arrays_equals_the_day_on_ints(seed: int, day: int, busier: int) -> None:
    plan = small_settings()
    plan = dataclasses.replace(plan, run=dataclasses.replace(plan.run, seed=seed))
    population, hours = draw_population(plan), slice(day * 24, day * 24 + 24)
    classes, tariff = draw_classes(plan, population), tariffs(plan)[population.region]
    lots = draws_for(seed, "test")
    present = lots.integers(0, 2, len(population))
    use = lots.integers(0, 1_000_001, len(population))
    ties = lots.permutation(len(population)).astype(np.int64)
    want = classes.potential[:, hours] * busier

    prices = hour_prices(plan.market, population, use, tariff[:, hours].T)
    sizes = set(zip(classes.tokens_in.tolist(), classes.tokens_out.tolist(), strict=True))
    orders = {size: merit_order(quotes(*size, prices.ask_in, prices.ask_out), ties) for size in sizes}
    served = clear(classes, classes.turns(day), want, present, orders)
    outcome = settle(classes, population, present, served, prices)

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
        for field in ("tokens_in", "tokens_out", "revenue", "work_cost", "idle_cost", "energy"):
            assert getattr(outcome, field)[hour].tolist() == [getattr(site, field) for site in plain], field


def test_equal_quotes_go_by_tie_rank() -> None:
    quote = np.full((1, 3), 5)
    assert merit_order(quote, np.array([2, 0, 1])).order.tolist() == [[1, 2, 0]]


def test_quotes_that_outgrow_the_sort_key_are_refused() -> None:
    from protocol.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="62-bit"):
        merit_order(np.full((1, 3), 2**61), np.arange(3))
