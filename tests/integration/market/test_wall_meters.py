"""Plugs over HTTP and commands: what they say becomes watts, and what is wrong with them becomes a sentence."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from plug_server import Plug, plugs

import node.energy.wall
from node.energy import MeteredEnergy, MeterSettings, choose_energy
from protocol.errors import ConfigurationError, MeterError
from protocol.market.offer import Provenance

pytestmark = pytest.mark.asyncio
MOST_MW = 1_000_000


@pytest_asyncio.fixture
async def plug() -> AsyncIterator[Plug]:
    async with plugs(Plug()) as served:
        yield served


def metered(**settings: Any) -> MeteredEnergy:
    energy = choose_energy(MeterSettings(**settings), blocks=1, most_mw=MOST_MW)
    assert isinstance(energy, MeteredEnergy)
    return energy


async def shown(**settings: Any) -> int:
    """What the meter shows, in microwatts or microjoules."""
    (gauge,) = metered(**settings).meter._gauges  # type: ignore[attr-defined]
    value: int = await asyncio.to_thread(gauge.value)
    return value


@pytest.mark.parametrize(
    ("kind", "where", "path"),
    [
        ("shelly", "/plus", ""),
        ("shelly", "/plus/", "switch:0"),
        ("shelly", "/first", ""),
        ("shelly", "/first", "meters.0"),
        ("shelly", "/clamps", "em1:1"),
        ("tasmota", "/tasmota", ""),
        ("http", "/json", "phases.0.w"),
        ("http", "/plus/rpc/Shelly.GetStatus", "switch:0.apower"),
    ],
)
async def test_a_plug_says_its_watts(plug: Plug, kind: str, where: str, path: str) -> None:
    assert await shown(kind=kind, url=plug.url + where.rstrip("/"), path=path) == 120_500_000
    plug.watts = 87
    assert await shown(kind=kind, url=plug.url + where.rstrip("/"), path=path) == 87_000_000


async def test_phases_are_added_up_and_units_are_those_that_are_said(plug: Plug) -> None:
    url = f"{plug.url}/json"
    assert await shown(kind="http", url=url, path="phases.0.w + phases.1.w") == 150_500_000
    assert await shown(kind="http", url=url, path="kWh", unit="kWh") == 12_345 * 3_600_000_000
    energy = metered(kind="http", url=url, path="kWh", unit="kWh", error_ppm=20_000)
    await asyncio.to_thread(energy.meter.read)
    assert energy.meter.accuracy.step_uj == 3_600_000_000, "it shows watt-hours"
    assert energy.meter.accuracy.error_uj(10**12) == 2 * 10**10 + 2 * 3_600_000_000


async def test_power_is_read_again_and_again_and_summed_up(plug: Plug) -> None:
    energy = metered(kind="shelly", url=f"{plug.url}/plus")
    first = await asyncio.to_thread(energy.meter.read)
    began = time.monotonic()
    second = await asyncio.to_thread(energy.meter.read)
    assert second.epoch == first.epoch
    assert second.microjoules - first.microjoules <= 120_500_000 * (time.monotonic() - began + 0.5)
    assert second.microjoules > first.microjoules
    assert energy.meter.source is Provenance.WALL
    assert plug.asked == 3, "which generation it is, is asked once"


@pytest.mark.parametrize(
    ("where", "path", "said"),
    [
        ("/bad/nan", "w", "says NaN"),
        ("/bad/infinite", "w", "says -Infinity"),
        ("/bad/html", "w", "web page"),
        ("/bad/empty", "w", "not JSON"),
        ("/bad/cut", "w", "not JSON"),
        ("/bad/deep", "w", "not JSON"),
        ("/bad/digits", "w", "not JSON"),
        ("/bad/exponent", "w", "no number that a meter shows"),
        ("/bad/large", "w", "more than there is"),
        ("/bad/negative", "w", "less than nothing"),
        ("/bad/list", "w", "not a number"),
        ("/json", "phases.2.w", "no 'phases.2.w'"),
        ("/json", "watts", "has phases, kWh"),
        ("/json", "no", "not a number"),
        ("/json", "yes", "not a number"),
        ("/bad/huge", "w", "more than 64 KiB"),
        ("/bad/elsewhere", "w", "sends elsewhere"),
        ("/nowhere", "w", "answers 404"),
    ],
)
async def test_a_bad_meter_is_said_in_a_sentence(plug: Plug, where: str, path: str, said: str) -> None:
    with pytest.raises(MeterError, match=said):
        await shown(kind="http", url=plug.url + where, path=path)


@pytest.mark.parametrize(("where", "said"), [("/bad/tiny", "less than any machine"), ("/bad/kilo", "cannot draw more")])
async def test_watts_that_cannot_be_are_a_wrong_unit(plug: Plug, where: str, said: str) -> None:
    energy = metered(kind="http", url=plug.url + where, path="w")
    with pytest.raises(MeterError, match=said) as caught:
        await asyncio.to_thread(energy.meter.read)
    assert "meter_unit" in (caught.value.hint or "")


@pytest.mark.parametrize("where", ["/bad/slow", "/bad/drips"])
async def test_a_meter_that_does_not_come_to_an_end_is_not_waited_for(
    plug: Plug, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.energy.wall, "ANSWER_S", 0.5)
    with pytest.raises(MeterError, match="within"):
        await shown(kind="http", url=plug.url + where, path="w")


async def test_shelly_and_tasmota_say_what_is_not_there(plug: Plug) -> None:
    for kind, where, path, said in (
        ("shelly", "/clamps", "", "several meters: em1:0, em1:1"),
        ("shelly", "/plus", "switch:1", "no 'switch:1', but switch:0"),
        ("shelly", "/tasmota", "", "answers 404"),
        ("tasmota", "/locked", "", "has WARNING"),
    ):
        with pytest.raises(MeterError, match=said):
            await shown(kind=kind, url=plug.url + where, path=path)


async def test_who_is_not_there_does_not_answer_and_secrets_are_not_told(plug: Plug) -> None:
    url = plug.url.replace("http://", "http://admin:hush@") + "/nowhere?password=hush"
    energy = metered(kind="http", url=url, path="w")
    with pytest.raises(MeterError) as caught:
        await asyncio.to_thread(energy.meter.read)
    assert "hush" not in f"{caught.value.message} {caught.value.hint} {energy.meter.name}"
    with pytest.raises(MeterError, match="does not answer"):
        await shown(kind="http", url="http://127.0.0.1:9/json", path="w")


# Commands

IPMI = """
    Instantaneous power reading:                   220 Watts
    Minimum during sampling period:                198 Watts
    Power reading state is:                   activated
