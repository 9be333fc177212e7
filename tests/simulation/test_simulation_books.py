"""Whatever a file may say is computed with books that balance, or refused; and clearing is what a plain loop gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from small_economy import small_settings

from protocol.errors import ConfigurationError, RuleError
from protocol.session.metering import amount
from protocol.units import MICRO
from simulator.clearing import clear, merit_order, passes_of, products_of, quotes, turns
from simulator.demand import draw_classes
from simulator.draws import draws_for
from simulator.engine import simulate
from simulator.exact import LARGEST, exact_sum, magnitude, ratio
from simulator.happenings import multiplied
from simulator.hardware import Hardware
from simulator.population import draw_population
from simulator.pricing import block_prices
from simulator.scenario import Settings
from simulator.settlement import Books
from simulator.supply import draw_supply
from simulator.tables import Agents, Audit, Demand, Entry, Event, Market, Region, Token
from simulator.timeline import Timeline
from simulator.validation import check_across

SCENARIOS = 15
"""Of 2,000 that `scripts/bench_simulator.py --scenarios 2000` tries."""


def anything(kind: Any, lots: np.random.Generator, **fixed: Any) -> Any:
    """A table with all that its declaration allows; any number of digits is as likely as any other."""
    values = {}
    for field in dataclasses.fields(kind):
        if "bounds" in field.metadata and field.name != "blocks":
            low, high = field.metadata["bounds"]
            digits = int(lots.integers(0, max(1, high.bit_length()) + 1))
            drawn = [low, high, min(high, max(low, int(lots.integers(0, 1 << digits, dtype=np.uint64))))]
            values[field.name] = drawn[int(lots.choice(3, p=[0.1, 0.1, 0.8]))]
        elif field.metadata.get("options"):
            values[field.name] = str(lots.choice(field.metadata["options"]))
    return kind(**{**values, **fixed})


def random_settings(number: int) -> Settings:
    """The number-th of endlessly many scenarios over all documented bounds. Raises ConfigurationError."""
    lots = draws_for(number, "random scenarios")
    providers, hours = int(lots.integers(1, 12)), int(lots.integers(1, 26))
    run = dataclasses.replace(small_settings().run, providers=providers, hours=hours, seed=number)
    run = dataclasses.replace(run, epoch_minutes=int(lots.choice([5, 15, 60])), burn_in_days=int(lots.integers(0, 3)))
    one_by_one, unusual = lots.random() < 0.2, lots.random() < 0.3
    if one_by_one:
        run = dataclasses.replace(run, fidelity="event", ledger=bool(lots.random() < 0.3))
    if unusual:
        run = dataclasses.replace(run, blocks=int(lots.integers(1, 9)))
    few = {"jurisdiction": "NO", "tariff": "", "carbon_series": "", "sites": int(lots.integers(0, 9))}
    regions = {f"r{i}": anything(Region, lots, **{**few, "share": 1 - i}) for i in range(2)}
    known = {"series": "", "origin": "", "latency_class": "batch", "min_evidence": "claimed"}
    if one_by_one:  # as many as can be served one by one in a moment, or far too many
        known |= {"requests_per_hour": int(lots.choice([7, 300, 10**9])), "growth": 0, "defer_hours": 0}
    demand = {f"d{i}": anything(Demand, lots, **known) for i in range(3)}
    if unusual:
        demand = {
            name: dataclasses.replace(each, latency_class=_one_of(LATENCY, lots)) for name, each in demand.items()
        }
    market = anything(Market, lots, strategy=_one_of(STRATEGIES, lots) if unusual else "rule")
    if one_by_one:
        market = dataclasses.replace(market, price_rule="posted", strategy="rule")
    kinds = [anything(Hardware, lots, share=1 + i, category="", blocks=_span(run.blocks, lots)) for i in range(2)]
    settings = Settings(
        run=run,
        market=market,
        entry=anything(Entry, lots),
        regions=regions,
        hardware={f"h{i}": each for i, each in enumerate(kinds)},
        demand=demand,
        agents=anything(Agents, lots),
        token=anything(Token, lots, price_series=""),
        audit=anything(Audit, lots),
        events=tuple(anything(Event, lots, where=()) for _ in range(int(lots.integers(0, 3)))),
    )
    if lots.random() < 0.9:
        settings = agreeing(settings)
    check_across(settings)
    return settings


def agreeing(settings: Settings) -> Settings:
    """The same, but for keys that need one another, and power that no site is let have: else most would be refused."""
    hardware = {}
    for name, kind in settings.hardware.items():
        most = 10**10 // kind.most_units  # milliwatts
        least_in, least_out = most // kind.tokens_in_per_s, most // kind.tokens_out_per_s
        joules = {"joules_in": min(kind.joules_in, least_in), "joules_out": min(kind.joules_out, least_out)}
        hardware[name] = dataclasses.replace(kind, **joules, draft_depth=min(kind.draft_depth, 4))
        hardware[name] = dataclasses.replace(hardware[name], late_us=max(kind.late_us, kind.position_us))
    demand = {
        name: dataclasses.replace(each, reference_price=max(1, each.reference_price), tokens_in=max(1, each.tokens_in))
        for name, each in settings.demand.items()
    }
    events = tuple(
        dataclasses.replace(each, factor=MICRO) if each.what in ("shed", "drain") else each for each in settings.events
    )
    token = dataclasses.replace(settings.token, fee=max(1, settings.token.fee))
    return dataclasses.replace(settings, hardware=hardware, demand=demand, events=events, token=token)


LATENCY = ("batch", "chat", "voice", "metro")
STRATEGIES = ("rule", "best-response", "cournot")


def _one_of(words: tuple[str, ...], lots: np.random.Generator) -> str:
    return str(lots.choice(words))


def _span(blocks: int, lots: np.random.Generator) -> tuple[int, ...]:
    start, end = sorted(lots.integers(0, blocks + 1, 2).tolist())
    return (start, end) if start < end and blocks > 1 else ()


def test_random_scenarios_give_a_result_or_a_clear_refusal() -> None:
    done = 0
    for number in range(SCENARIOS):
        try:
            records = simulate(random_settings(number))
        except ConfigurationError:
            continue
        done += 1
        for table in (records.regions, records.classes, records.market, records.days, records.sites):
            for name, figure in table.items():
                least = -(2**62) if "cost" in name or "profit" in name or "other" in name or "tariff" in name else 0
                if name not in ("energy_micro_per_mtok", "revenue_micro"):
                    assert figure.size == 0 or int(figure.min()) >= least, name
    assert done


@pytest.mark.parametrize("seed", range(6))
def test_clearing_and_payments_are_those_of_a_plain_loop(seed: int) -> None:
    plan = small_settings().with_seed(seed)
    people, timeline = draw_population(plan), Timeline(plan.run)
    classes, supply = draw_classes(plan, timeline, people), draw_supply(plan, timeline)
    lots = draws_for(seed, "test")
    use, ties = lots.integers(0, 1_000_001, len(people)), lots.permutation(len(people))
    prices = block_prices(plan.market, people, use, supply.per_kwh[people.region, :4].T)
    products = products_of(classes)
    merits = {p: merit_order(quotes(p[0], p[1], prices.ask_in, prices.ask_out), ties) for p in set(products)}
    left = lots.integers(0, 3_600_000_001, (4, len(people)))
    want, order = classes.potential[:, 8:12] * int(lots.choice([1, 3, 20])), turns(classes, seed)
    before = left.copy()
    trades = clear(classes, passes_of(classes, products, order), want, left, merits)
    rows = zip(trades.of_class, trades.epoch, trades.site, trades.requests, strict=True)
    found = {(int(c), int(e), int(n)): int(some) for c, e, n, some in rows}
    for epoch in range(4):
        free = before[epoch].tolist()
        for c in order:
            wanted, size = int(want[c, epoch]), (int(classes.tokens_in[c]), int(classes.tokens_out[c]))
            asks = [
                size[0] * int(a) + size[1] * int(b)
                for a, b in zip(prices.ask_in[epoch], prices.ask_out[epoch], strict=True)
            ]
            for n in sorted(range(len(people)), key=lambda n, asks=asks: (asks[n], ties[n])):
                if classes.lawful[c, n] and asks[n] <= int(classes.most_paid[c]):
                    some = min(wanted, free[n] // int(classes.busy_us[c, n]))
                    wanted -= some
                    free[n] -= some * int(classes.busy_us[c, n])
                    assert found.get((c, epoch, n), 0) == some
        assert left[epoch].tolist() == free


def test_what_events_multiply_never_wraps() -> None:
    plan = small_settings(("hours = 340", "hours = 24"))
    most = Event(at=0, what="token-price", factor=10**9)
    dear = dataclasses.replace(plan, token=dataclasses.replace(plan.token, price=10**12))
    simulate(dataclasses.replace(dear, events=(dataclasses.replace(most, factor=4 * 10**6),)))
    with pytest.raises(ConfigurationError, match="token's price outgrow"):
        simulate(dataclasses.replace(dear, events=(most,)))
    with pytest.raises(ConfigurationError, match="over a million"):
        simulate(dataclasses.replace(dear, events=(most, most, most)))
    figure, by = np.array([1, 2**40 - 1]), np.array([2**22])
    assert multiplied(figure, by, "tariff").tolist() == [(each << 22) // 10**6 for each in figure.tolist()]
    with pytest.raises(ConfigurationError, match="a tariff outgrow"):
        multiplied(figure + 1, by, "tariff")


def test_more_failures_than_can_be_drawn_are_refused() -> None:
    plan = small_settings(("hours = 340", "hours = 24"))
    often = {
        name: dataclasses.replace(kind, fails_after_days=1, repair_hours=1) for name, kind in plan.hardware.items()
    }
    with pytest.raises(ConfigurationError, match="failures would be drawn"):
        simulate(dataclasses.replace(plan, hardware=often))
    seldom = {name: dataclasses.replace(kind, fails_after_days=10**5) for name, kind in plan.hardware.items()}
    simulate(dataclasses.replace(plan, hardware=seldom))


def test_equal_classes_share_what_there_is() -> None:
    plan = small_settings(("price_cap = 0.16\ndeny", "price_cap = 2\ndeny"))
    plan = dataclasses.replace(plan, demand=dict.fromkeys(("a", "b", "c"), plan.demand["chat"]))
    people, timeline = draw_population(plan), Timeline(plan.run)
    classes = draw_classes(plan, timeline, people)
    prices = block_prices(plan.market, people, np.zeros(len(people), np.int64), np.full((1, len(people)), 10**5))
    merits = {
        products_of(classes)[0]: merit_order(quotes(700, 300, prices.ask_in, prices.ask_out), np.arange(len(people)))
    }
    want = np.array([[4_000_000], [2_000_000], [2_000_000]])
    left = np.full((1, len(people)), 3_600_000_000)
    served = clear(classes, passes_of(classes, products_of(classes), [0, 1, 2]), want, left, merits).served(3, 1)[:, 0]
    assert abs(served[0] - 2 * served[1]) <= 2
    assert abs(served[1] - served[2]) <= 2


def test_books_that_do_not_balance_are_a_fault() -> None:
    books = Books(("a",))
    books.move("treasury", "providers", 5)
    books.check()
    books.clients["a"] -= 1
    with pytest.raises(RuleError, match="do not balance"):
        books.check()


def test_sums_and_ratios_are_exact_or_refused() -> None:
    figure = np.array([2**62 - 1, 2**62 - 1, -(2**62) + 3], dtype=np.int64)
    assert exact_sum(figure) == sum(figure.tolist())
    assert magnitude(figure) == 2**62 - 1
    assert ratio(np.array([2**61]), np.array([3 * 2**61])).tolist() == [333333]
    with pytest.raises(ConfigurationError, match="62-bit"):
        ratio(np.array([LARGEST - 1]), np.array([1]))


def test_what_a_site_earns_is_the_amount_of_each_session() -> None:
    records = simulate(small_settings(("hours = 340", "hours = 24")))
    revenue, clients = records.regions["revenue_micro"].sum(), records.classes["paid_micro"].sum()
    assert revenue == clients == records.sites["revenue_micro"].sum()
    assert amount(1, 0, 1, 1) == 1
