"""Classes that see the same quotes and may use different sites, served all at once, as a planner would (X28).

Who is served, and by which sites, is what is worth most: caps less quotes. A class may push another out of a place that
it can use to one that only the other can. No programme is solved for that: requests are a flow from sets of sites to
sites, and what such a flow carries is the least cut, a least sum over unions of these sets. Integers stay whole.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from simulator.clearing import Columns, MeritOrder, Product, Trades, handed_out, shared, trades_of
from simulator.demand import Classes
from simulator.exact import Ints
from simulator.zones import Zones

__all__ = ["Web", "clear_jointly", "webs_of"]

_MOST_UNIONS = 1024

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Web:
    """Classes that share sites, each with all others or by a chain of them; Z zones, K different sets of them."""

    classes: tuple[int, ...]
    """In order of their turns."""
    sets: Flags
    """(K, Z) zones that each set is of."""
    set_of: tuple[int, ...]
    """Of each class."""
    unions: Flags
    """(U, Z) all unions of sets, none of them included."""
    inside: Flags
    """(U, K) whether a union holds a set."""
    sites: Flags
    """(N,)"""
    zone_of: Ints
    """(N,) its zone in this web, 0 elsewhere."""


def webs_of(zones: Zones, turns: Sequence[int]) -> list[Web]:
    """Webs of some classes, which are given in order of their turns; those that no site may serve are in none.

    Raises ConfigurationError: over 1,024 different unions.
    """
    apart: list[tuple[Flags, list[int]]] = []
    for c in turns:
        mask, members = zones.lawful[c], [c]
        if not mask.any():
            continue
        touching = [each for each in apart if (each[0] & zones.lawful[c]).any()]
        apart = [each for each in apart if not (each[0] & zones.lawful[c]).any()]
        for other in touching:
            mask, members = mask | other[0], other[1] + members
        apart.append((mask, members))
    rank = {c: at for at, c in enumerate(turns)}
    return [_web(zones, mask, sorted(members, key=rank.__getitem__)) for mask, members in apart]


def _web(zones: Zones, mask: Flags, members: list[int]) -> Web:
    here = np.flatnonzero(mask)
    sets, set_of = np.unique(zones.lawful[members][:, here], axis=0, return_inverse=True)
    unions = {bytes(len(here)): np.zeros(len(here), dtype=bool)}
    for each in sets:
        unions |= {(each | other).tobytes(): each | other for other in list(unions.values())}
        if len(unions) > _MOST_UNIONS:
            raise ConfigurationError(
                "classes may use too many different sets of sites to be cleared at once",
                hint='market.clearing = "in-turn", or fewer laws and reaches',
            )
    table = np.stack(list(unions.values()))
    sites = mask[zones.of_site]
    return Web(
        classes=tuple(members),
        sets=sets,
        set_of=tuple(set_of.reshape(-1).tolist()),
        unions=table,
        inside=~(sets[None] & ~table[:, None]).any(axis=2),
        sites=sites,
        zone_of=np.where(sites, np.searchsorted(here, zones.of_site), 0),
    )


def clear_jointly(
    classes: Classes,
    runs: list[tuple[Product, list[Web]]],
    want: Ints,
    left_us: Ints,
    merits: dict[Product, MeritOrder],
) -> Trades:
    """Serve `want` (C, E) by sites with `left_us` (E, N) microseconds, of which it takes what they need."""
    found: Columns = []
    for product, webs in runs:
        for web in webs:
            if want[list(web.classes)].any():
                found += _serve(classes, web, want, left_us, merits[product])
    return trades_of(found)


def _serve(classes: Classes, web: Web, want: Ints, left_us: Ints, merit: MeritOrder) -> Columns:
    epochs, sites = left_us.shape
    busy = classes.busy_us[web.classes[0]]
    mine = web.sites[merit.order]
    order, rising = (figure[mine].reshape(epochs, -1) for figure in (merit.order, merit.rising))
    room = (left_us // busy).take(order + np.arange(0, left_us.size, sites)[:, None])
    zone = web.zone_of[order]
    upto = np.stack([np.cumsum(np.where(zone == z, room, 0), axis=1) for z in range(web.sets.shape[1])])
    served = _served(classes, web, want, rising, upto)
    taken = np.diff(_carried(web, _by_set(web, served), upto), axis=1, prepend=0)
    row, column = np.nonzero(taken)
    site = order[row, column]
    left_us[row, site] -= taken[row, column] * busy[site]
    found: Columns = []
    for z, ends in enumerate(_ways(web, served, taken, zone)):
        here = zone == z
        own, some = (figure[here].reshape(epochs, -1) for figure in (order, taken))
        found += handed_out(own, some, [(c, *end) for c, end in zip(web.classes, ends, strict=True)])
    return found


def _served(classes: Classes, web: Web, want: Ints, rising: Ints, upto: Ints) -> Ints:
    """(classes of the web, E) requests of each, by turns: as many as sites within its cap carry besides others."""
    epochs = np.arange(len(rising))
    served, held = np.zeros((len(web.classes), len(rising)), np.int64), np.zeros((len(web.sets), len(rising)), np.int64)
    at = 0
    while at < len(web.classes):
        cap, own = int(classes.price_cap[web.classes[at]]), web.set_of[at]
        equals = [at]
        while equals[-1] + 1 < len(web.classes) and (
            (int(classes.price_cap[web.classes[equals[-1] + 1]]), web.set_of[equals[-1] + 1]) == (cap, own)
        ):
            equals.append(equals[-1] + 1)
        reach = np.count_nonzero(rising <= int(classes.most_paid[web.classes[at]]), axis=1)
        limit = np.where(reach > 0, upto[:, epochs, np.maximum(reach - 1, 0)], 0)[:, :, None]
        wanted = want[[web.classes[each] for each in equals]]
        more = held.copy()
        more[own] += wanted.sum(axis=0)
        some = (_carried(web, more, limit) - _carried(web, held, limit))[:, 0]
        served[equals] = shared(wanted, some)
        held[own] += some
        at = equals[-1] + 1
    return served


def _carried(web: Web, held: Ints, upto: Ints) -> Ints:
    """(E, n) requests of `held` (K, E) that sites carry, of which `upto` (Z, E, n) are in each zone: the least cut."""
    outside = ~web.inside @ held
    parts = (out[:, None] + upto[union].sum(axis=0) for union, out in zip(web.unions, outside, strict=True))
    return functools.reduce(np.minimum, parts)


def _by_set(web: Web, served: Ints) -> Ints:
    """(K, E)"""
    held = np.zeros((len(web.sets), served.shape[1]), dtype=np.int64)
    np.add.at(held, list(web.set_of), served)
    return held


def _ways(web: Web, served: Ints, taken: Ints, zone: Ints) -> list[list[tuple[Ints, Ints]]]:
    """For each zone and class from where to where in what the zone serves: [(E,), (E,)).

    By turns a class takes what it can of the zones that fewest sets hold, as long as all later ones find their place.
    """
    zone_count = web.sets.shape[1]
    left = np.stack([np.where(zone == z, taken, 0).sum(axis=1) for z in range(zone_count)])
    ends = np.zeros((zone_count, len(left[0])), dtype=np.int64)
    later = _by_set(web, served)
    narrow_first = np.argsort(web.sets.sum(axis=0), kind="stable")
    found: list[list[tuple[Ints, Ints]]] = [[] for _ in range(zone_count)]
    for own, some in zip(web.set_of, served, strict=True):
        later[own] -= some
        spare = web.unions @ left - web.inside @ later
        open_to, before = np.zeros(zone_count, dtype=bool), np.zeros_like(some)
        part = np.zeros_like(left)
        for z in narrow_first[web.sets[own][narrow_first]].tolist():
            open_to[z] = True
            most = (spare + (~web.unions & open_to) @ left).min(axis=0)
            upto = np.minimum(some, most)
            part[z], before = upto - before, upto
        left -= part
        for z in range(zone_count):
            found[z].append((ends[z], ends[z] + part[z]))
        ends = ends + part
    return found
