"""The dynamic programme over columns, with rings, caps and limits on time, against every path one by one."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
from brevity import at_length
from every_path import as_path, cheapest_of_all, every_path, random_candidates
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.routing.candidates import Limits, Weights, broken, lattice_of, measure
from protocol.routing.lattice import INFINITE, Lattice, PathLeg, Programme, cheapest, path_cost, walk_back, walk_on
from protocol.routing.search import find

WEIGHTS = [Weights(500, 500, 0), Weights(500, 500, 3), Weights(0, 0, 1000), Weights(300, 700, 90)]


@settings(max_examples=at_length(150), deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(WEIGHTS), st.integers(1, 4), st.booleans())
def test_no_path_costs_less(seed: int, weights: Weights, regions: int, capped: bool) -> None:
    candidates = random_candidates(random.Random(seed), count=6, regions=regions, capped=capped)
    lattice, least = cheapest_of_all(candidates, weights)
    found = cheapest(lattice)
    if found is None:
        assert least is None
        return
    assert path_cost(lattice, found.legs) == found.cost
    for candidate, start, end in found.legs:
        assert candidates.start[candidate] <= start < end <= candidates.end[candidate]
        assert candidates.most is None or end - start <= candidates.most[candidate]
    # One that uses a candidate twice may be cheaper still, and is not among those that were tried here.
    assert least is None or found.cost <= least
    if len({leg[0] for leg in found.legs}) == len(found.legs):
        assert found.cost == least


@settings(max_examples=at_length(60), deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(WEIGHTS), st.integers(1, 4), st.booleans(), st.integers(0, 2**24))
def test_chains_from_either_end_cost_what_the_sweeps_say(
    seed: int, weights: Weights, regions: int, capped: bool, holes: int
) -> None:
    candidates = random_candidates(random.Random(seed), count=6, regions=regions, capped=capped)
    whole = lattice_of(candidates, weights)
    kept = np.array([(holes >> at) & 7 != 7 for at in range(len(whole.cells.who))], dtype=bool)
    lattice = replace(whole, cells=whole.cells.part(kept))
    if lattice.cells.has_hole:
        return
    programme = Programme(lattice)
    ends, starts = programme.forward.left[-1], programme.backward.left[0]
    for region in range(len(lattice.between)):
        if starts[region] < INFINITE:
            legs = walk_on(lattice, programme.backward, region)
            assert lattice.region[legs[0][0]] == region
            assert open_cost(lattice, legs) == starts[region]
        if ends[region] < INFINITE:
            legs = walk_back(lattice, programme.forward, 0, region)
            assert lattice.region[legs[-1][0]] == region
            assert open_cost(lattice, legs) == ends[region]


def open_cost(lattice: Lattice, legs: tuple[PathLeg, ...]) -> int:
    """What a chain costs that is not closed, the ways in and out included; its legs are held against the cells."""
    cost = 0
    for candidate, start, end in legs:
        assert all(lattice.cells.holds(candidate, block) for block in range(start, end))
        assert lattice.most is None or end - start <= lattice.most[candidate]
        cost += int(lattice.block_cost[candidate]) * (end - start) + 2 * int(lattice.access[candidate])
    regions = [int(lattice.region[candidate]) for candidate, _, _ in legs]
    return cost + sum(int(lattice.between[hop]) for hop in pairwise(regions))


@settings(max_examples=at_length(80), deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(WEIGHTS), st.integers(1, 4), st.booleans())
def test_no_path_through_a_candidate_costs_less_than_its_bound(
    seed: int, weights: Weights, regions: int, capped: bool
) -> None:
    candidates = random_candidates(random.Random(seed), count=6, regions=regions, capped=capped)
    lattice = lattice_of(candidates, weights)
    bounds = Programme(lattice).bounds_through()
    through = np.full(len(bounds), INFINITE, dtype=np.int64)
    for legs in every_path(candidates):
        for candidate, _, _ in legs:
            through[candidate] = min(through[candidate], path_cost(lattice, legs))
    assert (bounds[through < INFINITE] <= through[through < INFINITE]).all()


@settings(max_examples=at_length(100), deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(WEIGHTS), st.integers(1, 3), st.booleans())
def test_the_cheapest_where_each_is_one_leg_of_so_many_blocks(
    seed: int, weights: Weights, regions: int, capped: bool
) -> None:
    """Where hops cost little, the cheapest path gets round a cap by leaving and coming back: that is no route."""
    candidates = random_candidates(random.Random(seed), count=5, regions=regions, capped=capped)
    _, least = cheapest_of_all(candidates, weights)
    found = find(candidates, Limits(price_in=None, price_out=None, time_us=10**9), weights)
    if found is None or least is None:
        assert (found is None) == (least is None)
        return
    assert 0 <= found.path.cost - least <= found.gap


@settings(max_examples=at_length(150), deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(WEIGHTS), st.integers(1, 3), st.integers(3_000, 40_000))
def test_the_cheapest_within_a_time(seed: int, weights: Weights, regions: int, time_us: int) -> None:
    candidates = random_candidates(random.Random(seed), count=6, regions=regions)
    limits = Limits(price_in=None, price_out=None, time_us=time_us)
    lattice = lattice_of(candidates, weights)
    lawful = [
        path_cost(lattice, legs)
        for legs in every_path(candidates)
        if not broken(candidates, limits, as_path(lattice, legs))
    ]
    found = find(candidates, limits, weights)
    if found is None:
        # Chains that come back to a candidate hide what is left of the others: that none is met is no proof.
        assert not lawful or cheapest(lattice) is not None
        return
    assert measure(candidates, found.path).latency_us <= time_us
    assert lawful
    assert 0 <= found.path.cost - min(lawful) <= found.gap
