"""The event engine: waits as on paper, the same money as flows give, and sessions by the ledger's own rules."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from plain_markets import market_toml, run_market
from small_economy import SMALL

from protocol.errors import ConfigurationError, DishonestError, RuleError
from protocol.market.rates import Rates
from protocol.session.tab import Tab
from simulator.engine import Market, simulate
from simulator.figures import figures_of
from simulator.law import policy_of
from simulator.ledger import SessionLedger
from simulator.queues import Queue
from simulator.scenario import parse_scenario
from simulator.sessions import Part, Sessions
from simulator.signers import KeySigners, NameSigners, Signers
from simulator.tables import Demand


def one_site(load: float, service: str, *, slots: int = 1, hours: int = 30) -> dict[str, float]:
    """The figures of one site of 3,600 requests an hour."""
    toml = market_toml([(1, 3600)], [(round(3600 * load), 10)], hours=hours, classes=f'service = "{service}"')
    toml = toml.replace("joules_in = 0", f"joules_in = 0\nslots = {slots}").replace(
        "[run]", '[run]\nfidelity = "event"'
    )
    return figures_of(run_market(toml))


@pytest.mark.parametrize(("load", "service", "slots", "expected"), [
    pytest.param(0.9, "fixed", 1, 0.9 / 0.1 / 2, marks=pytest.mark.long),
    (0.5, "exponential", 1, 0.5 / 0.5),
    pytest.param(0.8, "exponential", 2, 2 * 0.64 / (1 - 0.64), marks=pytest.mark.long),
])  # fmt: skip
def test_waits_are_those_of_queues_on_paper(load: float, service: str, slots: int, expected: float) -> None:
    """Each request takes one second of the site, on one slot or two."""
    found = one_site(load, service, slots=slots)
    assert found["demand.d0.wait"] == pytest.approx(expected, rel=0.05)
    assert found["demand.d0.latency"] == pytest.approx(expected + slots, rel=0.05)
    assert found["market.use"] == pytest.approx(load, abs=0.01)
    assert found["demand.d0.served"] == 1


def test_flows_and_events_agree_on_money_and_use() -> None:
    """Within 2 % of revenue for each site and a point of use, where sites have many slots and so little to wait for."""
    sites = [(1 + at / 10, 3600 + 360 * at) for at in range(5)]
    vary = 'service = "exponential"'  # with fixed times the sites' slots come free in step, and some wait
    toml = market_toml(sites, [(7000, 10), (2700, 10)], hours=10, classes=vary)
    toml = toml.replace("joules_in = 0", "joules_in = 0\nslots = 200")
    flows = run_market(toml)
    events = run_market(toml.replace("[run]", '[run]\nfidelity = "event"'))
    ours, theirs = flows.sites["revenue_micro"], events.sites["revenue_micro"]
    assert theirs[:3] == pytest.approx(ours[:3], rel=0.02)
    assert theirs.sum() == pytest.approx(ours.sum(), rel=0.02)
    assert np.abs(figures_of(flows)["market.use"] - figures_of(events)["market.use"]) < 0.01
    assert flows.classes["requests_served"].sum() == pytest.approx(events.classes["requests_served"].sum(), rel=0.02)


@pytest.mark.parametrize("signatures", ["names", "keys"])
def test_what_sites_hold_on_the_ledger_is_what_they_earned(signatures: str) -> None:
    """Sessions that last over midnight, when asks change, are paid as they were agreed."""
    many = signatures == "names"
    toml = market_toml([(1, 9), (2, 9)], [(9 if many else 1, 1000)], hours=26, market={"memory_days": 1})
    toml = toml.replace("tokens_in = 0", "tokens_in = 3").replace("joules_in = 0", "joules_in = 0.001\nhourly_cost = 1")
    run = f'[run]\nfidelity = "event"\nledger = true\nsignatures = "{signatures}"\nwindow = 400'
    market = Market(next(iter(parse_scenario(toml.replace("[run]", run)).runs.values())))
    for day, epochs in market.timeline.days():
        market.day(day, epochs)
    assert market.arena is not None
    records = market.recorder.records()
    assert market.arena.earned() == records.sites["revenue_micro"].tolist()
    served, wanted = (int(records.classes[f"requests_{name}"].sum()) for name in ("served", "wanted"))
    assert served == wanted > (200 if many else 10)


def test_a_pipeline_takes_the_time_of_all_its_stages_and_pays_each() -> None:
    toml = market_toml([(1, 360), (1, 720), (1, 360)], [(4, 10)], hours=6).replace("[run]", "[run]\nblocks = 9")
    for at, span in enumerate(((0, 3), (3, 6), (6, 9))):
        toml = toml.replace(f"[hardware.h{at:03d}]", f"[hardware.h{at:03d}]\nblocks = [{span[0]}, {span[1]}]")
    flows = figures_of(run_market(toml))
    promptly = toml.replace("tokens_in = 0", "tokens_in = 1")
    events = figures_of(run_market(promptly.replace("[run]", '[run]\nfidelity = "event"\nledger = true')))
    for found in (flows, events):
        assert found["demand.d0.latency"] == pytest.approx(10 + 5 + 10, rel=0.1)
        assert found["market.price"] == pytest.approx(3, abs=0.01)


LEGS = [("a", 0), ("b", 1_500_001), ("c", 7)]


def played(signers: Signers, size: tuple[int, int], window: int) -> tuple[Sessions, list[Part], tuple[int, ...]]:
    sessions = Sessions(SessionLedger(signers, ("chat",)), signers, window)
    none = {"price_cached": 0, "price_rejected": 0, "late_discount_ppm": 0}
    legs = [
        Part(site, 2, Rates(opening=3, price_in=price, price_out=2 * price, **none), (40, 466)) for site, price in LEGS
    ]
    demand = Demand(tokens_in=1, tokens_out=1, price_cap=1)
    return sessions, legs, sessions.settle("chat", policy_of(demand), size, legs)


@pytest.mark.parametrize("window", [1, 7, 64, 1000])
def test_a_session_pays_each_leg_to_the_unit_and_keeps_nothing(window: int) -> None:
    sessions, legs, paid = played(NameSigners(), (70, 31), window)
    assert paid == tuple(leg.owed(70, 31) for leg in legs)
    assert [sessions.ledger.held(leg.site) for leg in legs] == list(paid)
    sessions.ledger.check()


def test_real_keys_and_names_agree() -> None:
    assert played(NameSigners(), (9, 5), 4)[2] == played(KeySigners(), (9, 5), 4)[2]


def test_a_leg_that_signs_for_more_than_it_did_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tab is the shipped one: it believes no receipt that another contradicts."""
    monkeypatch.setattr("simulator.sessions.served", lambda plan, end: (end, 1))
    with pytest.raises(DishonestError, match="counts"):
        played(NameSigners(), (9, 5), 4)


