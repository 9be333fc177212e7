"""What must hold in any run: books that balance, the same figures from the same seed, the law, and known numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated_figures import small_figures, stored_figures
from small_economy import small_scenario, small_settings

from protocol.errors import ConfigurationError, RuleError
from simulator.clearing import HOUR_US
from simulator.demand import draw_classes, wanted
from simulator.engine import simulate
from simulator.habits import State, adapt
from simulator.metrics import Records
from simulator.output import tidy
from simulator.population import draw_population, tariffs
from simulator.settlement import Books, Day


@pytest.fixture(scope="module")
def records() -> Records:
    return simulate(small_settings())


def test_money_in_is_money_out(records: Records) -> None:
    paid = int(records.classes["paid_micro"].sum())
    assert paid > 0
    assert paid == int(records.regions["revenue_micro"].sum()) == int(records.providers["revenue_micro"].sum())
    costs = sum(int(records.providers[f"{kind}_cost_micro"].sum()) for kind in ("work", "idle", "other"))
    assert paid == costs + int(records.providers["profit_micro"].sum())


def test_books_that_do_not_balance_stop_the_run() -> None:
    plan = small_settings()
    books = Books(draw_classes(plan, draw_population(plan)))
    nothing, something = np.zeros((1, 2), np.int64), np.array([[5, 0]])
    zero = dict.fromkeys(("tokens_in", "tokens_out", "busy_us", "work_cost", "idle_cost", "overhead"), nothing)
    zero |= {"hourly_cost": nothing, "energy": nothing}
    books.post(Day(revenue=something, paid=np.array([[5], [0], [0]]), **zero))
    books.check()
    books.post(Day(revenue=something, paid=np.array([[4], [0], [0]]), **zero))
    with pytest.raises(RuleError, match="1 micro-units") as failure:
        books.check()
    assert failure.value.code == "conservation"


def test_tokens_are_those_of_the_requests_served(records: Records) -> None:
    served = records.classes["requests_served"].sum(axis=0)
    assert int(records.market["tokens"].sum()) == int((served * np.array([3100, 1000, 1000])).sum())
    assert (records.classes["requests_served"] <= records.classes["requests_wanted"]).all()
    assert records.market["use_ppm"].max() <= 1_000_000
    assert (records.providers["busy_us"] <= records.providers["hours_present"] * HOUR_US).all()


def test_requests_stay_where_the_law_and_the_cap_let_them() -> None:
    only_lawful = (("requests_per_hour = 150_000", "requests_per_hour = 0"), ("= 10_000\n", "= 0\n"))
    served = simulate(small_settings(*only_lawful))
    tokens = dict(zip(served.region_names, served.regions["tokens_out"].sum(axis=0).tolist(), strict=True))
    assert tokens["north"] > 0 < tokens["east"]
    assert tokens["west"] == tokens["south"] == 0
    assert (
        simulate(small_settings(*only_lawful, ("price_cap = 2\nallow", "price_cap = 0\nallow"))).market["tokens"].sum()
        == 0
    )


def test_no_request_is_sold_above_its_cap_or_below_its_energy(records: Records) -> None:
    caps = np.array([160_000, 2_000_000, 2_000_000])
    assert (records.classes["price_micro_per_mtok"] <= caps).all()
    sold = records.market["tokens"] > 0
    assert (records.market["price_micro_per_mtok"][sold] > records.market["energy_micro_per_mtok"][sold]).all()


def test_one_seed_gives_one_outcome_and_another_seed_another() -> None:
    first, again = (tidy({"run": simulate(small_settings())}) for _ in range(2))
    assert first.value.tobytes() == again.value.tobytes()
    assert first.digest == again.digest
    assert tidy({"run": simulate(small_settings(("seed = 3", "seed = 4")))}).digest != first.digest


def test_runs_do_not_depend_on_their_order_or_neighbours() -> None:
    runs = small_scenario().runs
    assert list(runs) == ["plain", "dear"]
    dear_first = {name: tidy({name: simulate(runs[name])}).digest for name in reversed(runs)}
    assert dear_first == {name: tidy({name: simulate(runs[name])}).digest for name in runs}


def test_a_new_demand_class_leaves_other_draws_alone() -> None:
    plan = small_settings()
    more = dataclasses.replace(plan, demand={"another": plan.demand["chat"], **plan.demand})
    before, after = (draw_classes(each, draw_population(each)) for each in (plan, more))
    assert after.names == ("another", *before.names)
    assert (after.potential[1:] == before.potential).all()
    assert (after.potential[0] != after.potential[after.names.index("chat")]).any()
    assert (tariffs(plan) == tariffs(more)).all()


def test_only_spot_tariffs_fall_below_nothing() -> None:
    course = dict(zip(small_settings().regions, tariffs(small_settings()), strict=True))
    assert course["north"].min() < 0
    assert min(int(course[name].min()) for name in ("west", "east", "south")) >= 0
    assert (course["south"] == 70_000).all()
    assert abs(int(course["east"].mean()) - 200_000) < 2_000


def test_demand_answers_yesterdays_price() -> None:
    plan = small_settings()
    classes, day = draw_classes(plan, draw_population(plan)), slice(0, 24)
    assert classes.names == ("batch", "chat", "lawful")
    usual = wanted(classes, day, np.array([1, 400_000, 1]))
    assert (usual == classes.potential[:, day]).all()
    assert (wanted(classes, day, np.zeros(3, np.int64)) == usual).all(), "nothing sold says nothing of the price"
    dear = wanted(classes, day, np.array([10**12, 500_000, 10**12]))
    assert (dear[1] == usual[1] * 800_000 // 1_000_000).all()
    assert (dear[[0, 2]] == usual[[0, 2]]).all()
    assert (wanted(classes, day, np.array([1, 10**12, 1]))[1] == 0).all()


def test_losses_drive_out_and_profits_attract() -> None:
    plan = small_settings(("leave = 0.02", "leave = 0"), ("join = 0.2", "join = 1"))
    population = draw_population(plan)
    here = np.arange(len(population)) % 2 == 0
    state = State(present=here, use=np.full(40, 500_000), loss_days=np.zeros(40, np.int64))
    lots, idle = np.zeros((2, 40), np.int64), np.zeros(40, np.int64)
    for _ in range(2):
        state = adapt(state, plan.market, population, idle, np.full(40, -1), lots)
        assert (state.present == here).all(), "patience lasts three days"
    gone = adapt(state, plan.market, population, idle, np.full(40, -1), lots)
    assert not gone.present[here].any()
    kept = adapt(state, plan.market, population, idle, np.full(40, 1), lots)
    assert kept.present.all()
    assert (kept.loss_days == 0).all()
    assert (kept.use[~here] == plan.market.target_use).all()
    assert (kept.use[here] < state.use[here]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("joules_out = 1.4", "joules_out = 1000"), None),
        (("tokens_in_per_s = 8000", "tokens_in_per_s = 10_000_000\njoules_spread = 0"), None),
        (("tokens_in_per_s = 900\n", "tokens_in_per_s = 10_000_000\n"), None),
        (("joules_in = 0.12", "joules_in = 1000\nmost_units = 1000 #"), "100 MW"),
        (("tokens_out_per_s = 90\n", "tokens_out_per_s = 1\n"), None),
        (("hourly_cost = 0.2", "hourly_cost = 1000"), "2,500 per million"),
        (("energy_price = 0.05", "energy_price = 25"), "tariff"),
        (("growth = 2", "growth = 20\nelasticity = 0"), None),
    ],
)
def test_extremes_are_computed_exactly_or_refused(change: tuple[str, str], message: str | None) -> None:
    plan = small_settings(("most_units = 4\n", ""), change, ("hours = 340", "hours = 48"))
    if message is None:
        simulate(plan)
    else:
        with pytest.raises(ConfigurationError, match=message):
            simulate(plan)


def test_golden_numbers_of_the_small_scenario(records: Records) -> None:
    """A change of the rules moves them; `tests/support/simulated_figures.py` then writes the new ones."""
    assert small_figures(records) == stored_figures()["small"]
