"""Joules per token: what meters say, who gets it, and what is left unknown."""

from __future__ import annotations

import pytest
from energy_bench import BLOCKS, ONE, TWO, Bench, some

from protocol.energy.energy_shares import NOBODY, Accuracy
from protocol.errors import MeterError
from protocol.market.offer import Provenance


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


def test_one_piece_of_work_that_takes_long_is_enough() -> None:
    bench = Bench()
    energy = bench.account()
    slow = bench.task(tokens=2, seconds=40.0, joules=1)
    energy.calibrate(slow, slow)
    figure = energy.offered()
    assert figure is not None
    assert figure.millijoules_out == 500


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
