"""The simulator's asks and law are the node's: on random policies, offers and costs, by what a node calls."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.energy.tariff import capital_price
from protocol.geography.jurisdictions import COUNTRIES
from protocol.market.pricing import Costs, MarginPolicy, Pricing, Supply
from protocol.policy.policy import Known, Needs, ReasonCode, excluded
from protocol.units import MICRO
from simulator.hardware import Hardware
from simulator.law import MODEL, VENUE, lawful, offer_of, policy_of
from simulator.pricing import asks_of
from simulator.scenario import Settings
from simulator.tables import Demand, Entry, Market, Region, Run

PAIRS = 10_000
LOTS = np.random.Generator(np.random.Philox(11))
PLACES = ("DE", "DE-BE", "FR", "NO", "US", "US-CA", "CH", "IS", "ZZ", "SG")
AREAS = ("DE", "DE-BE", "DE-BY", "EU", "EEA", "US", "US-CA", "CH", "NO", "SG")


def _some(names: tuple[str, ...], most: int) -> tuple[str, ...]:
    return tuple(sorted(LOTS.choice(names, LOTS.integers(0, most + 1), replace=False).tolist()))


def test_which_sites_may_serve_a_class_is_what_a_client_finds() -> None:
    """100 policies by 10 x 10 kinds of offers: each pair is judged by the rule, on the offer that stands for it."""
    kinds = {
        f"h{i}": Hardware(
            tokens_in_per_s=1,
            tokens_out_per_s=int(10 ** LOTS.uniform(0, 4)),
            joules_in=0,
            joules_out=0,
            slots=int(LOTS.integers(1, 64)),
            category=str(LOTS.choice(["", "consumer", "datacenter"])),
        )
        for i in range(10)
    }
    evidence = ("claimed", "rtt_consistent", "rtt_proven", "attested")
    regions = {
        place: Region(jurisdiction=place, carbon=int(LOTS.integers(0, 900)), evidence=str(LOTS.choice(evidence)))
        for place in PLACES
    }
    demand = {}
    for i in range(PAIRS // 100):
        origin = str(LOTS.choice(["", "", "DE", "US-CA"]))
        demand[f"d{i}"] = Demand(
            tokens_in=1,
            tokens_out=1,
            price_cap=1,
            allow=_some(AREAS, 2),
            deny=_some(AREAS, 2),
            origin=origin,
            corridors=("EU>EEA", "US>EU") if origin and LOTS.random() < 0.7 else (),
            deny_hardware=_some(("consumer", "datacenter"), 1),
            max_carbon=int(LOTS.choice([0, 0, 300])),
            min_evidence=str(LOTS.choice(evidence[:2])),
            latency_class=str(LOTS.choice(["batch", "chat", "voice", "metro"])),
        )
    plan = Settings(run=Run(), market=Market(), entry=Entry(), regions=regions, hardware=kinds, demand=demand)
    region, hardware = (each.reshape(-1) for each in np.meshgrid(np.arange(10), np.arange(10)))
    found = lawful(plan, region, hardware)
    reasons = set()
    for c, wanted in enumerate(plan.demand.values()):
        for n, (r, h) in enumerate(zip(region, hardware, strict=True)):
            place, kind = list(plan.regions.values())[r], list(plan.hardware.values())[h]
            offer = offer_of(place, kind)
            # What stands for the site says of it what the scenario does.
            assert offer.hardware.category == kind.category
            assert offer.jurisdiction in COUNTRIES or offer.jurisdiction == "ZZ"
            reason = excluded(
                policy_of(wanted),
                offer,
                model=MODEL,
                venue=VENUE,
                now=1,
                needs=Needs(),
                known=Known(evidence=type(policy_of(wanted).min_evidence)(place.evidence)),
            )
            assert found[c, n] == (reason is None), (wanted, place, kind)
            reasons.add(None if reason is None else reason.code)
    assert reasons >= {
        None,
        ReasonCode.DENIED,
        ReasonCode.NOT_ALLOWED,
        ReasonCode.CORRIDOR,
        ReasonCode.UNDECLARED,
        ReasonCode.CARBON,
        ReasonCode.EVIDENCE,
        ReasonCode.HARDWARE,
        ReasonCode.TOO_SLOW,
    }


def test_asks_are_those_of_a_node_with_the_same_settings_and_costs() -> None:
    """10,000 random states of cost: arrays here, `Pricing.quotes` there, for each margin policy."""
    draw = LOTS.integers
    each = {
        "mj_in": draw(1, 50_000, PAIRS),
        "mj_out": draw(1, 500_000, PAIRS),
        "pue": draw(1000, 5000, PAIRS),
        "per_kwh": draw(-500_000, 2_000_000, PAIRS),
        "carbon": draw(0, 1000, PAIRS),
        "hourly": draw(0, 10**8, PAIRS),
        "in_us": draw(1, 10_000, PAIRS),
        "out_us": draw(1, 100_000, PAIRS),
        "use": draw(0, MICRO + 1, PAIRS),
        "median": draw(0, 10**8, PAIRS),
    }
    for number, policy in enumerate(MarginPolicy):
        market = Market(
            margin_policy=policy, margin=150_000, overhead=1234, target_use=600_000, carbon_price=80 * MICRO, undercut=7
        )
        per_kwh = each["per_kwh"] + -(-each["carbon"] * market.carbon_price // MICRO)
        target = np.full(PAIRS, market.target_use)
        capital_out = capital_price(each["hourly"], each["out_us"], target)
        capital_in = np.minimum(capital_price(each["hourly"], each["in_us"], target), capital_out)
        arrays = [
            asks_of(market, each[mj], each["pue"], per_kwh, capital, each["use"], each["median"])
            for mj, capital in (("mj_in", capital_in), ("mj_out", capital_out))
        ]
        rows = {name: column.tolist() for name, column in each.items()}
        for i in range(number, PAIRS, len(MarginPolicy)):
            row = {name: column[i] for name, column in rows.items()}
            node = Pricing(
                overhead=market.overhead,
                margin_ppm=market.margin,
                policy=policy,
                undercut_ppm=market.undercut,
                hardware=row["hourly"],
                target_ppm=market.target_use,
                carbon=market.carbon_price,
            )
            supply = Supply(row["per_kwh"], row["pue"], row["carbon"])
            costs = Costs(
                millijoules_in=row["mj_in"],
                millijoules_out=row["mj_out"],
                prompt_us=row["in_us"],
                position_us=row["out_us"],
            )
            capitals = node._capital(costs)
            for kind, mj in enumerate(("mj_in", "mj_out")):
                quote = node.quote(
                    supply, row[mj], capital=capitals[kind], utilisation_ppm=row["use"], median=row["median"]
                )
                assert quote.ask == int(arrays[kind][i])


def test_a_class_without_wishes_may_be_served_anywhere() -> None:
    wanted = Demand(tokens_in=1, tokens_out=1, price_cap=1)
    kind = Hardware(tokens_in_per_s=1, tokens_out_per_s=1, joules_in=0, joules_out=0)
    for place in PLACES:
        assert (
            excluded(policy_of(wanted), offer_of(Region(jurisdiction=place), kind), model=MODEL, venue=VENUE, now=1)
            is None
        )
    barred = dataclasses.replace(wanted, deny=("NO",))
    assert excluded(policy_of(barred), offer_of(Region(jurisdiction="NO"), kind), model=MODEL, venue=VENUE, now=1)