"""


def prints(folder: Path, text: str, *, then: str = "") -> str:
    script = folder / "meter.py"
    script.write_text(f"import sys, time\nsys.stdout.write({text!r})\nsys.stdout.flush()\n{then}\n")
    return f"{sys.executable} {script}"


@pytest.mark.parametrize(
    ("text", "path", "unit", "expected"),
    [
        (IPMI, "Instantaneous power reading", "W", 220_000_000),
        ("SNMPv2-SMI::enterprises.318.1.1.26 = INTEGER: 187", "INTEGER", "W", 187_000_000),
        ("0.22\n", "", "kW", 220_000_000),
        ('{"outlets": [{"power": 99.5}]}', "outlets.0.power", "W", 99_500_000),
    ],
)
async def test_a_command_says_watts(tmp_path: Path, text: str, path: str, unit: str, expected: int) -> None:
    assert await shown(kind="command", command=prints(tmp_path, text), path=path, unit=unit) == expected


@pytest.mark.parametrize(
    ("text", "then", "path", "said"),
    [
        (IPMI, "", "Voltage", "no number behind 'Voltage'"),
        (IPMI, "", "", "say with meter_path"),
        ("-5", "", "", "less than nothing"),
        ("5", "sys.exit(3)", "", "ended with status 3"),
        ("", "while True: sys.stdout.write('x' * 65536)", "", "prints more than"),
        ("5", "time.sleep(60)", "", "took more than"),
    ],
)
async def test_a_bad_command_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, then: str, path: str, said: str
) -> None:
    monkeypatch.setattr(node.energy.wall, "ANSWER_S", 2.0 if "sleep" in then else 20.0)
    with pytest.raises(MeterError, match=said):
        await shown(kind="command", command=prints(tmp_path, text, then=then), path=path)


async def test_a_command_that_is_not_there_is_said() -> None:
    with pytest.raises(MeterError, match="cannot be run"):
        await shown(kind="command", command="/nowhere/at-all --power")
    with pytest.raises(ConfigurationError):
        metered(kind="command", command="")
