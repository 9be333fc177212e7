"""Joules per token: what meters say, what is left unknown, and which source is used."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from node.config.provider import NodeConfig
from node.energy import KINDS, UNITS, DeclaredEnergy, MeteredEnergy, MeterSettings, SpanSize, choose_energy
from node.energy.hardware import find_gauges
from node.energy.modelled import ProcessorTime, RooflineMeter
from node.energy.reading import Reading
from node.energy.shared import MeterFolder, SharedMeter
from node.setting_kinds import METER_UNITS, Choice
from node.settings import declared
from protocol.energy_shares import NOBODY, NOT_SAID, Accuracy, Worked
from protocol.errors import ConfigurationError, MeterError
from protocol.offer import Provenance

BLOCKS = 4
ONE, TWO = b"\x01" * 32, b"\x02" * 32
CORE = 10_000
MOST_MW = 1_000_000


@dataclass
class Bench:
    """Time and energy that pass when they are told to."""

    seconds: float = 100.0
    counted: int = 5_000_000
    source: Provenance = Provenance.RAPL
    window_s: float = 10.0
    every_s: float = 1.0
    settle_s: float = 5.0
    idle_w: int = 0
    name = "the bench"
    accuracy: Accuracy = NOT_SAID
    epoch: tuple[int, ...] = ()

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.counted += round(seconds * self.idle_w * 1e6)

    def read(self) -> Reading:
        return Reading(self.counted, self.epoch)

    def account(self, **settings: Any) -> MeteredEnergy:
        return MeteredEnergy(self, blocks=BLOCKS, clock=self.clock, sleep=self.sleep, **settings)

    def work(self, energy: MeteredEnergy, *worked: Worked, seconds: float, joules: float) -> None:
        energy.begin()
        self.seconds += seconds
        self.counted += round(joules * 1e6)
        energy.record(worked)
        energy.take(self.read())

    def task(self, *, tokens: int, seconds: float, joules: float) -> Callable[[], int]:
        """Work to calibrate with."""

        def run() -> int:
            self.seconds += seconds
            self.counted += round(joules * 1e6)
            return tokens

        return run


def some(session: bytes, *, prompt: int = 0, generated: int = 0, blocks: int = BLOCKS) -> Worked:
    return Worked(session, prompt, generated, blocks)


def test_nothing_is_known_before_a_window_is_full() -> None:
    bench = Bench()
    energy = bench.account()
    assert (energy.offered(), energy.spent(ONE), energy.source) == (None, None, Provenance.UNKNOWN)
    energy.take(bench.read())
    for _ in range(9):
        bench.work(energy, some(TWO, generated=4), seconds=1.0, joules=1)
    assert energy.source is Provenance.UNKNOWN
    bench.work(energy, some(TWO, generated=4), seconds=1.0, joules=1)
    assert energy.source is Provenance.RAPL
    assert energy.spent(TWO) == 10_000
    assert energy.spent(ONE) is None, "it was told so once, and that cannot be taken back"
    assert energy.offered() is None, "only what was measured alone is offered"


def test_a_window_is_shared_out_by_positions_and_blocks() -> None:
    bench = Bench()
    energy = bench.account(known=(1_000_000, 10_000_000))
    energy.calibrate(lambda: 1, lambda: 1)
    energy.take(bench.read())
    prefill, half = some(ONE, prompt=20), some(TWO, generated=4, blocks=BLOCKS // 2)
    bench.work(energy, prefill, half, seconds=10.0, joules=80)
    assert energy.spent(ONE) == 40_000
    assert energy.spent(TWO) == 40_000, "ten times as much each, through half of the blocks"
    figures = energy.figures()
    assert figures.in_uj == 1_500_000, "half way from what it was calibrated as to two joules"
    assert figures.batch_milli == 24_000
    assert figures.measured_uj == 80_000_000


def test_what_runs_is_told_an_estimate_and_then_its_share() -> None:
    bench = Bench()
    energy = bench.account(known=(1_000_000, 1_000_000))
    energy.calibrate(lambda: 1, lambda: 1)
    energy.take(bench.read())
    energy.begin()
    energy.record([some(ONE, prompt=10)])
    assert energy.spent(ONE) == 10_000, "by the calibration"
    bench.work(energy, some(ONE, prompt=10), seconds=10.0, joules=8)
    assert energy.spent(ONE) == 10_000, "8 J was it in all: what was told is not taken back"
    bench.work(energy, some(ONE, prompt=10), seconds=10.0, joules=8)
    assert energy.spent(ONE) == 16_000, "it comes off what follows"
    assert energy.end(ONE) == 16_000
    assert (energy.book.told, energy.book.carried) == (16_000_000, 0)


def test_idle_power_is_charged_to_nobody() -> None:
    bench = Bench(idle_w=50)
    energy = bench.account()
    task = bench.task(tokens=10, seconds=1.0, joules=100)
    energy.calibrate(task, task)
    assert energy.figures().idle_uw == 50_000_000
    energy.take(bench.read())
    bench.work(energy, some(ONE, generated=10), seconds=2.0, joules=100)
    bench.sleep(8.0)
    energy.take(bench.read())
    assert energy.spent(ONE) == 100_000
    assert energy.figures().idle_uj == 8 * 50_000_000
    bench.sleep(100.0)
    energy.take(bench.read())
    assert energy.spent(ONE) == 100_000
    assert energy.figures().idle_uj == 108 * 50_000_000


def test_a_pass_that_is_longer_than_a_window_is_not_taken_for_idleness() -> None:
    bench = Bench()
    energy = bench.account()
    energy.take(bench.read())
    energy.begin()
    for _ in range(4):
        bench.seconds += 10
        bench.counted += 5_000_000
        energy.take(bench.read())
    energy.record([some(ONE, prompt=100)])
    energy.take(bench.read())
    assert energy.figures().idle_uj == 0
    assert energy.book.running == 20_000_000


def test_a_counter_that_stands_still_measures_nothing() -> None:
    bench = Bench()
    energy = bench.account()
    energy.take(bench.read())
    for _ in range(29):
        bench.work(energy, some(ONE, generated=4), seconds=10.0, joules=0)
    assert energy.source is Provenance.UNKNOWN
    assert energy.fault is None
    bench.work(energy, some(ONE, generated=4), seconds=10.0, joules=0)
    assert energy.fault is not None, "it has not moved for five minutes"
    bench.work(energy, some(TWO, generated=4), seconds=10.0, joules=4)
    assert energy.spent(TWO) == 4_000
    assert energy.fault is None


def test_coarse_counters_get_longer_windows() -> None:
    bench = Bench(accuracy=Accuracy(ppm=10_000, step_uj=3_600_000_000))
    energy = bench.account()
    energy.take(bench.read())
    bench.work(energy, some(ONE, generated=4), seconds=20.0, joules=3_600 * 19)
    assert energy.source is Provenance.UNKNOWN
    bench.work(energy, some(ONE, generated=4), seconds=20.0, joules=3_600)
    assert energy.source is Provenance.RAPL
    assert energy.figures().accuracy.error_uj(72_000_000_000) == 720_000_000 + 7_200_000_000


def test_what_nobody_measured_is_not_made_up() -> None:
    bench = Bench()
    energy = bench.account()
    energy.take(bench.read())
    bench.work(energy, some(ONE, generated=5), seconds=10.0, joules=10)
    energy.spent(ONE)
    bench.epoch = (1,)
    bench.work(energy, some(ONE, generated=5), seconds=10.0, joules=10**6)
    assert energy.figures().measured_uj == 10_000_000
    assert energy.figures().estimated_uj == 10_000_000, "by the figures of before"
    assert energy.spent(ONE) == 20_000
    assert energy.spent(NOBODY) == 0


def test_a_meter_that_is_gone_leaves_a_model() -> None:
    bench = Bench()
    energy = bench.account()
    energy.take(bench.read())
    bench.work(energy, some(ONE, generated=5), seconds=10.0, joules=10)
    energy.lose(MeterError("gone"))
    assert energy.source is Provenance.MODEL
    energy.begin()
    energy.record([some(ONE, generated=5)])
    assert energy.spent(ONE) == 20_000
    bench.seconds += 400
    energy.lose(MeterError("gone"))
    assert energy.figures().estimated_uj == 10_000_000
    bench.counted += 7_000_000
    energy.take(bench.read())
    assert energy.source is Provenance.RAPL
    assert energy.figures().measured_uj == 10_000_000, "after so long nobody knows for what it was"


def test_calibration_gives_the_figure_to_offer() -> None:
    bench = Bench()
    energy = bench.account()
    energy.calibrate(bench.task(tokens=20, seconds=5.0, joules=0.3), bench.task(tokens=2, seconds=5.0, joules=0.301))
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out) == (15, 151), "rounded up"
    assert (figure.source, figure.batch) == (Provenance.RAPL, 1)
    energy.record([some(ONE, prompt=10), some(TWO, generated=2)])
    assert (energy.spent(ONE), energy.spent(TWO)) == (150, 301)


def test_what_is_offered_does_not_follow_the_load_and_what_is_spent_does() -> None:
    bench = Bench()
    energy = bench.account()
    task = bench.task(tokens=2, seconds=5.0, joules=0.4)
    energy.calibrate(task, task)
    offered = energy.offered()
    energy.take(bench.read())
    for _ in range(40):
        bench.work(energy, some(ONE, generated=40, prompt=20), seconds=10.0, joules=3)
    assert energy.offered() == offered
    assert energy.figures().out_uj == pytest.approx(50_000, rel=0.001), "a quarter of 200 millijoules"


def test_calibration_gives_up_on_a_dead_meter() -> None:
    bench = Bench()
    energy = bench.account()
    dead = bench.task(tokens=2, seconds=5.0, joules=0)
    energy.calibrate(dead, dead)
    assert energy.offered() is None


def test_figures_below_a_millijoule_are_not_lost() -> None:
    bench = Bench()
    energy = bench.account()
    energy.take(bench.read())
    bench.work(energy, some(ONE, generated=10_000), seconds=10.0, joules=2.5)
    assert energy.spent(ONE) == 2_500
    energy.record([some(TWO, generated=1)])
    assert energy.spent(TWO) == 1, "rounded up, never 0"
    tiny = bench.task(tokens=10_000, seconds=6.0, joules=2.5)
    energy.calibrate(tiny, tiny)
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out) == (1, 1)


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
