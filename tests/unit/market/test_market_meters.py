"""Where joules are read: models, what is declared, the machine's counters, and which of them a node takes."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from energy_bench import CORE, MOST_MW, ONE, TWO, Bench, some

from node.config.provider import NodeConfig
from node.energy import KINDS, UNITS, DeclaredEnergy, MeteredEnergy, MeterSettings, SpanSize, choose_energy
from node.energy.hardware import find_gauges
from node.energy.modelled import ProcessorTime, RooflineMeter
from node.energy.shared import MeterFolder, SharedMeter
from node.settings import declared
from node.settings.kinds import METER_UNITS, Choice
from protocol.energy.energy_shares import NOBODY, Worked
from protocol.errors import ConfigurationError, MeterError
from protocol.market.offer import Provenance

# Models


def test_processor_time_is_real_and_labelled_a_model() -> None:
    energy = MeteredEnergy(ProcessorTime(CORE), blocks=1)

    def work() -> int:
        return sum(range(200_000)) % 1 + 10

    energy.calibrate(work, work)
    figure = energy.offered()
    assert figure is not None
    assert figure.source is Provenance.MODEL
    assert 0 < figure.millijoules_out < 10_000
    assert energy.figures().idle_uw is None, "a model of work says nothing of it"


def test_processor_time_times_power() -> None:
    meter = ProcessorTime(CORE, clock_ns=lambda: 2_500_000_000)
    assert meter.read().microjoules == 25_000_000
    assert meter.accuracy.error_uj(1) is None, "nobody knows how far it is off"


def test_a_roofline_needs_a_device_and_gives_figures_without_measuring() -> None:
    device = {"device_milliwatts": 400_000, "device_mflop_per_s": 312_000_000, "device_kb_per_s": 2_039_000_000}
    size = SpanSize(parameters=70_000_000_000, weight_bytes=140_000_000_000)
    energy = choose_energy(MeterSettings(kind="roofline", **device), blocks=80, gpu=True, size=size, most_mw=MOST_MW)
    assert isinstance(energy, MeteredEnergy)
    assert isinstance(energy.meter, RooflineMeter)
    energy.calibrate(lambda: 1, lambda: 1)
    figure = energy.offered()
    assert figure is not None
    assert figure.millijoules_out == pytest.approx(400 * 140e9 / 2039e9 * 1000, rel=0.01), "all weights for one token"
    assert figure.millijoules_in == pytest.approx(figure.millijoules_out / 64, rel=0.01)
    before = energy.meter.read().microjoules
    energy.begin()
    energy.record([Worked(ONE, 64, 0, 80)])
    assert energy.meter.read().microjoules - before == energy.meter.microjoules(64)
    bench = Bench()
    energy._clock = bench.clock
    energy.take(energy.meter.read())
    for _ in range(4):
        bench.seconds += 100
        energy.take(energy.meter.read())
    assert energy.fault is None, "without work there is nothing to count"
    energy.begin()
    bench.seconds += 1
    energy.record([Worked(TWO, 64, 0, 80)])
    bench.seconds += 9
    energy.take(energy.meter.read())
    assert energy.spent(TWO) == -(-energy.meter.microjoules(64) // 1000), "no part of it is idle"
    for left_out in device:
        settings = MeterSettings(kind="roofline", **{name: value for name, value in device.items() if name != left_out})
        with pytest.raises(ConfigurationError, match="device_watts"):
            choose_energy(settings, blocks=80, size=size, most_mw=MOST_MW)


def test_what_is_declared_is_said_to_be() -> None:
    energy = DeclaredEnergy(10_800, blocks=4)
    energy.record([some(ONE, prompt=1, generated=4), some(TWO, generated=1, blocks=1), some(NOBODY, prompt=9)])
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out, figure.source) == (10_800, 10_800, Provenance.DECLARED)
    assert (energy.spent(ONE), energy.spent(TWO)) == (54_000, 2_700)
    assert (energy.end(ONE), energy.end(ONE)) == (54_000, 0)
    assert energy.figures().told_uj == 54_000_000
    with pytest.raises(ValueError, match="free"):
        DeclaredEnergy(0, blocks=1)


def test_the_time_of_calibration_counts_where_a_card_is_shared() -> None:
    bench, took = Bench(), []
    energy = bench.account(took=took.append)
    task = bench.task(tokens=2, seconds=2.5, joules=1)
    energy.calibrate(task, task)
    calibrated = sum(took)
    assert calibrated >= 10
    energy.begin()
    bench.seconds += 3
    energy.record([some(ONE, prompt=1)])
    assert sum(took) - calibrated == 3


# Sources


def test_settings_and_meters_know_the_same_words() -> None:
    assert set(METER_UNITS) == set(UNITS)
    (kind,) = (each.kind for each in declared(NodeConfig) if each.name == "meter")
    assert isinstance(kind, Choice)
    assert kind.options == KINDS
    for word in ("nvml", "amd", "apple", "rapl"):
        assert Provenance(word)


def test_the_sum_of_no_counters_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="not a measurement"):
        SharedMeter(Provenance.RAPL, [], folder=MeterFolder(None), who="1", work_ns=lambda: 0, most_uw=1)


class Packages(list[Callable[[], float]]):
    """Like zeus's collections of devices: indexed readings in millijoules."""

    def get_total_energy_consumption(self, index: int) -> object:
        return types.SimpleNamespace(cpu_mj=self[index](), dram_mj=None if index else 7.0)


class Boards(list[Callable[[], float]]):
    @property
    def gpus(self) -> list[object]:
        return [types.SimpleNamespace(gpu_index=2 * index) for index in range(len(self))]

    def get_total_energy_consumption(self, index: int) -> float:
        return self[index]()


