"""The report and the receipt of an answer that outlived a leg: who served what, for how much, and how long it took."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_market import FEE, GRACE_S, MANIFEST, VERIFIER_KEY, SmallMarket

from node.app.buying.execution import Execution
from node.app.buying.planning import JobPlan
from node.app.buying.receipts import Kept, make_bundle
from node.app.buying.report import JobReport, build_report
from node.app.buying.request import Request
from node.cli.buying.receipt_facts import claims, proven
from node.cli.buying.report import print_report
from node.cli.terminal.output import EventPrinter
from node.cli.terminal.streaming import AnswerStream
from node.events import Healed, Level, unheard
from node.pipeline.buying.job import JobResult
from node.ports import VenueRules
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.receipts.bundle_file import dump_bundle
from protocol.routing.routes import Route

pytestmark = pytest.mark.asyncio
PROMPT = (1, 2, 3, 4, 5)
MOST = 20
KILLED_AFTER = 9


async def nowhere(plan: JobPlan, results: Sequence[JobResult]) -> None:
    """There is no other route."""


async def answered(market: SmallMarket, dead: int | None) -> tuple[JobReport, Bundle]:
    """A job in whose middle a node may die: its report and its receipt."""
    deal = market.deal(PROMPT, MOST)
    legs = tuple(chosen.leg for chosen in deal.legs[: market.on_route])
    plan = JobPlan(
        request=Request(prompt=PROMPT),
        manifest=MANIFEST,
        route=Route(legs=legs, price_in=3, price_out=6, latency_us=1, gap=0, explanations=()),
        deal=deal,
        rules=VenueRules(grace_s=GRACE_S, fee=FEE),
        free_micro=market.free(market.client_key),
    )
    job, count = Execution(plan, market.client, nowhere, unheard), 0
    async with job as tokens:
        async for _ in tokens:
            count += 1
            if count == KILLED_AFTER and dead is not None:
                await market.kill(dead)
    assert job.result is not None
    bundle = make_bundle(job.result, MANIFEST, verifier_key=VERIFIER_KEY, key=market.client_key)
    assert bundle is not None
    kept = Kept(bundle=bundle, verified=verify_bundle(bundle), file=None)
    return build_report(job, text=("q", "a"), kept=kept, balance_after_micro=None), bundle


async def test_the_report_says_who_died_who_took_over_and_what_each_is_paid(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((0, 6),)) as market:
        report, _ = await answered(market, dead=1)
    (healed,) = report.healed
    base = healed.position
    assert report.error is None
    assert report.verified
    assert (healed.gone, healed.joined) == ((1,), (3,))
    assert healed.tokens >= KILLED_AFTER
    assert healed.silent_s is not None
    assert healed.silent_s >= healed.seconds >= 0
    end = len(PROMPT) - 1 + MOST
    assert [leg.served for leg in report.legs] == [f"0:{end}", f"0:{base}", f"0:{end}", f"{base}:{end}"]
    assert [leg.standby for leg in report.legs] == [False, False, False, True]
    assert [leg.blocks for leg in report.legs] == ["0:2", "2:4", "4:6", "2:4"]
    assert [leg.gone is None for leg in report.legs] == [True, False, True, True]
    dead, replacement = report.legs[1], report.legs[3]
    assert dead.paid_micro == 2 + len(PROMPT) + 2 * (base - len(PROMPT) + 1)
    share_in, share_out = 333_334, 666_667  # a third of its rates, for two of its six blocks
    assert (replacement.replayed, replacement.replayed_micro) == (base, -(-base * share_in // 1_000_000))
    assert replacement.paid_micro == 2 - (-(base * share_in + (end - base) * share_out) // 1_000_000)
    assert sum(leg.paid_micro for leg in report.legs) == report.paid_micro


async def test_where_nobody_dies_a_standby_is_paid_for_standing_by_alone(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((0, 6),)) as market:
        report, bundle = await answered(market, dead=None)
    standby = report.legs[3]
    assert report.healed == ()
    assert (standby.served, standby.replayed, standby.replayed_micro, standby.gone) == (None, 0, 0, None)
    assert (standby.blocks, standby.paid_micro) == ("0:6", standby.opening_micro)
    assert standby.millijoules is None
    assert claims(bundle).reroutes == ()
    assert [part.leg for part in proven(verify_bundle(bundle)).served] == [0, 1, 2]


async def test_the_receipt_names_standbys_reroutes_and_who_served_which_windows(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((0, 6),)) as market:
        report, bundle = await answered(market, dead=0)
    base = report.healed[0].position
    claimed, proved = claims(bundle), proven(verify_bundle(bundle))
    assert [leg.standby for leg in claimed.legs] == [False, False, False, True]
    (reroute,) = claimed.reroutes
    assert reroute.position == base
    assert [(seat.leg, seat.blocks) for seat in reroute.route] == [(3, "0:2"), (1, "2:4"), (2, "4:6")]
    served = {part.leg: part for part in proved.served}
    assert served[0].positions == f"0:{base}"
    assert served[3].positions == f"{base}:{len(PROMPT) - 1 + MOST}"
    assert served[0].windows.split(":")[1] == served[3].windows.split(":")[0]
    assert (served[3].blocks, served[1].windows.split(":")[0]) == ("0:2", "0")


async def test_people_read_it_in_the_report_and_the_receipt(
    tmp_path: Path, joule: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with SmallMarket(tmp_path / "market", spares=((0, 6),)) as market:
        report, bundle = await answered(market, dead=1)
    print_report(report, proof=["and more"])
    told = " ".join(capsys.readouterr().err.split())
    base = report.healed[0].position
    assert "Healed after" in told
    assert f"for positions 0:{base}, all that every leg had signed for" in told
    assert f"took over blocks 2:4: it computed {base} positions again" in told
    assert "no token came for" in told
    assert told.endswith("and more")
    in_another = dataclasses.replace(report.healed[0], session="00", gone=(6,), joined=(7,))
    print_report(dataclasses.replace(report, healed=(in_another,)))
    told = " ".join(capsys.readouterr().err.split())
    assert f"after {in_another.tokens} tokens" in told
    assert "took over" not in told, "the legs of another session are not those of the report"
    file = tmp_path / "receipt.json"
    file.write_text(dump_bundle(bundle))
    shown, verified = (joule("receipt", command, str(file)).out for command in ("show", "verify"))
    assert f"reroute 1     from position {base}: leg 0 blocks 0:2, leg 3 blocks 2:4, leg 2 blocks 4:6" in shown
    assert "stood by" in shown
    assert "leg 3: windows" in verified


@pytest.mark.parametrize("terminal", [True, False])
async def test_what_is_told_meanwhile_leaves_the_line_of_the_answer_on_a_terminal_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = AnswerStream()
    for each in (sys.stdout, sys.stderr):
        monkeypatch.setattr(each, "isatty", lambda: terminal)
    printer = EventPrinter(Level.WARNING, err=True, before=stream.leave_line)
    healed = Healed(session=bytes(32), legs=(1,), joined=(3,), seconds=0.31, reason="leg 1 is gone")
    printer(healed)
    stream.write("One rainy")
    printer(healed)
    stream.write(" day.\n")
    printer(healed)
    out, err = capsys.readouterr()
    assert out == "One rainy day.\n"
    lines = err.splitlines()
    assert [line == "" for line in lines] == ([False, True, False, False] if terminal else [False] * 3)
    assert "leg 1 is gone; after 0.3 s the answer goes on without leg 1, leg 3 has taken over" in lines[-1]
