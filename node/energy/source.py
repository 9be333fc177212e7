"""Which source of energy figures a node uses."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node.energy.account import Energy, MeteredEnergy
from node.energy.declared import DeclaredEnergy
from node.energy.hardware import find_gauges
from node.energy.modelled import ProcessorTime, RooflineMeter, SpanSize
from node.energy.reading import Gauge
from node.energy.shared import MeterFolder, SharedMeter
from node.energy.values import UNITS
from node.energy.wall import Answer, WallGauge, command_answer, http_answer, public_url, shelly_answer, tasmota_answer
from protocol.energy.energy_shares import Roofline
from protocol.errors import ConfigurationError
from protocol.market.offer import Provenance

__all__ = ["KINDS", "MeterSettings", "Probed", "choose_energy", "probe_meter"]

WALL = ("shelly", "tasmota", "http", "command")
HARDWARE = ("nvml", "amd", "apple", "rapl")
PREFILLED = 64
"""Positions in a pass over a prompt, for a figure that is computed."""
KINDS = ("auto", *WALL, *HARDWARE, "processor", "roofline")
"""What a node may be told to read. ``auto`` is the best that needs no settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSettings:
    """What the operator says of the meter."""

    kind: str = "auto"
    """Of `KINDS`."""
    url: str | None = None
    path: str = ""
    unit: str = "W"
    command: str | None = None
    error_ppm: int | None = None
    declared_mj: int | None = None
    """Millijoules per token, above 0; None to measure."""
    milliwatts_per_core: int | None = None
    """For the modelled figure; None to have none."""
    device_milliwatts: int | None = None
    device_mflop_per_s: int | None = None
    device_kb_per_s: int | None = None


def choose_energy(
    settings: MeterSettings,
    *,
    blocks: int,
    gpu: bool = False,
    size: SpanSize | None = None,
    most_mw: int,
    folder: Path | None = None,
) -> Energy | None:
    """What the settings name; for ``auto`` what the operator declares, else the machine's counters, else processor time
    at an assumed power, else None.

    Args:
        blocks: that are served.
        gpu: whether the work runs on GPUs, where processor time says nothing.
        size: of the span, for a roofline.
        most_mw: milliwatts that the machine cannot exceed.
        folder: where nodes that read the same counter meet; None for a node that shares with nobody.

    Raises ConfigurationError: settings that do not go together, or a counter that this machine has not got.
    """
    _check(settings)
    if settings.declared_mj is not None:
        return DeclaredEnergy(settings.declared_mj, blocks=blocks)
    if settings.kind == "roofline":
        return _roofline(settings, size, blocks)
    source, gauges = _gauges(settings, gpu)
    if gauges:
        return _shared(source, gauges, blocks=blocks, gpu=gpu, most_uw=most_mw * 1000, folder=folder)
    if settings.milliwatts_per_core is None or gpu:
        return None
    return MeteredEnergy(ProcessorTime(settings.milliwatts_per_core), blocks=blocks)


@dataclass(frozen=True, slots=True)
class Probed:
    """What a node with some settings would take its figures from."""

    text: str
    """For people, with what it shows now where it is a meter."""
    is_model: bool
    """Whether nothing is measured."""


def probe_meter(settings: MeterSettings, *, gpu: bool = False) -> Probed | None:
    """The source, read once; None where there is none. It may wait for a device, for some seconds.

    Raises ConfigurationError, as `choose_energy` does, and MeterError where a meter cannot be read.
    """
    _check(settings)
    if settings.declared_mj is not None:
        return Probed(f"{settings.declared_mj / 1000:g} J a token, as declared", is_model=True)
    if settings.kind == "roofline":
        return Probed("the device's roofline", is_model=True)
    source, gauges = _gauges(settings, gpu)
    if gauges:
        shown = ", ".join(f"{each.name}: {_shown(each)}" for each in gauges)
        return Probed(f"{source} by {shown}", is_model=False)
    if settings.milliwatts_per_core is None or gpu:
        return None
    return Probed(f"{ProcessorTime(settings.milliwatts_per_core).name}: a model, no measurement", is_model=True)


def _shown(gauge: Gauge) -> str:
    value = gauge.value()
    return f"{value / 1e6:.1f} W now" if gauge.is_power else f"{value / 3.6e12:.3f} kWh so far"


