"""`joule earnings`: a node's books as tables, CSV and JSON; what nobody knows is said to be unknown."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.app.settlement.earnings import open_earnings
from node.earnings import StoredJournal, Work
from node.events import unheard
from node.keystore import LIGHT, Keystore, generate
from protocol.identity.ids import checksum_address
from protocol.reputation.standing import DAY_S

Joule = Callable[..., Any]
ONE, TWO = b"a" * 20, b"b" * 20
DAY = 20_000 * DAY_S
"""2024-10-04, in UTC."""


def serve(
    journal: StoredJournal, number: int, *, client: bytes = ONE, millijoules: int | None = 36_000_000, earned: int = 900
) -> None:
    session = bytes([number]) * 32
    journal.begun(session, client=client, leg=0, blocks="0:6")
    journal.ended(
        session, outcome="served", tokens_in=10, tokens_out=20, rows=29, millijoules=millijoules, source="rapl",
        earned=earned,
    )  # fmt: skip
    journal.paid(session, amount=earned, fee=1, entry=str(number))
    journal.closed(session)


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two days of two clients, a job whose energy nobody measured on the second."""
    key = generate()
    Keystore(tmp_path / "keys").create("berlin", key, "correct horse", work_factor=LIGHT)
    now = [DAY + 5]
    monkeypatch.setattr("node.app.settlement.earnings.clock", lambda: now[0])

    async def keep() -> None:
        async with open_earnings(tmp_path, key.address, unheard) as journal:
            journal.serve(
                Work(model=b"m" * 32, model_name="llama\x1b[2J", blocks="0:6", power=lambda: (100_000, 1_500))
            )
            serve(journal, 1)
            serve(journal, 2, client=TWO)
            journal.payout_sent(after=1, amount=1_000_000, fee=3, to="cold")
            journal.payout_taken(after=1, entry="9")
            await journal.written()
            now[0] += DAY_S
            serve(journal, 3, client=TWO, millijoules=None)
            journal.payout_sent(after=2, amount=500_000, fee=3, to="cold")

    asyncio.run(keep())
    return tmp_path


def test_days_are_summed_up_and_unknown_energy_is_unknown(joule: Joule, books: Path) -> None:
    outcome = joule("earnings", "--key", "berlin", "--data-dir", str(books), "--json")
    first, second = outcome.json["rows"]
    assert (first["key"], second["key"]) == ("2024-10-04", "2024-10-05")
    # 72 kJ at a PUE of 1.5 are 0.03 kWh: 3,000 millionths of a dollar.
    assert (first["jobs"], first["gross"], first["fees"], first["power_cost"]) == (2, 1_800, 5, 3_000)
    assert first["net"] == 1_800 - 5 - 3_000
    assert (second["millijoules"], second["power_cost"], second["net"], second["unmeasured"]) == (None, None, None, 1)
    total = outcome.json["total"]
    assert (total["gross"], total["measured_power_cost"], total["power_cost"], total["net"]) == (
        2_700,
        3_000,
        None,
        None,
    )
    assert [each["entry"] for each in outcome.json["payouts"]] == ["9", None]
    table = joule("earnings", "--key", "berlin", "--data-dir", str(books)).out
    lines = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    assert lines["2024-10-05"].split()[-3:] == ["unknown", "unknown", "unknown"]
    assert lines["2024-10-04"].split()[-3:] == ["J", "0.003", "-0.001205"]
    assert lines["all"].split()[-3:] == ["over", "0.003", "unknown"]
    assert "$1.00 sent out of the ledger" in table
    assert "gave no answer" in table


def test_models_and_clients_are_told_apart(joule: Joule, books: Path) -> None:
    by_client = joule("earnings", "--key", "berlin", "--data-dir", str(books), "--by", "client", "--json").json
    gross = {row["key"]: row["gross"] for row in by_client["rows"]}
    assert gross == {checksum_address(TWO): 1_800, checksum_address(ONE): 900, "payouts": 0}
    by_model = joule("earnings", "--key", "berlin", "--data-dir", str(books), "--by", "model")
    assert b"m".hex() * 6 in by_model.out
    assert "\x1b" not in by_model.out


def test_days_and_prices_can_be_chosen(joule: Joule, books: Path) -> None:
    base = ("earnings", "--key", "berlin", "--data-dir", str(books))
    one = joule(*base, "--until", "2024-10-04", "--energy-price", "0.2", "--json").json
    assert [row["key"] for row in one["rows"]] == ["2024-10-04"]
    assert (one["total"]["power_cost"], one["until"], one["since"]) == (6_000, "2024-10-04", None)
    other = joule(*base, "--since", "2024-10-05", "--until", "2024-10-05", "--json").json
    assert [row["key"] for row in other["rows"]] == ["2024-10-05"]
    assert joule(*base, "--since", "2024-10-06").out == "no jobs in the journal\n"
    turned, twice = ("--since", "2024-10-05", "--until", "2024-10-04"), ("--csv", "--json")
    for wrong in (
        turned,
        twice,
        ("--since", "5 Oct"),
        ("--until", "2024-13-01"),
        ("--energy-price", "free"),
        ("--by", "week"),
    ):
        assert joule(*base, *wrong).status in (1, 2)


def test_csv_is_for_spreadsheets(joule: Joule, books: Path) -> None:
    base = ("earnings", "--key", "berlin", "--data-dir", str(books), "--csv")
    first, second, total = csv.DictReader(io.StringIO(joule(*base).out))
    assert (first["gross"], first["net"], second["net"], total["key"]) == ("1800", "-1205", "", "all")
    jobs = list(csv.DictReader(io.StringIO(joule(*base, "--jobs").out)))
    assert [job["millijoules"] for job in jobs] == ["36000000", "36000000", ""]
    assert {job["client"] for job in jobs} == {checksum_address(ONE), checksum_address(TWO)}
    assert all("\x1b" not in job["model_name"] for job in jobs)


def test_a_node_without_a_journal_has_no_jobs(joule: Joule, books: Path) -> None:
    Keystore(books / "keys").create("new", generate(), "correct horse", work_factor=LIGHT)
    outcome = joule("earnings", "--key", "new", "--data-dir", str(books), "--json")
    assert (outcome.json["rows"], outcome.json["total"]["jobs"]) == ([], 0)
    assert joule("earnings", "--key", "nobody", "--data-dir", str(books)).status == 1
