"""`joule energy`: what a node has written down, as people and as programs read it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.energy.account import Figures
from node.energy.live import EnergyReport, Power, energy_file, read_report, report_of, write_report
from node.keystore import LIGHT, Keystore, generate
from protocol.energy.energy_shares import Accuracy
from protocol.errors import LocalError
from protocol.market.offer import Provenance

Joule = Callable[..., Any]
FIGURES = Figures(
    source=Provenance.WALL,
    meter="the shelly meter at http://192.168.1.20",
    accuracy=Accuracy(ppm=20_000),
    sharers=2,
    power_uw=125_000_000,
    idle_uw=90_400_000,
    in_uj=1_080_000,
    out_uj=10_800_000,
    marginal_uj=910_000,
    batch_milli=3_400,
    measured_uj=10**12,
    idle_uj=4 * 10**11,
    told_uj=6 * 10**11,
)
POWER = Power(micro_per_kwh=100_000, pue_milli=1_000)


def a_report(figures: Figures = FIGURES, **more: Any) -> EnergyReport:
    return report_of(
        figures, POWER, **{"at": 1_700_000_000, "since": 1_699_990_000, "next_s": 5, "fault": None, **more}
    )


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Where its report is."""
    key = generate()
    Keystore(tmp_path / "keys").create("berlin", key, "correct horse", work_factor=LIGHT)
    return energy_file(tmp_path, key.address)


def shown(joule: Joule, node: Path, *more: str) -> Any:
    return joule("energy", "--key", "berlin", "--data-dir", str(node.parents[1]), *more)


def test_the_worked_example_costs_what_it_should() -> None:
    report = a_report()
    assert report.price_out == 300_000, "10.8 J a token at $0.10/kWh are $0.30 per million"
    assert report.day_cost == 300_000, "125 W are 3 kWh a day"
    dear = report_of(FIGURES, Power(micro_per_kwh=-100_000, pue_milli=1_500), at=0, since=0, next_s=5, fault=None)
    assert dear.price_out == -450_000, "power may cost less than nothing"


def test_energy_as_people_read_it(joule: Joule, node: Path) -> None:
    write_report(node, a_report())
    out = " ".join(shown(joule, node).out.split())
    for said in (
        "wall: the shelly meter at http://192.168.1.20",
        "2 nodes read this meter",
        "error 2 %",
        "power 125.0 W",
        "power when idle 90.4 W",
        "prompt token 1.08 J; 3 cents per million",
        "generated token 10.8 J; 30 cents per million",
        "one more in a pass 0.91 J",
        "batch 3.4 positions a pass",
        "$0.30 at $0.10/kWh, PUE 1",
        "this node does not run",
        "600000.0 J for sessions, 400000.0 J idle",
    ):
        assert said in out, said


def test_energy_as_programs_read_it(joule: Joule, node: Path) -> None:
    write_report(node, a_report())
    found = shown(joule, node, "--json").json
    assert (found["source"], found["microjoules_out"], found["price_out"]) == ("wall", 10_800_000, 300_000)
    assert read_report(node) == a_report()


def test_what_nobody_measured_is_unknown(joule: Joule, node: Path) -> None:
    write_report(node, a_report(Figures(source=Provenance.UNKNOWN, meter="a plug"), fault="the plug is gone\x1b[2J"))
    outcome = shown(joule, node)
    assert outcome.out.count("unknown") >= 7
    assert "not known: say it with meter_error" in outcome.out
    assert "\x1b" not in outcome.out
    found = shown(joule, node, "--json").json
    assert [found[name] for name in ("microwatts", "price_in", "price_out", "day_cost", "error_ppm")] == [None] * 5


def test_no_node_and_no_key_are_said(joule: Joule, node: Path) -> None:
    outcome = shown(joule, node)
    assert outcome.status == 1
    assert "joule node run" in outcome.err


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 10_000, json.dumps({"at": 1})]
    + [
        json.dumps({**dataclasses.asdict(a_report()), **change})
        for change in ({"at": "now"}, {"at": None}, {"pue_milli": 1.5}, {"source": "oracle"}, {"more": 1}, {"meter": 5})
    ],
)
def test_a_file_that_makes_no_sense_is_said(joule: Joule, node: Path, text: str) -> None:
    node.parent.mkdir()
    node.write_text(text)
    with pytest.raises(LocalError):
        read_report(node)
    assert shown(joule, node).status == 1