class AMDGPUs(Boards):
    """As zeus calls them."""


@dataclass
class Chip:
    parts: dict[str, int | None] = field(default_factory=dict)

    def get_total_energy_consumption(self) -> object:
        return types.SimpleNamespace(**self.parts)


Install = Callable[..., None]


@pytest.fixture
def zeus(monkeypatch: pytest.MonkeyPatch) -> Install:
    """A stand-in for the package, for machines without its devices: the few names that are used of it."""

    def install(packages: Packages | None = None, boards: Boards | None = None, chip: Chip | None = None) -> None:
        error = type("ZeusBaseError", (Exception,), {})

        def getter(devices: object) -> Callable[[], object]:
            def get() -> object:
                if devices is None:
                    raise error("no such device")
                return devices

            return get

        for name, content in {
            "zeus": {},
            "zeus.exception": {"ZeusBaseError": error},
            "zeus.device": {},
            "zeus.device.cpu": {"get_cpus": getter(packages)},
            "zeus.device.gpu": {"get_gpus": getter(boards)},
            "zeus.device.soc": {"get_soc": getter(chip)},
        }.items():
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            module.__dict__.update(content)
            monkeypatch.setitem(sys.modules, name, module)

    return install


def found(source: Provenance) -> dict[str, int]:
    return {each.name: each.value() for each in find_gauges(source)}


def test_processors_are_read_with_their_memory(zeus: Install) -> None:
    zeus(Packages([lambda: 100.0, lambda: 20.0]))
    assert found(Provenance.RAPL) == {"processor package 0": 107_000, "processor package 1": 20_000}


def test_gpus_are_read_with_the_processors_that_can_be(zeus: Install) -> None:
    zeus(None, Boards([lambda: 1_000.0, lambda: 2_000.0]))
    assert found(Provenance.NVML) == {"nvml card 0": 1_000_000, "nvml card 2": 2_000_000}
    assert found(Provenance.AMD) == {}
    assert found(Provenance.RAPL) == {}, "an idle GPU says nothing of work on processors"
    zeus(Packages([lambda: 5.0]), AMDGPUs([lambda: 3.0]))
    assert found(Provenance.AMD) == {"amd card 0": 3_000, "processor package 0": 12_000}
    assert found(Provenance.NVML) == {}


def test_a_chip_is_the_sum_of_its_parts(zeus: Install) -> None:
    zeus(chip=Chip({"cpu_total_mj": 5, "dram_mj": None, "gpu_mj": 7, "performance_cores_mj": 4}))
    assert found(Provenance.APPLE) == {"Apple chip": 12_000}, "cores are part of the processor"
    zeus(chip=Chip({"cpu_total_mj": None}))
    assert found(Provenance.APPLE) == {}


@pytest.mark.parametrize("source", [Provenance.NVML, Provenance.AMD, Provenance.APPLE, Provenance.RAPL])
def test_no_device_is_none_and_not_zero(zeus: Install, source: Provenance) -> None:
    zeus()
    assert found(source) == {}
    with pytest.raises(ConfigurationError, match=f"no {source} counter") as caught:
        choose_energy(MeterSettings(kind=str(source), milliwatts_per_core=CORE), blocks=1, most_mw=MOST_MW)
    assert "joulemesh[energy]" in (caught.value.hint or "")


def test_a_counter_that_may_not_be_read_is_none(zeus: Install) -> None:
    def forbidden() -> float:
        raise PermissionError("/sys/class/powercap")

    zeus(Packages([lambda: 5.0, forbidden]))
    assert found(Provenance.RAPL) == {}


def test_a_counter_that_fails_later_is_a_meter_that_failed(zeus: Install) -> None:
    readings = iter([5.0])
    zeus(Packages([lambda: next(readings, float("nan"))]))
    (gauge,) = find_gauges(Provenance.RAPL)
    with pytest.raises(MeterError, match="processor package 0"):
        gauge.value()


def chosen(*, gpu: bool = False, **settings: Any) -> Any:
    return choose_energy(MeterSettings(**settings), blocks=1, gpu=gpu, most_mw=MOST_MW)


def test_the_best_source_at_hand(zeus: Install) -> None:
    zeus(Packages([lambda: 5.0]))
    assert isinstance(chosen(declared_mj=5), DeclaredEnergy)
    measured = chosen(milliwatts_per_core=CORE)
    assert (measured.meter.source, measured.meter.name) == (Provenance.RAPL, "processor package 0")
    assert chosen(kind="processor", milliwatts_per_core=CORE).meter.source is Provenance.MODEL
    zeus()
    assert isinstance(chosen(milliwatts_per_core=CORE).meter, ProcessorTime)
    assert chosen() is None
    assert chosen(milliwatts_per_core=CORE, gpu=True) is None
    zeus(boards=Boards([lambda: 5.0]))
    assert chosen(milliwatts_per_core=CORE, gpu=True).meter.source is Provenance.NVML


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "http"}, "needs meter_url"),
        ({"kind": "http", "url": "http://127.0.0.1:1"}, "needs meter_path"),
        ({"kind": "auto", "url": "http://127.0.0.1:1"}, "has no meter_url"),
        ({"kind": "command"}, "needs meter_command"),
        ({"kind": "shelly", "url": "http://127.0.0.1:1", "command": "date"}, "runs no command"),
        ({"kind": "command", "command": '"open'}, "cannot be read"),
        ({"kind": "command", "command": "  "}, "is empty"),
        ({"kind": "rapl", "declared_mj": 5}, "both meter and joules_per_token"),
    ],
)
def test_settings_that_do_not_go_together_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        chosen(**settings)
    assert caught.value.hint or "cannot be read" in said