def test_a_leg_that_is_not_paid_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tab, "next_voucher", lambda _tab: None)
    with pytest.raises(RuleError, match="nobody has paid"):
        played(NameSigners(), (9, 5), 4)


def test_one_price_for_all_and_waiting_for_cheap_hours_are_for_flows() -> None:
    for key in ('price_rule = "uniform"', ""):
        document = SMALL.replace("[market]", f"[market]\n{key}").replace(
            "hours = 340", 'hours = 24\nfidelity = "event"'
        )
        if not key:
            document = document.replace("growth = 2", "defer_hours = 3")
        with pytest.raises(ConfigurationError, match="wait at sites"):
            simulate(next(iter(parse_scenario(document).runs.values())))


STAGES = """
[run]
fidelity = "event"
hours = 2
blocks = 6
[entry]
rule = "none"
[region.north]
jurisdiction = "NO"
energy_price = 0.05
[demand.chat]
requests_per_hour = 50
tokens_in = 700
tokens_out = 300
price_cap = 2
"""


def test_a_stage_is_served_by_who_asks_least_for_its_blocks() -> None:
    """A site of all six blocks at 0.84 serves three of them for 0.42: less than one of three at 0.48."""
    document = STAGES
    kind = "tokens_in_per_s = 9000\ntokens_out_per_s = 900\njoules_in = 0\njoules_out = 0\nslots = 500\n"
    for name, span, ask in (("whole", "0, 6", 0.84), ("first", "0, 3", 0.48), ("last", "3, 6", 0.36)):
        document += f"[hardware.{name}]\n{kind}blocks = [{span}]\nask_in = {ask}\nask_out = {ask}\n"
        document += f'[site.{name}]\nregion = "north"\nhardware = "{name}"\n'
    plan = next(iter(parse_scenario(document).runs.values()))
    opened = {name: dataclasses.replace(each, opening=8) for name, each in plan.hardware.items()}
    paid, dearer = (simulate(dataclasses.replace(plan, hardware=each)) for each in (plan.hardware, opened))
    served = int(paid.classes["requests_served"].sum())
    assert paid.sites["revenue_micro"].sum() == served * (420 + 360)
    assert dearer.sites["revenue_micro"].sum() == served * (420 + 360 + 4 + 8)
    flows = dataclasses.replace(plan, run=dataclasses.replace(plan.run, fidelity="fluid"), hardware=opened)
    assert simulate(flows).sites["revenue_micro"].sum() == 2 * 50 * (420 + 360 + 4 + 8)
    earned = dict(zip(paid.population.names(), paid.sites["revenue_micro"].tolist(), strict=True))
    assert earned["site/first/00000"] == 0 < earned["site/whole/00000"]
    assert earned["site/last/00000"] > 0


def test_requests_take_the_route_that_the_nodes_own_router_finds() -> None:
    """Of overlapping spans the cheapest cover by hand: 0 to 2 at 0.1, 2 to 5 at 0.4, 5 to 6 a sixth of 1.2."""
    spans = [(0, 6, 1.2, "NO"), (0, 2, 0.1, "NO"), (1, 5, 0.9, "NO"), (2, 5, 0.4, "NO"), (4, 6, 0.8, "SE")]
    assert earned_a_request(spans) == {0: 200, 1: 100, 3: 400}
    assert earned_a_request(spans, 'deny = ["SE"]') == earned_a_request(spans[:4])


