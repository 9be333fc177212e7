"""Markets with answers on paper: sites of given cost and capacity, one kind of request, nothing drawn.

A kWh costs one dollar and PUE is 1, so 3.6 joules a token are a dollar per million tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.engine import simulate
from simulator.metrics import Records
from simulator.scenario import parse_scenario

__all__ = ["growing_toml", "market_toml", "run_market"]


def market_toml(
    sites: Sequence[tuple[float, int]],
    demand: Sequence[tuple[int, float]],
    *,
    hours: int = 24,
    market: Mapping[str, object] | None = None,
    entry: str = 'rule = "none"',
    classes: str = "",
    more: str = "",
) -> str:
    """A scenario.

    Args:
        sites: dollars per million tokens, and requests an hour, of each; a request is of 1,000 generated tokens.
        demand: requests an hour and price cap of each class.
        market: keys of [market].
        classes: lines added to each class.
    """
    lines = ["version = 2", "[run]", f"hours = {hours}", "[entry]", entry, "[market]", "margin = 0"]
    lines += [f"{key} = {_toml(value)}" for key, value in (market or {}).items()]
    lines += ["[region.here]", 'jurisdiction = "NO"', "energy_price = 1", "pue = 1", "pue_spread = 0"]
    for at, (cost, capacity) in enumerate(sites):
        lines += [f"[hardware.h{at:03d}]", "share = 0", "tokens_in_per_s = 1000000"]
        lines += [f"tokens_out_per_s = {capacity * 1000 // 3600}", "joules_in = 0", f"joules_out = {cost * 3.6:.3f}"]
        lines += [f"[site.s{at:03d}]", 'region = "here"', f'hardware = "h{at:03d}"']
    for at, (requests, cap) in enumerate(demand):
        lines += [f"[demand.d{at}]", f"requests_per_hour = {requests}", "tokens_in = 0", "tokens_out = 1000"]
        lines += [f"price_cap = {cap}", classes]
    return "\n".join([*lines, more])


def growing_toml(
    rule: str,
    *,
    capital: int,
    sites: int,
    noise: float,
    hours: int,
    seed: int = 1,
    patience: int = 30,
    elasticity: float = 0,
) -> str:
    """After a burn-in with free entry: about so many sites, rented by the hour, or for the greater part built."""
    entry = f'rule = "npv"\npresent = 0.3\njoin = 0.02\npatience_days = {patience}'
    keys, shape = {"price_rule": rule}, f"swing = 0.4\nnoise = {noise}"
    shape += f"\nelasticity = {elasticity}\nreference_price = 1" if elasticity else ""
    toml = market_toml([], [(2000 * sites, 4)], hours=hours, entry=entry, market=keys, classes=shape)
    toml = toml.replace("[run]", f"[run]\nseed = {seed}\nburn_in_days = 300\nproviders = {max(120, 3 * sites)}")
    toml = toml.replace("[region.here]", "[region.here]\nshare = 1") + "\n[hardware.rack]\ntokens_in_per_s = 8000\n"
    toml += "tokens_out_per_s = 700\njoules_in = 0.1\njoules_out = 0.2\n"
    return toml + (f"hourly_cost = 0.6\ncapital = {capital}\nlife_days = 1460" if capital else "hourly_cost = 1.4")


def run_market(toml: str) -> Records:
    """The records of its first run."""
    return simulate(next(iter(parse_scenario(toml).runs.values())))


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
