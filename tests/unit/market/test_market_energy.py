"""Joules per token: what meters say, what is left unknown, and which source is used."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from node.energy.meter import HardwareCounter

from node.energy import DeclaredEnergy, MeteredEnergy, ProcessorTime, choose_energy, find_counter
from protocol.offer import Provenance


@dataclass
class Machine:
    """Time and energy that pass when they are told to."""

    seconds: float = 100.0
    counted: int = 5_000
    source: Provenance = Provenance.RAPL
    window_s: float = 10.0

    def clock(self) -> float:
        return self.seconds

    def millijoules(self) -> int:
        return self.counted

    def work(
        self,
        energy: MeteredEnergy,
        *,
        tokens: int,
        prompt: int = 0,
        seconds: float,
        millijoules: int,
        idle_s: float = 0,
    ) -> None:
        self.seconds += seconds + idle_s
        self.counted += millijoules
        energy.record(prompt, tokens, seconds)

    def task(self, *, tokens: int, seconds: float, millijoules: int) -> Callable[[], int]:
        """Work to calibrate with."""

        def run() -> int:
            self.seconds += seconds
            self.counted += millijoules
            return tokens

        return run


def test_nothing_is_known_before_a_window_is_full() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    assert (energy.offered(), energy.millijoules_for(5, 5), energy.source) == (None, None, Provenance.UNKNOWN)
    for _ in range(10):
        machine.work(energy, tokens=4, seconds=1.0, millijoules=1_000)
    assert energy.millijoules_for(0, 3) is None, "the first pass only set the reading"
    machine.work(energy, tokens=4, seconds=1.0, millijoules=1_000)
    assert energy.millijoules_for(0, 3) == 750
    assert energy.source is Provenance.RAPL
    assert energy.offered() is None, "only what was measured alone is offered"


def test_windows_are_averaged() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    machine.work(energy, tokens=1, seconds=1.0, millijoules=0)
    machine.work(energy, tokens=10, seconds=10.0, millijoules=1_000)
    machine.work(energy, tokens=10, seconds=10.0, millijoules=2_000)
    assert energy.millijoules_for(0, 4) == 3 * 100 + 200


def test_idle_power_is_charged_to_nobody() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    machine.work(energy, tokens=1, seconds=1.0, millijoules=0)
    for _ in range(5):
        machine.work(energy, tokens=50, seconds=1.0, millijoules=90_000, idle_s=60.0)
        machine.work(energy, tokens=10, seconds=2.0, millijoules=200)
    assert energy.millijoules_for(0, 1) == 20


def test_a_counter_that_stands_still_measures_nothing() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    for _ in range(30):
        machine.work(energy, tokens=4, seconds=1.0, millijoules=0)
    assert energy.millijoules_for(0, 1) is None
    machine.work(energy, tokens=4, seconds=1.0, millijoules=1_200)
    assert energy.millijoules_for(0, 1) == 10, "the window stayed open"


def test_calibration_gives_the_figure_to_offer() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    energy.calibrate(
        machine.task(tokens=20, seconds=3.0, millijoules=300), machine.task(tokens=2, seconds=3.0, millijoules=301)
    )
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out) == (15, 151), "rounded up"
    assert (figure.source, figure.batch) == (Provenance.RAPL, 1)
    assert energy.millijoules_for(10, 0) == 150
    assert energy.millijoules_for(0, 2) == 301
    machine.work(energy, tokens=1, seconds=1.0, millijoules=10**6)
    assert energy.millijoules_for(10, 0) == 150, "the reading before calibration is not held against later work"


def test_what_is_offered_does_not_follow_the_load_and_what_is_spent_does() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    task = machine.task(tokens=2, seconds=3.0, millijoules=400)
    energy.calibrate(task, task)
    offered = energy.offered()
    machine.work(energy, tokens=1, seconds=1.0, millijoules=0)
    for _ in range(40):
        machine.work(energy, tokens=40, prompt=20, seconds=10.0, millijoules=60 * 50)
    assert energy.offered() == offered
    spent = energy.millijoules_for(500, 500)
    assert spent is not None
    assert 50_000 <= spent <= 50_100, "a quarter of 200 millijoules each, to the thousandth"


@pytest.mark.parametrize("factor_milli", [250, 999, 1_001, 1_500, 3_000])
def test_load_that_costs_somewhat_more_or_less_is_told_to_the_thousandth(factor_milli: int) -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    energy.calibrate(
        machine.task(tokens=100, seconds=3.0, millijoules=1_000),
        machine.task(tokens=10, seconds=3.0, millijoules=1_000),
    )
    machine.work(energy, tokens=1, seconds=1.0, millijoules=0)
    for _ in range(60):
        machine.work(energy, tokens=100, prompt=1000, seconds=10.0, millijoules=20 * factor_milli)
    spent = energy.millijoules_for(1000, 100)
    assert spent == pytest.approx(20 * factor_milli, rel=0.001)
    one = energy.millijoules_for(0, 100)
    assert one == pytest.approx(10 * factor_milli, rel=0.001), "a generated token weighs ten times a prompt token"


def test_calibration_gives_up_on_a_dead_meter() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    dead = machine.task(tokens=2, seconds=5.0, millijoules=0)
    energy.calibrate(dead, dead)
    assert energy.offered() is None
    assert machine.seconds == 100 + 2 * 6 * 5


def test_figures_below_a_millijoule_are_not_lost() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    machine.work(energy, tokens=1, seconds=1.0, millijoules=0)
    machine.work(energy, tokens=10_000, seconds=10.0, millijoules=2_500)
    assert energy.millijoules_for(0, 1_000) == 250
    assert energy.millijoules_for(0, 1) == 1, "rounded up, never 0"
    tiny = machine.task(tokens=10_000, seconds=6.0, millijoules=2_500)
    energy.calibrate(tiny, tiny)
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out) == (1, 1)


def test_processor_time_is_real_and_labelled_a_model() -> None:
    energy = MeteredEnergy(ProcessorTime(10_000))

    def work() -> int:
        return sum(range(200_000)) % 1 + 10

    energy.calibrate(work, work)
    figure = energy.offered()
    assert figure is not None
    assert figure.source is Provenance.MODEL
    assert 0 < figure.millijoules_out < 10_000


def test_processor_time_times_power() -> None:
    assert ProcessorTime(10_000, clock_ns=lambda: 2_500_000_000).millijoules() == 25_000


def test_what_is_declared_is_said_to_be() -> None:
    energy = DeclaredEnergy(10_800)
    energy.record(1, 5, 1.0)
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out, figure.source) == (10_800, 10_800, Provenance.DECLARED)
    assert energy.millijoules_for(1, 1) == 21_600
    with pytest.raises(ValueError, match="free"):
        DeclaredEnergy(0)


# Sources


def test_the_sum_of_no_counters_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="not a measurement"):
        HardwareCounter(Provenance.RAPL, [])


class Packages(list[Callable[[], float]]):
    """Like zeus's collections of devices: indexed readings in millijoules."""

    def get_total_energy_consumption(self, index: int) -> object:
        return types.SimpleNamespace(cpu_mj=self[index](), dram_mj=None if index else 7.0)