def earned_a_request(spans: list[tuple[int, int, float, str]], classes: str = "") -> dict[int, int]:
    """Micro-units of each site for one request through six blocks; sites of such blocks, asks and places."""
    document = STAGES.replace("price_cap = 2", f"price_cap = 2\n{classes}")
    document += '[region.south]\njurisdiction = "SE"\nenergy_price = 0.05\n'
    for at, (start, end, ask, place) in enumerate(spans):
        document += f"[hardware.k{at}]\nblocks = [{start}, {end}]\nask_in = {ask}\nask_out = {ask}\nslots = 500\n"
        document += "tokens_in_per_s = 9000\ntokens_out_per_s = 900\njoules_in = 0\njoules_out = 0\n"
        where = {"NO": "north", "SE": "south"}[place]
        document += f'[site.s{at}]\nregion = "{where}"\nhardware = "k{at}"\n'
    records = simulate(next(iter(parse_scenario(document).runs.values())))
    served = int(records.classes["requests_served"].sum())
    earned = zip(records.population.names(), records.sites["revenue_micro"].tolist(), strict=True)
    return {int(name[6:].split("/")[0]): micro // served for name, micro in earned if micro}


def test_who_would_wait_too_long_for_others_prompts_is_sent_away_as_by_a_node() -> None:
    """A prompt takes a second: a wait of two lets three wait, as a queue of three does (M/M/1/4)."""
    toml = market_toml([(1, 3600)], [(7200, 10)], hours=1, classes='service = "exponential"')
    toml = toml.replace("[run]", '[run]\nfidelity = "event"').replace("tokens_in = 0", "tokens_in = 1000")
    toml = toml.replace("tokens_in_per_s = 1000000", "tokens_in_per_s = 1000\nKEY")
    asked, room = (run_market(toml.replace("KEY", key)) for key in ("admit_ms = 2000", "queue = 3"))
    served = asked.classes["requests_served"]
    assert served.tolist() == room.classes["requests_served"].tolist()
    assert 0 < served.sum() < asked.classes["requests_wanted"].sum()


def test_another_clients_prompt_waits_for_no_more_of_others_than_it_has_itself() -> None:
    queue = Queue(1, -1, 2_000_000, 1000)
    for _ in range(4):
        queue.join(0, 10_000_000, "a", 1000)
    assert not queue.takes(1, "a", 1000)
    assert queue.takes(1, "b", 1000)


LATE = 'fidelity = "event"\nledger = true\nwindow = 600'


def discounted_toml(service: str, *, run: str = 'fidelity = "fluid"', discount: float = 0.4) -> str:
    """A site that takes 50 ms for a token and calls those above 60 ms late."""
    toml = market_toml([(1, 72)], [(60, 10)], hours=5, classes=service)
    toml = toml.replace("tokens_in = 0", "tokens_in = 3").replace("joules_in = 0", "joules_in = 0.001")
    late = f"[hardware.h000]\nlate_us = 60_000\nlate_discount = {discount}"
    return toml.replace("[hardware.h000]", late).replace("[run]", f"[run]\n{run}")


@pytest.mark.parametrize(("service", "late"), [
    ("", 0),
    ('service = "exponential"', math.exp(-1.2)),
    ('service = "gamma"\nservice_cv = 0.5', sum(math.exp(-4.8) * 4.8**n / math.factorial(n) for n in range(4))),
])  # fmt: skip
def test_tokens_that_come_late_are_paid_less_by_the_terms(service: str, late: float) -> None:
    """`late` of them on average (a gamma law of a fourth of its mean's square is Erlang's of four parts)."""
    flows, full = (run_market(discounted_toml(service, discount=each)).market for each in (0.4, 0))
    part = flows["price_micro_per_mtok"].mean() / full["price_micro_per_mtok"].mean()
    assert part == pytest.approx(1 - 0.4 * late, rel=2e-3)


def test_a_ledger_pays_for_late_tokens_as_receipts_say_and_as_often_as_flows_expect() -> None:
    toml = discounted_toml('service = "exponential"', run=LATE)
    market = Market(next(iter(parse_scenario(toml).runs.values())))
    for day, epochs in market.timeline.days():
        market.day(day, epochs)
    events, arena = market.recorder.records(), market.arena
    assert arena is not None
    assert arena.earned() == events.sites["revenue_micro"].tolist()
    paid = events.sites["revenue_micro"].sum() / events.classes["requests_served"].sum()
    assert paid / 1003 == pytest.approx(1 - 0.4 * math.exp(-1.2), rel=0.04)


def test_a_token_is_not_late_before_it_could_be_there() -> None:
    with pytest.raises(ConfigurationError, match="late_us is less than a token takes"):
        run_market(discounted_toml("").replace("late_us = 60_000", "late_us = 49_999"))