def _check(settings: MeterSettings) -> None:
    kind = settings.kind
    if settings.declared_mj is not None and kind != "auto":
        raise ConfigurationError("both meter and joules_per_token are set", hint="leave one of them out")
    if (kind in ("shelly", "tasmota", "http")) is not (settings.url is not None):
        wrong = f"meter = {kind!r} needs meter_url" if settings.url is None else f"meter = {kind!r} has no meter_url"
        raise ConfigurationError(wrong, hint="meter_url goes with shelly, tasmota and http")
    if (kind == "command") is not (settings.command is not None):
        wrong = "meter = 'command' needs meter_command" if kind == "command" else f"meter = {kind!r} runs no command"
        raise ConfigurationError(wrong, hint="meter_command goes with meter = 'command'")
    if kind == "http" and not settings.path:
        raise ConfigurationError("meter = 'http' needs meter_path", hint="say where in the JSON the number stands")


def _gauges(settings: MeterSettings, gpu: bool) -> tuple[Provenance, list[Gauge]]:
    if settings.kind in WALL:
        return Provenance.WALL, [_wall_gauge(settings)]
    if settings.kind == "processor":
        return Provenance.MODEL, []
    if settings.kind in HARDWARE:
        source = Provenance(settings.kind)
        found = find_gauges(source, error_ppm=settings.error_ppm)
        if not found:
            raise ConfigurationError(
                f"there is no {settings.kind} counter here that can be read",
                hint="install the extra: pip install 'joulemesh[energy]'; RAPL needs root, or zeusd",
            )
        return source, [*found]
    for source in (Provenance.NVML, Provenance.AMD) if gpu else (Provenance.APPLE, Provenance.RAPL):
        if found := find_gauges(source, error_ppm=settings.error_ppm):
            return source, [*found]
    return Provenance.MODEL, []


def _wall_gauge(settings: MeterSettings) -> WallGauge:
    answer: Answer
    unit = "W" if settings.kind in ("shelly", "tasmota") else settings.unit
    assert unit in UNITS
    if settings.kind == "command":
        try:
            arguments = shlex.split(settings.command or "")
        except ValueError as error:
            raise ConfigurationError(f"meter_command cannot be read: {error}") from None
        if not arguments:
            raise ConfigurationError("meter_command is empty", hint="write the program and its arguments")
        answer, name = command_answer(arguments, settings.path), f"the command {Path(arguments[0]).name}"
    else:
        url = settings.url or ""
        make: Callable[[str, str], Answer] = {
            "shelly": shelly_answer, "tasmota": tasmota_answer, "http": http_answer,
        }[settings.kind]  # fmt: skip
        answer, name = make(url, settings.path), f"the {settings.kind} meter at {public_url(url)}"
    if settings.path:
        name += f" ({settings.path})"
    return WallGauge(name, answer, unit, error_ppm=settings.error_ppm)


def _shared(
    source: Provenance, gauges: list[Gauge], *, blocks: int, gpu: bool, most_uw: int, folder: Path | None
) -> MeteredEnergy:
    busy_ns = [0]
    meter = SharedMeter(
        source,
        gauges,
        folder=MeterFolder(folder),
        who=f"{os.getpid()}-{time.monotonic_ns()}",
        work_ns=(lambda: busy_ns[0]) if gpu else time.process_time_ns,
        most_uw=most_uw,
    )

    def took(seconds: float) -> None:
        busy_ns[0] += round(seconds * 1e9)

    return MeteredEnergy(meter, blocks=blocks, took=took)


def _roofline(settings: MeterSettings, size: SpanSize | None, blocks: int) -> MeteredEnergy:
    watts, flops, traffic = settings.device_milliwatts, settings.device_mflop_per_s, settings.device_kb_per_s
    if watts is None or flops is None or traffic is None or size is None:
        raise ConfigurationError(
            "meter = 'roofline' needs device_watts, device_tflops and device_gb_per_s",
            hint="they stand in the device's data sheet; watts are what it draws at work",
        )
    meter = RooflineMeter(Roofline(milliwatts=watts, mflop_per_s=flops, kb_per_s=traffic), size)
    prefilled = -(-meter.microjoules(PREFILLED) // PREFILLED)
    return MeteredEnergy(meter, blocks=blocks, known=(prefilled, meter.microjoules(1)), passed=meter.passed)
