"""Classes of different sets of sites, served at once: against a programme's solver, its own dual, and on paper."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from plain_markets import market_toml, run_market

from protocol.errors import ConfigurationError
from simulator.clearing import Trades, clear, merit_order, passes_of, products_of, quotes, runs_of, turns
from simulator.demand import Classes, draw_classes
from simulator.draws import draws_for
from simulator.exact import Ints
from simulator.joint import clear_jointly, webs_of
from simulator.metrics import Records
from simulator.population import draw_population
from simulator.scenario import parse_scenario
from simulator.timeline import Timeline
from simulator.zones import Worth, worth_of, zones_of

UNIFORM = {"price_rule": "uniform"}
EPOCHS = 4


@dataclasses.dataclass(frozen=True)
class Cleared:
    classes: Classes
    quote: Ints
    room: Ints
    want: Ints
    trades: Trades
    worth: Worth
    of_site: Ints
    most_paid: Ints


def cleared(number: int, *, jointly: bool = True, apart: bool = False, least_cap: int = 1) -> Cleared:
    """The number-th random market: up to five classes, of four sets of eight sites; or of sets apart."""
    lots = draws_for(number, "joint markets")
    count, sites = int(lots.integers(2, 6)), 8
    toml = market_toml(
        [(1, 3600)] * sites, [(1, int(cap)) for cap in least_cap + lots.integers(0, 11, count)], hours=EPOCHS
    )
    settings = next(iter(parse_scenario(toml).runs.values()))
    people, timeline = draw_population(settings), Timeline(settings.run)
    classes = draw_classes(settings, timeline, people)
    sets = np.eye(4, dtype=bool).repeat(2, axis=1) if apart else lots.random((4, sites)) < 0.4
    classes = dataclasses.replace(classes, lawful=sets[lots.integers(0, 4, count)])
    products = products_of(classes)
    price = lots.integers(0, 10, (EPOCHS, sites)) * 1_000_000 + lots.integers(0, 2, (EPOCHS, sites))
    merit = merit_order(quotes(0, 1000, price, price), lots.permutation(sites))
    left = lots.integers(0, 6, (EPOCHS, sites)) * classes.busy_us[0]
    want, room = lots.integers(0, 16, (count, EPOCHS)), left // classes.busy_us[0]
    zones, order = zones_of(classes), turns(classes, number)
    if jointly:
        runs = [(product, webs_of(zones, some)) for product, some in runs_of(products, order)]
        trades = clear_jointly(classes, runs, want, left, {products[0]: merit})
    else:
        trades = clear(classes, passes_of(classes, products, order), want, left, {products[0]: merit})
    worth = worth_of(classes, zones, products, {products[0]: merit}, want, trades, left, 0)
    return Cleared(classes, merit.quote, room, want, trades, worth, zones.of_site, classes.most_paid)


def welfare(found: Cleared, epoch: int) -> int:
    """Of what is served: the caps of those less what is asked for it."""
    at = found.trades.epoch == epoch
    c, site, some = found.trades.of_class[at], found.trades.site[at], found.trades.requests[at]
    assert found.classes.lawful[c, site].all()
    for axis, most in ((c, found.want[:, epoch]), (site, found.room[epoch])):
        assert (np.bincount(axis, some, len(most)) <= most).all()
    return int((some * (found.most_paid[c] - found.quote[epoch, site])).sum())


def bound(found: Cleared, epoch: int, price: Ints) -> int:
    """What no way to serve them is worth more than, by prices (N,) of sites for a request."""
    rents = found.room[epoch] * np.maximum(price - found.quote[epoch], 0)
    cheapest = np.where(found.classes.lawful, price, 2**60).min(axis=1)
    return int(rents.sum() + (found.want[:, epoch] * np.maximum(found.most_paid - cheapest, 0)).sum())


def test_what_is_served_is_worth_most_and_prices_prove_it() -> None:
    """By integers alone: what is served is worth just what its prices say that nothing is worth more than."""
    for number in range(60):
        found = cleared(number)
        for epoch in range(EPOCHS):
            level = np.maximum(_dearest_used(found, epoch), found.worth.scarcity[epoch])
            price, zone_count = level * 1000, len(level)
            most = welfare(found, epoch)
            assert bound(found, epoch, price[found.of_site]) == most, (number, epoch)
            for some in itertools.product([0, 1], repeat=zone_count):
                lower = price - np.array(some) * (price > 0)
                if (lower < price).any():
                    assert bound(found, epoch, lower[found.of_site]) > most, "no lower prices clear it"


def _dearest_used(found: Cleared, epoch: int) -> Ints:
    at = found.trades.epoch == epoch
    dearest = np.zeros(found.worth.scarcity.shape[1], dtype=np.int64)
    np.maximum.at(dearest, found.of_site[found.trades.site[at]], found.quote[epoch, found.trades.site[at]] // 1000)
    return dearest


def test_a_programmes_solver_finds_nothing_better() -> None:
    from scipy.optimize import linprog

    for number in range(12):
        found, epoch = cleared(number), number % EPOCHS
        c, site = np.nonzero(found.classes.lawful)
        worth = found.most_paid[c] - found.quote[epoch, site]
        limits = [*(c == each for each in range(len(found.want))), *(site == each for each in range(8))]
        most = np.concatenate([found.want[:, epoch], found.room[epoch]])
        solved = linprog(-worth / 1e6, A_ub=np.array(limits, dtype=float), b_ub=most)
        assert welfare(found, epoch) == pytest.approx(-solved.fun * 1e6, rel=1e-9)


def test_sets_apart_are_cleared_as_if_in_turn() -> None:
    for number in range(20):
        ours, theirs = (cleared(number, jointly=jointly, apart=True) for jointly in (True, False))
        for epoch in range(EPOCHS):
            assert table(ours, epoch) == table(theirs, epoch)
        assert ours.worth.price.tolist() == theirs.worth.price.tolist()
        assert ours.worth.short.tolist() == theirs.worth.short.tolist()


def table(found: Cleared, epoch: int) -> list[tuple[int, ...]]:
    at = found.trades.epoch == epoch
    return sorted(
        zip(*(each[at].tolist() for each in (found.trades.of_class, found.trades.site, found.trades.requests)),
            strict=True)
    )  # fmt: skip


def two_places(
    here: tuple[float, int], there: tuple[float, int], demand: list[tuple[int, float]], bound_to: dict[int, str],
    **market: object,
) -> Records:  # fmt: skip
    """A site in Norway and one in Sweden; some classes may only go to one of them."""
    toml = market_toml([here, there], demand, hours=2, market={**UNIFORM, **market})
    toml = toml.replace('[site.s001]\nregion = "here"', '[site.s001]\nregion = "there"')
    toml += '\n[region.there]\njurisdiction = "SE"\nenergy_price = 1\npue = 1\npue_spread = 0\n'
    for c, place in bound_to.items():
        toml = toml.replace(f"[demand.d{c}]", f'[demand.d{c}]\nallow = ["{place}"]')
    return run_market(toml)


def paid(records: Records) -> list[float]:
    return [each / 1e6 for each in records.classes["price_micro_per_mtok"][0].tolist()]


@pytest.mark.parametrize(("corridor", "prices"), [(1000, [5, 1, 1]), (3000, [5, 1, 1]), (4000, [5, 5, 5])])
def test_a_corridor_that_is_full_is_worth_the_difference_of_prices(corridor: int, prices: list[float]) -> None:
    """Norway asks 5 and Sweden 1; of Norway's 4,600 requests so many may go to Sweden, which has 600 of its own.

    While few may go, the corridor earns the 4 dollars between both; when it fills Sweden up, there is one price.
    """
    records = two_places((5, 7200), (1, 3600), [(4600 - corridor, 10), (600, 10), (corridor, 10)], {0: "NO", 1: "SE"})
    assert paid(records) == prices
    rent = (prices[0] - prices[2]) * corridor
    assert rent == (4 * corridor if corridor <= 3000 else 0)


def test_a_shortage_in_one_place_costs_what_is_lost_there_only() -> None:
    records = two_places((1, 3600), (2, 3600), [(9000, 50), (1000, 50)], {0: "NO", 1: "SE"}, value_of_lost_load=20)
    assert paid(records) == [20, 2]
    assert records.classes["short"][0].tolist() == [1, 0]


def test_who_may_go_anywhere_leaves_the_place_to_who_is_bound_to_it() -> None:
    """Who pays more would take the cheap places in turn; together all are served, which is worth more."""
    sides = [(1, 3600), (2, 3600)], [(3600, 9), (3600, 5)], {1: "NO"}
    turn, joint = (two_places(*sides[0], *sides[1:], clearing=how) for how in ("in-turn", "joint"))
    assert turn.classes["requests_served"][0].tolist() == [3600, 0]
    assert joint.classes["requests_served"][0].tolist() == [3600, 3600]
    assert paid(joint) == [2, 2], "a place in Norway is worth what its users' other place costs"


def test_as_many_are_served_as_the_least_cut_lets() -> None:
    """Hall's theorem: the least, over all choices of classes, of what others want and the sites of these carry."""
    for number in range(20):
        found = cleared(number, least_cap=20)
        count = len(found.want)
        choices = [np.array(each, dtype=bool) for each in itertools.product([False, True], repeat=count)]
        for epoch in range(EPOCHS):
            cuts = [
                found.want[~some, epoch].sum() + found.room[epoch, found.classes.lawful[some].any(axis=0)].sum()
                for some in choices
            ]
            assert found.trades.requests[found.trades.epoch == epoch].sum() == min(cuts)


def test_too_many_overlapping_sets_are_refused() -> None:
    found = cleared(1)
    lawful = np.eye(12, dtype=bool)
    lawful[:, 0] = True
    classes = dataclasses.replace(found.classes, lawful=lawful)
    with pytest.raises(ConfigurationError, match="too many different sets"):
        webs_of(zones_of(classes), list(range(12)))
