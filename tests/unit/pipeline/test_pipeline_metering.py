"""Ten minutes of a node under a mixed load: receipts and idle time make up what the plug counted (clause M61)."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

from simulated_meter import BUSY_UW, IDLE_UW, ROW_S, ROW_UJ, Machine, metered
from small_market import SmallMarket, limits_of
from virtual_loop import run_virtually

from node.energy import Metering, Power
from node.energy.account import MeteredEnergy
from node.events import JobServed, MeterFailed, MeterReadAgain
from node.pipeline.buying.client import JobClient
from node.pipeline.vouchers import VoucherStore
from node.worker import InlineWorker
from protocol.errors import MeterError
from protocol.identity.signing import SigningKey
from protocol.market.offer import Provenance
from protocol.session.messages import UNMEASURED, Receipt

MINUTES = 10


async def _market(folder: Path) -> tuple[SmallMarket, Machine, MeteredEnergy]:
    market = SmallMarket(folder, spans=((0, 6),), limits=limits_of(idle_s=60.0), money=10**9)
    node = market.nodes[0]
    machine = Machine(node.engine, off_ppm=7_000)
    energy = metered(machine)
    node.energy, node.compute = energy, machine
    return market, machine, energy


def _metering(market: SmallMarket, energy: MeteredEnergy) -> Metering:
    return Metering(
        energy,
        worker=InlineWorker(),
        events=market.nodes[0].events.append,
        clock=market.clock,
        power=lambda: Power(micro_per_kwh=100_000, pue_milli=1_000),
        path=None,
    )


class _Customers:
    """Clients who come and go, and the last receipts that they have."""

    def __init__(self, market: SmallMarket, seed: int) -> None:
        self._market = market
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self.receipts: list[Receipt] = []

    async def one(self) -> None:
        market, number = self._market, next(self._numbers)
        key = SigningKey(number.to_bytes(32, "big"))
        market.ledger.deposit(key, 10**6)
        client = JobClient(market.side_of(key, VoucherStore(market.folder / f"client{number}", InlineWorker())))
        prompt = [1 + each % 40 for each in range(self._chance.choice((3, 20, 150)))]
        most = self._chance.choice((4, 20, 60))
        deal = market.deal(prompt, most, window=8, chunk=64, client=key)
        _, result = await market.run(deal, client)
        windows = [window.receipts for window in result.tab.book.windows]
        self.receipts.append(windows[-1][-1].signed.receipt)

    async def come(self, seconds: float) -> None:
        """Some at a time, then nobody for a while, and so on."""
        async with asyncio.timeout(None), asyncio.TaskGroup() as group:
            loop = asyncio.get_running_loop()
            ends = loop.time() + seconds - 40
            while loop.time() < ends:
                for _ in range(self._chance.choice((1, 1, 2, 4))):
                    group.create_task(self.one())
                await asyncio.sleep(self._chance.choice((6, 15, 50)))


def test_m61_receipts_and_idle_time_are_what_the_plug_counted(tmp_path: Path) -> None:
    async def play() -> tuple[list[Receipt], Machine, int, MeteredEnergy, SmallMarket]:
        market, machine, energy = await _market(tmp_path)
        async with market:
            task = asyncio.create_task(_metering(market, energy).run())
            customers, loop = _Customers(market, 7), asyncio.get_running_loop()
            began = loop.time()
            await customers.come(60 * MINUTES)
            await asyncio.sleep(60 * MINUTES - (loop.time() - began) + 0.5)
            task.cancel()
            return customers.receipts, machine, machine.used_uj, energy, market

    receipts, machine, used, energy, market = run_virtually(play())
    figures = energy.figures()
    assert len(receipts) >= 30
    assert {each.source for each in receipts} == {Provenance.WALL}
    told_uj = sum(each.millijoules for each in receipts) * 1000
    share = machine.busy_s / (60 * MINUTES)
    assert 0.2 < share < 0.9, "a mixed load"
    # The sum over receipts, and the idle time, is what was used: within 1 %, with a plug that is off by 0.7 %.
    assert abs(told_uj + figures.idle_uj - used) < used // 100
    error = figures.accuracy.error_uj(figures.measured_uj)
    assert error is not None
    assert abs(figures.measured_uj - used) <= error + 15 * 350_000_000, "and what the last window has not counted yet"
    # Idle power was seen as it is, and idle time is charged to nobody.
    assert figures.idle_uw is not None
    assert abs(figures.idle_uw - IDLE_UW) < IDLE_UW // 10
    idle_uj = IDLE_UW * (60 * MINUTES - machine.busy_s)
    assert abs(figures.idle_uj - idle_uj) < idle_uj * 0.05
    # The journal has the receipts' figures.
    events = [each.millijoules for each in market.nodes[0].events if isinstance(each, JobServed)]
    assert sum(each or 0 for each in events) * 1000 == energy.book.told
    assert abs(told_uj + figures.idle_uj - figures.measured_uj) < figures.measured_uj // 100
    # One more in a pass takes what its row takes, and no share of what each pass takes anyway.
    row_uj = ROW_UJ + BUSY_UW * ROW_S
    assert figures.marginal_uj is not None
    assert abs(figures.marginal_uj - row_uj) < row_uj * 0.2


def test_a_plug_that_is_gone_for_a_while_costs_nobody_a_job(tmp_path: Path) -> None:
    async def play() -> tuple[list[Receipt], SmallMarket, MeteredEnergy, int]:
        market, machine, energy = await _market(tmp_path)
        async with market:
            task = asyncio.create_task(_metering(market, energy).run())
            customers = _Customers(market, 3)
            await customers.one()
            machine.fault = MeterError("the plug does not answer")
            await asyncio.sleep(10)
            assert energy.source is Provenance.MODEL
            await customers.one()
            machine.fault = None
            await asyncio.sleep(60)
            assert energy.source is Provenance.WALL
            machine.set_back_uj = 5 * 10**9
            await asyncio.sleep(2)
            await customers.one()
            await asyncio.sleep(60)
            task.cancel()
            return customers.receipts, market, energy, machine.used_uj

    receipts, market, energy, used = run_virtually(play())
    assert [each.source for each in receipts] == [Provenance.WALL, Provenance.MODEL, Provenance.WALL]
    assert all(0 < each.millijoules < UNMEASURED for each in receipts)
    (failed,) = market.nodes[0].events_of(MeterFailed)
    assert "does not answer" in failed.sentence()
    assert len(market.nodes[0].events_of(MeterReadAgain)) == 1
    # What it counted while nobody could read it is known again; what it lost when it was set back is not.
    assert 0 < used - energy.book.measured < 40 * 350_000_000
