"""A ledger's own log becomes a trace; its replay pays what the ledger paid, and what does not hold is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from forged_bundles import honest_bundle, honest_play
from paper_ledger import PaperLedger

from node.cli.entry import joule
from protocol.encoding.codec import encode
from protocol.errors import ConfigurationError
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.merkle import leaf_hash, root_of
from protocol.log.tiles import TILE_WIDTH, Tile, encode_bundle, tile_path
from protocol.receipts.bundle_file import dump_bundle
from protocol.session.messages import Leg, Session, Voucher, session_id, sign_voucher
from protocol.session.metering import amount
from protocol.settlement.operations import Open, Settle
from simulator.engine import simulate
from simulator.figures import figures_of
from simulator.replay.compared import SiteTotals, misfit
from simulator.replay.ledger_log import read_log
from simulator.replay.trace import COLUMNS, Trace, read_trace
from simulator.replay.writing import write_trace
from simulator.scenario import Settings, load_scenario

START = 1_790_000_000 // 3600 * 3600
CLIENT = SigningKey(b"\x31" * 32)
SITES = [SigningKey(bytes([0x41 + at]) * 32) for at in range(3)]
RATES = [(400_000, 1_600_000), (500_000, 1_500_000), (900_000, 2_900_000)]
"""Micro-units per million tokens that they ask for prompts and answers."""
JOBS = 40


def written(ledger: PaperLedger, folder: Path) -> Path:
    """The ledger's log as `joule ledger export` writes it."""
    entries = [encode(each) for each in ledger.entries]
    for begin in range(0, len(entries), TILE_WIDTH):
        part = entries[begin : begin + TILE_WIDTH]
        path = folder / tile_path(Tile(None, begin // TILE_WIDTH, len(part)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_bundle(part))
    root = root_of(leaf_hash(each) for each in entries)
    checkpoint = Checkpoint(ledger.verifier.name, len(entries), root)
    (folder / "checkpoint").write_bytes(sign_checkpoint(checkpoint, ledger.note_key))
    return folder


def size_of(job: int) -> tuple[int, int]:
    return 20_000 + 37_111 * job % 90_000, 5_000 + 1_313 * job % 9_000


def trading(jobs: int = JOBS) -> PaperLedger:
    """A ledger on which a client has bought so many answers, one every three minutes, from each site in turn."""
    ledger = PaperLedger(START + 60)
    ledger.fund(CLIENT.address, 10**9)
    for job in range(jobs):
        ledger.now = START + 60 + 180 * job
        site, size = SITES[job % 3], size_of(job)
        legs = (Leg(provider=site.address, cap=10**6),)
        salt = job.to_bytes(32, "big")
        session = Session(client=CLIENT.address, expiry=ledger.now + 600, terms=bytes(32), salt=salt, legs=legs)
        ledger.act(CLIENT, Open, session=session, signature=b"")
        owed = amount(*size, *RATES[job % 3])
        voucher = Voucher(
            session=session_id(session), amounts=(owed,), tokens_in=size[0], tokens_out=size[1], receipts=bytes(32)
        )
        ledger.act(CLIENT, Settle, vouchers=(sign_voucher(ledger.domain, voucher, CLIENT),))
    return ledger


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> tuple[PaperLedger, Settings, Path]:
    """A ledger, and the scenario of what happened on it."""
    folder = tmp_path_factory.mktemp("happened")
    ledger = trading()
    write_trace(read_log(written(ledger, folder / "copy")), folder / "out")
    scenario = load_scenario(folder / "out" / "scenario.toml")
    return ledger, next(iter(scenario.runs.values())), folder


def running(settings: Settings, fidelity: str) -> Any:
    return simulate(dataclasses.replace(settings, run=dataclasses.replace(settings.run, fidelity=fidelity)))


def earned(ledger: PaperLedger) -> dict[str, int]:
    return {f"site/{key.address.hex()}/00000": ledger.books.account(key.address).free for key in SITES}


def test_a_replay_pays_each_site_what_the_ledger_paid(happened: tuple[PaperLedger, Settings, Path]) -> None:
    ledger, settings, _ = happened
    records = running(settings, "replay")
    paid = dict(zip(records.population.names(), records.sites["revenue_micro"].tolist(), strict=True))
    assert paid == earned(ledger)
    assert records.sites["tokens_in"].sum() == sum(size_of(job)[0] for job in range(JOBS))
    assert records.classes["requests_served"].sum() == JOBS == records.classes["requests_wanted"].sum()
    assert records.sites["epochs_present"].tolist() == [2] * 3


def test_rates_that_nobody_told_come_out_of_what_was_paid(happened: tuple[PaperLedger, Settings, Path]) -> None:
    _, settings, _ = happened
    for key, rates in zip(SITES, RATES, strict=True):
        kind = settings.hardware[key.address.hex()]
        assert np.abs(np.array([kind.ask_in, kind.ask_out]) - rates).max() <= 100


def test_engines_meet_the_demand_of_a_trace_at_the_cheapest(happened: tuple[PaperLedger, Settings, Path]) -> None:
    ledger, settings, _ = happened
    real = sum(earned(ledger).values())
    for fidelity in ("fluid", "event"):
        records = running(settings, fidelity)
        assert records.classes["requests_served"].sum() == JOBS, fidelity
        least = sum(min(amount(*size_of(job), *rates) for rates in RATES) for job in range(JOBS))
        assert records.sites["revenue_micro"].sum() == pytest.approx(least, rel=0.02)
        assert records.sites["revenue_micro"].sum() < real


def test_events_of_one_site_are_the_ledgers_to_the_unit(happened: tuple[PaperLedger, Settings, Path]) -> None:
    """With equal allocation the ledgers are identical: each session is settled on a ledger of its own."""
    _, settings, folder = happened
    rows = (folder / "out" / "trace.csv").read_text().splitlines()
    first = SITES[0].address.hex()
    mine = [each for each in rows if first in each]
    (folder / "one.csv").write_text("\n".join([rows[0], *mine]) + "\n")
    trace = read_trace(folder / "one.csv")
    only = {first: settings.sites[first]}
    exact = dataclasses.replace(settings.hardware[first], ask_in=RATES[0][0], ask_out=RATES[0][1])
    demand = {name: each for name, each in settings.demand.items() if name in trace.classes}
    run = dataclasses.replace(settings.run, ledger=True, epoch_minutes=5)
    settings = dataclasses.replace(
        settings, trace=trace, sites=only, demand=demand, run=run, hardware={**settings.hardware, first: exact}
    )
    owed = [amount(*size_of(job), *RATES[0]) for job in range(0, JOBS, 3)]
    assert trace.paid.tolist() == owed
    for fidelity in ("replay", "event"):
        assert running(settings, fidelity).sites["revenue_micro"].tolist() == [sum(owed)]


def test_what_tokens_cost_is_met_by_an_overhead(happened: tuple[PaperLedger, Settings, Path], tmp_path: Path) -> None:
    """Energy is free here, so an ask is the overhead and the margin of a tenth."""
    ledger, _, folder = happened
    CliRunner().invoke(
        joule,
        ["sim", "trace", str(folder / "copy"), "--by-cost", "--out", str(tmp_path / "costs")],
        catch_exceptions=False,
    )
    arguments = ["calibrate", str(tmp_path / "costs" / "scenario.toml"), "--seeds", "1", "--json"]
    told = CliRunner().invoke(joule, ["sim", *arguments, "--out", str(tmp_path / "fit")], catch_exceptions=False)
    fitted = json.loads(told.output)["overhead"]
    price = sum(earned(ledger).values()) / sum(sum(size_of(job)) for job in range(JOBS))
    assert fitted["target"] == pytest.approx(price, abs=1e-6)
    assert fitted["value"] == pytest.approx(price / 1.1, rel=2e-4)


def test_a_receipt_tells_of_blocks_and_machines(tmp_path: Path) -> None:
    play = honest_play()
    ledger = play.agreed.ledger
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "job.json").write_text(dump_bundle(honest_bundle()))
    copy = written(ledger, tmp_path / "copy")
    alone = CliRunner().invoke(joule, ["sim", "trace", str(copy), "--out", str(tmp_path / "alone")])
    assert isinstance(alone.exception, ConfigurationError)
    assert "--receipts" in alone.exception.hint
    arguments = ["trace", str(copy), "--receipts", str(tmp_path / "receipts"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(joule, ["sim", *arguments, "--json"], catch_exceptions=False)
    found = json.loads(told.output)
    assert (found["sessions"], found["sites"], found["described"]) == (1, 3, 3)
    settings = next(iter(load_scenario(Path(found["scenario"])).runs.values()))
    records = running(settings, "replay")
    assert records.sites["revenue_micro"].sum() == sum(honest_bundle().pay.voucher.amounts)
    assert figures_of(running(settings, "fluid"))["market.unserved"] == 0


def test_a_log_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    ledger = trading(2)
    true = written(ledger, tmp_path / "true")
    assert read_log(true).entries == len(ledger.entries)
    last = ledger.entries[-1]
    ledger.entries[-1] = last.replace(burned=1)
    with pytest.raises(ConfigurationError, match="effects are not those"):
        read_log(written(ledger, tmp_path / "false"))
    ledger.entries[-1] = last
    other = written(ledger, tmp_path / "other")
    (other / "checkpoint").write_bytes(
        sign_checkpoint(Checkpoint(ledger.verifier.name, len(ledger.entries), bytes(32)), ledger.note_key)
    )
    with pytest.raises(ConfigurationError, match="do not have the root"):
        read_log(other)
    with pytest.raises(ConfigurationError, match="checkpoint cannot be read"):
        read_log(tmp_path)


ROW = {
    "session": "0",
    "at_s": "1.5",
    "class": "a",
    "tokens_in": "10",
    "tokens_out": "5",
    "site": "s",
    "used": "2",
    "held": "4",
    "paid_micro": "7",
}


def test_a_trace_says_what_its_rows_say(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"

    def read(*rows: dict[str, str]) -> Trace:
        lines = [",".join({**ROW, **each}.values()) for each in rows]
        path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
        return read_trace(path)

    found = read({}, {"site": "t", "paid_micro": "9"}, {"session": "1", "at_s": "0"})
    assert found.at_us.tolist() == [0, 1_500_000]
    assert found.paid.tolist() == [7, 7, 9]
    assert found.leg.tolist() == [0, 0, 1]
    assert read({"session": "5", "at_s": "0"}, {}, {"site": "t", "paid_micro": "9"}) == found
    for wrong in ({"at_s": "-1"}, {"at_s": "x"}, {"used": "5"}, {"used": "0"}, {"paid_micro": "-1"}, {"tokens_in": ""}):
        with pytest.raises(ConfigurationError, match="row 1"):
            read(wrong)
    with pytest.raises(ConfigurationError, match="contradict"):
        read({}, {"at_s": "3"})
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match="other columns"):
        read_trace(path)


def test_the_error_is_by_site() -> None:
    real = SiteTotals(("a", "b"), np.array([60, 40]), np.array([500_000, 100_000]))
    same = misfit("event", 1, real, real, 1.0)
    assert (same.revenue, same.moved, same.worst_revenue, same.use) == (0, 0, 0, 0)
    found = misfit("fluid", 1, SiteTotals(("a", "b"), np.array([90, 10]), np.array([520_000, 0])), real, 1.0)
    assert found.moved == pytest.approx(0.3)
    assert (found.worst_site, found.worst_revenue) == ("b", -0.6)
    assert found.use == pytest.approx(0.1)
