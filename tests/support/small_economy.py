"""A small scenario for the simulator's tests: two weeks of forty providers, two laws, every shape of tariff."""

from __future__ import annotations

from simulator.scenario import Scenario, Settings, parse_scenario

__all__ = ["SMALL", "small_scenario", "small_settings"]

SMALL = """
title = "small"
about = "What the tests run."
base = "plain"

[run]
providers = 40
hours = 340
seed = 3

[market]
overhead = 0.001
patience_days = 3
join = 0.2
leave = 0.02

[region.north]
share = 2
jurisdiction = "NO"
energy_price = 0.05
shape = "spot"
swing = 0.6
noise = 0.8

[region.west]
share = 3
jurisdiction = "US"
energy_price = 0.1
shape = "solar"
swing = 0.5
utc_offset = -8

[region.east]
share = 2
jurisdiction = "NO"
energy_price = 0.2
shape = "time-of-use"
swing = 0.3

[region.south]
share = 1
jurisdiction = "AE"
energy_price = 0.07

[hardware.big]
share = 1
tokens_in_per_s = 8000
tokens_out_per_s = 700
joules_in = 0.12
joules_out = 1.4
idle_watts = 150
hourly_cost = 1.6
most_units = 4

[hardware.small]
share = 1
tokens_in_per_s = 900
tokens_out_per_s = 90
joules_in = 0.3
joules_out = 3.1
idle_watts = 60
hourly_cost = 0.2

[demand.chat]
requests_per_hour = 150_000
tokens_in = 700
tokens_out = 300
price_cap = 2
swing = 0.5
noise = 0.1
elasticity = 0.8
reference_price = 0.4

[demand.lawful]
requests_per_hour = 30_000
tokens_in = 700
tokens_out = 300
price_cap = 2
allow = ["NO"]
weekend = 0.5

[demand.batch]
requests_per_hour = 10_000
tokens_in = 3000
tokens_out = 100
price_cap = 0.16
deny = ["AE"]
growth = 2

[variant.dear.market]
energy_scale = 4
"""


def small_scenario(*changes: tuple[str, str]) -> Scenario:
    """`SMALL` with some of its text replaced."""
    document = SMALL
    for old, new in changes:
        assert old in document, old
        document = document.replace(old, new)
    return parse_scenario(document)


def small_settings(*changes: tuple[str, str]) -> Settings:
    """The first run of `small_scenario`."""
    return next(iter(small_scenario(*changes).runs.values()))
