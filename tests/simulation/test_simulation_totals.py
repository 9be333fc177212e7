"""Totals, prices and shares are exact however large they are, or the run is refused: nothing ever wraps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from small_economy import small_settings

from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.demand import draw_classes
from simulator.engine import simulate
from simulator.exact import LARGEST, exact_sum, magnitude, ratio
from simulator.metrics import Records
from simulator.population import draw_population
from simulator.scenario import Demand, Hardware, Market, Region, Settings
from simulator.settlement import Books, Day
from simulator.summary import run_figures

FULL = st.integers(-(2**63), 2**63 - 1)
HELD = st.integers(0, LARGEST - 1)


def magnitudes(low: int, high: int) -> st.SearchStrategy[int]:
    """Any number of digits between the bounds is as likely as any other, and the bounds themselves are likely."""
    scale = st.integers(0, max(abs(low), abs(high)).bit_length()).map(lambda bits: min(high, max(low, (1 << bits) - 1)))
    return scale | st.integers(low, high) | st.sampled_from([low, high])


def anything(kind: type, **fixed: Any) -> st.SearchStrategy[Any]:
    """A table with all that its declaration allows."""
    fields = {}
    for field in dataclasses.fields(kind):
        if "bounds" in field.metadata:
            fields[field.name] = magnitudes(*field.metadata["bounds"])
        elif "options" in field.metadata:
            fields[field.name] = st.sampled_from(field.metadata["options"])
    return st.builds(kind, **{**fields, **{name: st.just(value) for name, value in fixed.items()}})


def _plan(
    market: Market, regions: list[Any], hardware: list[Any], demand: list[Any], size: tuple[int, int]
) -> Settings:
    run = dataclasses.replace(small_settings().run, providers=size[0], hours=size[1])
    tables = {"regions": regions, "hardware": hardware, "demand": demand}
    named = {key: {f"n{i}": row for i, row in enumerate(rows)} for key, rows in tables.items()}
    return dataclasses.replace(small_settings(), run=run, market=market, **named)


PLANS = st.builds(
    _plan,
    anything(Market),
    st.lists(anything(Region, jurisdiction="NO"), min_size=1, max_size=2),
    st.lists(anything(Hardware), min_size=1, max_size=2),
    st.lists(anything(Demand, allow=(), deny=()), min_size=1, max_size=3),
    st.tuples(magnitudes(1, 60), magnitudes(24, 60)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plan=PLANS)
def test_whatever_a_file_may_say_gives_true_totals_or_a_refusal(plan: Settings) -> None:
    try:
        records = simulate(plan)
    except ConfigurationError as refusal:
        event(f"refused: {refusal.message}")
        return
    _check(records)


def test_tokens_that_outgrow_62_bits_are_refused_and_their_neighbour_is_exact() -> None:
    """Ten classes of 1e9 requests of a million tokens for a thousand hours: more than an int64 holds."""
    hours = 1000
    with pytest.raises(ConfigurationError, match="the run's total of tokens outgrows 62-bit integers") as failure:
        simulate(_enormous(classes=10, hours=hours))
    assert "fewer providers or hours" in failure.value.hint
    records = simulate(_enormous(classes=2, hours=hours))
    _check(records)
    assert run_figures(records).tokens == 2 * 10**9 * (10**6 + 1) * hours > 2**60


def test_money_that_outgrows_62_bits_is_refused_and_its_neighbour_is_exact() -> None:
    def plan(hours: int) -> Settings:
        cheap = _enormous(classes=1, hours=hours)
        kind = dataclasses.replace(cheap.hardware["n0"], tokens_in_per_s=10**6, tokens_out_per_s=10**6, most_units=1)
        market = dataclasses.replace(cheap.market, overhead=10**8 * 5 // 2)
        return dataclasses.replace(cheap, market=market, hardware={"n0": kind})

    with pytest.raises(ConfigurationError, match="the run's total of money outgrows 62-bit integers"):
        simulate(plan(6000))
    _check(simulate(plan(100)))


def test_energy_that_outgrows_62_bits_is_refused_and_its_neighbour_is_exact() -> None:
    def plan(hours: int) -> Settings:
        idle = _enormous(classes=1, hours=hours)
        kind = dataclasses.replace(idle.hardware["n0"], idle_watts=100_000, most_units=1000)
        return dataclasses.replace(idle, hardware={"n0": kind})

    with pytest.raises(ConfigurationError, match="the run's total of energy outgrows 62-bit integers"):
        simulate(plan(1000))
    _check(simulate(plan(24)))


@settings(max_examples=200, deadline=None)
@given(values=st.lists(FULL, max_size=40))
def test_a_sum_of_any_int64s_is_the_sum_of_their_ints(values: list[int]) -> None:
    figure = np.array(values, dtype=np.int64)
    assert exact_sum(figure) == sum(values)
    assert magnitude(figure) == max(map(abs, values), default=0)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(FULL | st.integers(-(10**9), 10**9), HELD | st.integers(0, 10**9)), max_size=10))
def test_a_ratio_is_the_nearest_integer_or_refused(rows: list[tuple[int, int]]) -> None:
    expected = [(2 * a * MICRO + b) // (2 * b) if b else 0 for a, b in rows]
    above, below = (np.array(column, dtype=np.int64) for column in (zip(*rows, strict=True) if rows else ([], [])))
    if any(abs(value) >= LARGEST for value in expected):
        with pytest.raises(ConfigurationError, match="outgrows 62-bit"):
            ratio(above, below)
    else:
        assert ratio(above, below).tolist() == expected


def test_a_ratio_is_exact_where_floats_are_not() -> None:
    assert float(2**53 + 1) == 2**53
    assert ratio(np.array([2**53 + 1]), np.array([1]), 1).tolist() == [2**53 + 1]
    assert ratio(np.array([3, -3, 5]), np.array([2, 2, 0]), 1).tolist() == [2, -1, 0]


@settings(max_examples=100, deadline=None)
@given(figures=st.lists(st.lists(HELD, min_size=4, max_size=4), min_size=1, max_size=4))
def test_books_hold_any_days_to_the_unit_or_refuse_them(figures: list[list[int]]) -> None:
    plan = small_settings()
    books = Books(draw_classes(plan, draw_population(plan)))
    money = tokens = energy = 0
    for revenue, tokens_in, tokens_out, used in figures:
        money, tokens, energy = money + 2 * revenue, tokens + tokens_in + tokens_out, energy + used
        day = _day(revenue=revenue, tokens_in=tokens_in, tokens_out=tokens_out, energy=used, overhead=revenue)
        if max(money, tokens, energy) >= LARGEST:
            with pytest.raises(ConfigurationError, match="outgrows 62-bit"):
                books.post(day)
            return
        books.post(day)
    books.check()
    assert books.suppliers == -sum(books.clients.values()) == money // 2


def _day(**figures: int) -> Day:
    """One hour of one provider."""
    names = ("tokens_in", "tokens_out", "busy_us", "revenue", "work_cost", "idle_cost", "overhead", "energy")
    columns = {name: np.array([[figures.get(name, 0)]], np.int64) for name in names}
    paid = np.array([[figures["revenue"]], [0], [0]], np.int64)
    return Day(**columns, hourly_cost=np.zeros((1, 1), np.int64), paid=paid)


def _enormous(*, classes: int, hours: int) -> Settings:
    """Demand and machines at the upper bounds of what a file may say, at next to no price."""
    region = Region(share=1, jurisdiction="NO", energy_price=0)
    kind = Hardware(
        share=1,
        tokens_in_per_s=10**7,
        tokens_out_per_s=10**7,
        joules_in=0,
        joules_out=0,
        hourly_cost=0,
        most_units=1000,
    )
    demand = Demand(requests_per_hour=10**9, tokens_in=10**6, tokens_out=1, price_cap=10**10)
    market = Market(margin=0, leave=0, present=MICRO, patience_days=3650)
    return _plan(market, [region], [kind], [demand] * classes, (600, hours))


def _check(records: Records) -> None:
    """Every total, in Python ints, is what the finer figures add up to, and in range."""
    for table in (records.market, records.regions, records.classes, records.providers):
        for name, figure in table.items():
            assert magnitude(figure) < LARGEST, name
            if not name.startswith(("work", "idle", "tariff", "energy_micro", "profit")):
                assert figure.min() >= 0, name
    for name in ("tokens_in", "tokens_out", "revenue_micro", "work_cost_micro", "idle_cost_micro", "energy_mj"):
        assert _total(records.regions[name]) == _total(records.providers[name]), name
        assert abs(_total(records.regions[name])) < LARGEST
    tokens = _total(records.regions["tokens_in"]) + _total(records.regions["tokens_out"])
    assert tokens == _total(records.market["tokens"]) == _total(records.classes["tokens"])
    paid = _total(records.classes["paid_micro"])
    assert paid == _total(records.regions["revenue_micro"])
    costs = sum(_total(records.providers[f"{kind}_cost_micro"]) for kind in ("work", "idle", "other"))
    assert paid == costs + _total(records.providers["profit_micro"])
    figures = run_figures(records)
    assert figures.tokens == tokens
    assert figures.price == (paid * MICRO // tokens if tokens else 0)
    prices = zip(records.classes["paid_micro"].flat, records.classes["tokens"].flat, strict=True)
    assert records.classes["price_micro_per_mtok"].flatten().tolist() == [
        (2 * MICRO * int(money) + int(count)) // (2 * int(count)) if count else 0 for money, count in prices
    ]


def _total(figure: Any) -> int:
    return sum(map(int, figure.flat))
