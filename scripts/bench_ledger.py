"""The embedded ledger at work, against its targets: commits, proofs, start-up after a crash, and replay.

    PYTHONPATH=.:tests/support python scripts/bench_ledger.py
    PYTHONPATH=.:tests/support python scripts/bench_ledger.py --entries 1000000 --keep /var/tmp/log

Operations come as a market makes them: a route of two legs is opened, paid by a voucher, and given back, in three
operations with six signatures; every signature is checked. Sides take turns. Figures for a million entries follow
in proportion from the log that was made; `--entries 1000000` makes one. `--keep` leaves it for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from ledger_bench import commits, proofs, replays
from ledger_bench.load import MIXES
from ledger_bench.logs import build
from postgres_server import running_postgres
from sqlalchemy.engine import URL

from node.ledger.schema import database_url, sqlite_url

ENTRIES = 20_000
ROUNDS = 3
GROUPS = 10
"""Of a hundred operations, in a round."""
PROOFS = 5_000
MILLION = 10**6


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result."""

    what: str
    found: float
    target: float
    at_most: bool = False
    unit: str = ""
    beside: str = ""

    @property
    def met(self) -> bool:
        """Whether it is as it should be."""
        return self.found <= self.target if self.at_most else self.found >= self.target

    def __str__(self) -> str:
        wanted = f"{'<=' if self.at_most else '>='} {self.target:g}{self.unit}"
        figure = f"{self.found:,.2f}" if self.found < 100 else f"{self.found:,.0f}"
        line = f"{self.what:<58}{figure + self.unit:>12}   {wanted:<12}{'met' if self.met else 'NOT MET'}"
        return line + (f"\n    {self.beside}" if self.beside else "")


def commit_row(name: str, found: commits.Commits, target: float) -> Row:
    """How much a shared commit gains, and where the time of an operation goes."""
    grouped = found.grouped if found.grouped.rate() > found.alone.rate() else found.alone
    all_us, commit_us = 1e6 / grouped.rate(), 1e6 * statistics.median(grouped.commit_s)
    single_us = 1e6 * statistics.median(found.single.commit_s)
    beside = (
        f"{found.single.rate():,.0f} a second one by one ({single_us:,.0f} us of each in its commit); in hundreds "
        f"{found.alone.rate():,.0f} with one process, {found.grouped.rate():,.0f} with two\n"
        f"    of {all_us:,.0f} us for an operation {commit_us:,.0f} are its share of a commit; signatures are "
        f"{1e6 * found.signatures_s:,.0f} us of processor time, on whichever core"
    )
    return Row(f"operations a second on {name}, in hundreds to one by one", grouped.rate() / found.single.rate(),
               target, unit="x", beside=beside)  # fmt: skip


def proof_rows(found: proofs.Proofs) -> Iterator[Row]:
    """Proofs, memory, start-up."""
    per_million = MILLION / found.entries
    yield Row(
        f"proofs made and verified a second, of {found.entries:,} entries", found.proven, 10_000,
        beside=f"{found.from_tiles:,.0f} where the tiles are read from the database for each",
    )  # fmt: skip
    yield Row("memory for the tree of a million entries", found.tree_mb * per_million, 100, at_most=True, unit=" MB")
    grown_s = max(0.0, found.started_s - found.again_s) * per_million
    yield Row(
        "start-up after a crash, for a million entries", found.again_s + grown_s, 5, at_most=True, unit=" s",
        beside=f"{found.started_s:.2f} s for {found.entries:,} entries, {found.again_s:.2f} s for one",
    )  # fmt: skip


def replay_rows(mix: str, found: replays.Replays) -> Iterator[Row]:
    """Whether it is linear, and what a second process gains."""
    clock = {count: found.entries / statistics.median(seconds) for count, seconds in found.clock_s.items()}
    yield Row(
        f"replay of {found.entries:,} {mix}: two processes to one", found.ratio(found.clock_s), 1.7, unit="x",
        beside=f"{clock[1]:,.0f} entries a second with one, {clock[2]:,.0f} with two; the busier process: "
        f"{found.ratio(found.busiest_s):.2f}x less processor time",
    )  # fmt: skip
    halves = statistics.median(found.halves)
    yield Row(f"replay of {mix}: its second half to its first, for an entry", halves, 1.15, at_most=True, unit="x")


@contextmanager
def log_in(kept: Path | None) -> Iterator[Path]:
    """A folder for a log."""
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def measured_commits(url: URL, rounds: int) -> commits.Commits:
    """On one database."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(commits.measure(url, Path(folder), MIXES[0], 2, rounds, GROUPS))


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """All of them, as they are found."""
    with tempfile.TemporaryDirectory() as folder:
        yield commit_row("SQLite", measured_commits(sqlite_url(Path(folder) / "l.sqlite3"), arguments.rounds), 10)
    try:
        with running_postgres() as server:
            url = database_url(server.empty_database())
            yield commit_row("PostgreSQL", measured_commits(url, arguments.rounds), 8)
    except pytest.skip.Exception as missing:
        print(missing)
    for mix in MIXES:
        with log_in(None if arguments.keep is None else arguments.keep / mix) as folder:
            build(folder, mix, arguments.entries)
            if mix == MIXES[0]:
                yield from proof_rows(asyncio.run(proofs.measure(folder, PROOFS)))
            yield from replay_rows(mix, asyncio.run(replays.measure(folder, arguments.rounds)))


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--entries", type=int, default=ENTRIES, help=f"of the log that is made ({ENTRIES})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of every comparison ({ROUNDS})")
    parser.add_argument("--keep", type=Path, help="a folder for the log, which stays and is used again")
    parser.add_argument("--json", action="store_true", help="print an object for each row")
    arguments = parser.parse_args()
    for row in rows(arguments):
        print(json.dumps({**asdict(row), "met": row.met}) if arguments.json else row, flush=True)


if __name__ == "__main__":
    main()