class Boards(list[Callable[[], float]]):
    def get_total_energy_consumption(self, index: int) -> float:
        return self[index]()


@pytest.fixture
def zeus(monkeypatch: pytest.MonkeyPatch) -> Callable[[Packages | None, Boards | None], None]:
    """A stand-in for the package, for machines without its devices: the few names that are used of it."""

    def install(packages: Packages | None, boards: Boards | None) -> None:
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
        }.items():
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            module.__dict__.update(content)
            monkeypatch.setitem(sys.modules, name, module)

    return install


Install = Callable[[Packages | None, Boards | None], None]


def test_processors_are_read_with_their_memory(zeus: Install) -> None:
    zeus(Packages([lambda: 100.0, lambda: 20.0]), None)
    counter = find_counter(gpu=False)
    assert counter is not None
    assert (counter.source, counter.millijoules()) == (Provenance.RAPL, 127)


def test_gpus_are_read_with_the_processors_that_can_be(zeus: Install) -> None:
    zeus(None, Boards([lambda: 1_000.0, lambda: 2_000.0]))
    counter = find_counter(gpu=True)
    assert counter is not None
    assert (counter.source, counter.millijoules()) == (Provenance.NVML, 3_000)
    assert find_counter(gpu=False) is None, "an idle GPU says nothing of work on processors"


@pytest.mark.parametrize("gpu", [False, True])
def test_no_device_is_none_and_not_zero(zeus: Install, gpu: bool) -> None:
    for packages, boards in ((None, None), (Packages(), Boards())):
        zeus(packages, boards)
        assert find_counter(gpu=gpu) is None


def test_a_counter_that_may_not_be_read_is_none(zeus: Install) -> None:
    def forbidden() -> float:
        raise PermissionError("/sys/class/powercap")

    zeus(Packages([lambda: 5.0, forbidden]), None)
    assert find_counter(gpu=False) is None


def test_the_best_source_at_hand(zeus: Install) -> None:
    zeus(Packages([lambda: 5.0]), None)
    assert isinstance(choose_energy(declared_mj=5, milliwatts_per_core=None), DeclaredEnergy)
    measured = choose_energy(declared_mj=None, milliwatts_per_core=10_000)
    assert isinstance(measured, MeteredEnergy)
    zeus(None, None)
    assert isinstance(choose_energy(declared_mj=None, milliwatts_per_core=10_000), MeteredEnergy)
    assert choose_energy(declared_mj=None, milliwatts_per_core=None) is None
    assert choose_energy(declared_mj=None, milliwatts_per_core=10_000, gpu=True) is None
