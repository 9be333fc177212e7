"""Sites that hold back: what a node does not take at a level, no site of the simulator does."""

from __future__ import annotations

import pytest
from plain_markets import market_toml, run_market

from protocol.errors import ConfigurationError
from protocol.policy.policy import LatencyClass
from protocol.serving.curtailment import Level, admits
from simulator.metrics import Records

HOURS = 8
CLASSES = ("batch", "chat")
WAYS = {
    "posted": {"price_rule": "posted"},
    "all at once": {"price_rule": "uniform"},
    "in turn": {"price_rule": "uniform", "clearing": "in-turn"},
    "one by one": {"price_rule": "posted"},
}


def asked(way: str, *events: str, more: str = "", batch: str = "") -> Records:
    """A site with room for both classes, hour by hour."""
    toml = market_toml([(1, 3600)], [(900, 10), (1200, 10)], hours=HOURS, market=WAYS[way])
    first, second = toml.split("[demand.d1]")
    toml = f'{first}latency_class = "batch"\n{batch}\n[demand.d1]\nlatency_class = "chat"{second}'
    toml = toml.replace("[run]", '[run]\nfidelity = "event"') if way == "one by one" else toml
    return run_market(toml.replace("[region.here]", f"[region.here]\n{more}") + "\n" + "\n".join(events))


def event(what: str, at: int, hours: int, more: str = "") -> str:
    return f'[[event]]\nwhat = "{what}"\nat = {at}\nfor = {hours}\n{more}'


@pytest.mark.parametrize("way", WAYS)
def test_sites_take_what_nodes_take_at_each_level(way: str) -> None:
    """Two hours of shedding, one in which both are asked for, two of draining."""
    records = asked(way, event("shed", 2, 3), event("drain", 4, 2))
    levels = [Level.NORMAL] * 2 + [Level.SHED] * 2 + [Level.DRAIN] * 2 + [Level.NORMAL] * 2
    wanted, served = (records.classes[f"requests_{each}"] for each in ("wanted", "served"))
    for hour, level in enumerate(levels):
        for c, name in enumerate(CLASSES):
            takes = admits(level, LatencyClass(name))
            assert served[hour, c] == (wanted[hour, c] if takes else 0), (hour, name)
    assert records.market["price_micro_per_mtok"][:4] == pytest.approx([1e6] * 4, rel=1e-4), "nobody was short of room"
    assert not records.classes["short"].any()


def test_what_may_wait_is_served_once_nobody_holds_back() -> None:
    records = asked("posted", event("shed", 2, 3), batch="defer_hours = 4")
    assert records.classes["requests_served"][:, 0].tolist() == [900, 900, 0, 0, 0, 2700, 1800, 900]


def test_a_tariff_above_the_ceiling_drains_and_one_at_it_does_not() -> None:
    dear = event("tariff", 3, 2, "factor = 2")
    served = asked("posted", dear, more="ceiling = 1.5").classes["requests_served"].sum(axis=1)
    assert served.tolist() == [2100] * 3 + [0] * 2 + [2100] * 3
    assert (asked("posted", dear, more="ceiling = 2").classes["requests_served"].sum(axis=1) == 2100).all()


def test_a_signal_has_no_factor() -> None:
    with pytest.raises(ConfigurationError, match="multiplies nothing"):
        asked("posted", event("shed", 1, 1, "factor = 2"))
