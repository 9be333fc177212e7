"""Joules per token: what meters say, what is left unknown, and which source is used."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from node.energy import DeclaredEnergy, MeteredEnergy, ProcessorTime, choose_energy, find_counter
from node.energy.meter import HardwareCounter
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
        generated: int,
        seconds: float,
        millijoules: int,
        prompt: int = 0,
        idle_s: float = 0,
    ) -> None:
        self.seconds += seconds + idle_s
        self.counted += millijoules
        energy.record(prompt, generated, seconds)

    def costs(self, positions: int, *, seconds: float, millijoules: int) -> Callable[[], int]:
        """Work of a calibration."""

        def work() -> int:
            self.seconds += seconds
            self.counted += millijoules
            return positions

        return work


def calibrated(machine: Machine, *, each_in: int = 10, each_out: int = 100) -> MeteredEnergy:
    """In a session alone: so many millijoules for a prompt token and for a generated one."""
    energy = MeteredEnergy(machine, clock=machine.clock)
    prefill = machine.costs(64, seconds=3.0, millijoules=64 * each_in)
    energy.calibrate(prefill, machine.costs(8, seconds=3.0, millijoules=8 * each_out))
    return energy


def test_nothing_is_known_before_a_window_is_full() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    for _ in range(10):
        assert (energy.offered(), energy.millijoules_for(5, 5), energy.source) == (None, None, Provenance.UNKNOWN)
        machine.work(energy, generated=4, seconds=1.0, millijoules=1_000)
    assert energy.millijoules_for(0, 3) is None, "the first pass only set the reading"
    machine.work(energy, generated=4, seconds=1.0, millijoules=1_000)
    assert energy.millijoules_for(0, 3) == 750
    assert energy.source is Provenance.RAPL
    assert energy.offered() is None, "what is offered is measured alone, at start"


def test_windows_are_averaged() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    machine.work(energy, generated=1, seconds=1.0, millijoules=0)
    machine.work(energy, generated=10, seconds=10.0, millijoules=1_000)
    machine.work(energy, generated=10, seconds=10.0, millijoules=2_000)
    assert energy.millijoules_for(0, 4) == 3 * 100 + 200


def test_idle_power_is_charged_to_nobody() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    machine.work(energy, generated=1, seconds=1.0, millijoules=0)
    for _ in range(5):
        machine.work(energy, generated=50, seconds=1.0, millijoules=90_000, idle_s=60.0)
        machine.work(energy, generated=10, seconds=2.0, millijoules=200)
    assert energy.millijoules_for(0, 1) == 20


def test_a_counter_that_stands_still_measures_nothing() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    for _ in range(30):
        machine.work(energy, generated=4, seconds=1.0, millijoules=0)
    assert energy.millijoules_for(0, 1) is None
    machine.work(energy, generated=4, seconds=1.0, millijoules=1_200)
    assert energy.millijoules_for(0, 1) == 10, "the window stayed open"


def test_calibration_tells_prompt_tokens_from_generated_ones() -> None:
    machine = Machine()
    energy = calibrated(machine)
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out, figure.source) == (10, 100, Provenance.RAPL)
    assert energy.millijoules_for(5, 2) == 250
    machine.work(energy, generated=1, seconds=1.0, millijoules=10**6)
    assert energy.millijoules_for(5, 2) == 250, "the reading before calibration is not held against later work"


@pytest.mark.parametrize(("millijoules", "each"), [(4_000, 40), (9_000, 90), (40_000, 400)])
def test_what_is_offered_does_not_follow_the_load_and_what_is_spent_does(millijoules: int, each: int) -> None:
    """Batches make a token cheaper: receipts say so, and a published price stands."""
    machine = Machine()
    energy = calibrated(machine)
    before = energy.offered()
    machine.work(energy, generated=1, seconds=1.0, millijoules=0)
    for _ in range(40):
        machine.work(energy, generated=96, prompt=40, seconds=10.0, millijoules=millijoules)
    assert energy.offered() == before
    found = energy.millijoules_for(0, 1_000)
    assert found is not None
    assert found == pytest.approx(1_000 * each, rel=0.01)


def test_calibration_gives_up_on_a_dead_meter() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    calls: list[int] = []

    def work() -> int:
        machine.seconds += 5.0
        calls.append(1)
        return 2

    energy.calibrate(work, work)
    assert energy.offered() is None
    assert len(calls) == 12


def test_figures_below_a_millijoule_are_not_lost() -> None:
    machine = Machine()
    energy = MeteredEnergy(machine, clock=machine.clock)
    slow = machine.costs(10_000, seconds=6.0, millijoules=2_500)
    energy.calibrate(slow, slow)
    figure = energy.offered()
    assert figure is not None
    assert (figure.millijoules_in, figure.millijoules_out) == (1, 1), "published rounded up, never 0"
    assert energy.millijoules_for(500, 500) == 250


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
    energy.record(5, 5, 1.0)
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
