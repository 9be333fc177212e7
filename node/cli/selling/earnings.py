"""`joule earnings`: what a node's jobs brought and cost."""

from __future__ import annotations

import csv
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import click

from node.cli.terminal.options import configured, examples, json_option, key_file
from node.cli.terminal.output import money, print_json, print_table
from node.config import ClientConfig
from node.json_values import plain
from node.screen import screen_line
from node.settings.kinds import Fixed
from protocol.errors import ConfigurationError, KeystoreError
from protocol.reputation.standing import DAY_S
from protocol.serving.earnings import Books, Grouping, JobRecord, PayoutRecord, Sum, books_of

_ENERGY_PRICE = Fixed("$ per kWh", 6, "0", "25")
_LAST_DAY = 9_999_999
"""Days since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """What a node's jobs came to."""

    address: bytes
    """That was paid."""
    by: Grouping
    """What they are summed up by."""
    since: str | None
    """First day, in UTC; null where all that is kept was asked for."""
    until: str | None
    """Last day; null where all that is kept was asked for."""
    whole_from: int
    """Unix seconds before which jobs are no longer in the journal; 0 where all of them are."""
    rows: tuple[Sum, ...]
    """One for each group."""
    total: Sum
    """All of them together; its power cost is rounded once, so it may be lower than that of the rows together."""
    payouts: tuple[PayoutRecord, ...]
    """What was sent out of the ledger in these days."""


def _parse_day(_ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Days since 1970."""
    if text is None:
        return None
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        raise ConfigurationError(
            f"--{parameter.name}: {text!r} is not a day", hint="write it like 2026-01-31"
        ) from None


def _parse_price(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else _ENERGY_PRICE.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"--energy-price: {error}", hint="write it like 0.31") from None


@click.command(
    epilog=examples(
        "joule earnings --key berlin",
        "joule earnings --by model --since 2026-01-01 --until 2026-01-31 --csv",
        "joule earnings --jobs --json",
    )
)
@configured(ClientConfig, only=("key", "data_dir", "log_level"))
@click.option("--by", type=click.Choice([str(each) for each in Grouping]), default="day", help="What to sum up by.")
@click.option("--since", metavar="DAY", callback=_parse_day, help="First day, in UTC, such as 2026-01-01.")
@click.option("--until", metavar="DAY", callback=_parse_day, help="Last day, in UTC.")
@click.option("--jobs", "each_job", is_flag=True, help="Each job by itself, in the place of sums.")
@click.option(
    "--energy-price",
    metavar="NUMBER",
    callback=_parse_price,
    help="Count all energy at so many $ per kWh, not at what was set when each job ended.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for spreadsheets: amounts in millionths of a $.")
@json_option
def earnings(
    config: ClientConfig,
    by: str,
    since: int | None,
    until: int | None,
    each_job: bool,
    energy_price: int | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show what the jobs of the node with this key brought, and what the ledger and power cost.

    From the journal that the node keeps in its data directory, also while it runs. Energy that was not measured is
    unknown, and then so is what is left; it is never counted as nothing.
    """
    from node.app.settlement.earnings import read_earnings

    whose = key_file(config).address
    if whose is None:
        raise KeystoreError(f"the key file {config.key} does not name its address", hint="import it: joule key import")
    if as_csv and as_json:
        raise ConfigurationError("--csv and --json are two forms of one answer", hint="leave one of them out")
    first, last = 0 if since is None else since, _LAST_DAY if until is None else until
    if last < first:
        raise ConfigurationError("--since is a day after --until", hint="name the first day before the last one")
    kept = read_earnings(config.data_dir, whose, first * DAY_S, (last + 1) * DAY_S)
    if each_job:
        _print_jobs(kept.jobs, as_csv, as_json)
        return
    books = books_of(kept.jobs, kept.payouts, by=Grouping(by), day_name=_day, energy_price=energy_price)
    if as_csv:
        _print_csv(Sum, [*books.rows, books.total])
    elif as_json:
        print_json(
            Earnings(
                address=whose,
                by=Grouping(by),
                since=None if since is None else _day(since),
                until=None if until is None else _day(until),
                whole_from=kept.whole_from,
                rows=books.rows,
                total=books.total,
                payouts=kept.payouts,
            )
        )
    else:
        _print_books(books, by, kept.payouts, kept.whole_from)


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


def _print_books(books: Books, by: str, payouts: Sequence[PayoutRecord], whole_from: int) -> None:
    if not books.rows:
        click.echo("no jobs in the journal")
        return
    columns = (by, "jobs", "tokens in", "tokens out", "gross $", "to settle $", "fees $", "energy", "power $", "net $")
    rows = [_row(each) for each in books.rows]
    if len(rows) > 1:
        rows.append(_row(books.total))
    print_table(columns, rows)
    sent = [each for each in payouts if each.entry is not None]
    if sent:
        click.echo(f"${money(sum(each.amount for each in sent))} sent out of the ledger, in {len(sent)} payouts")
    for each in payouts:
        if each.entry is None:
            click.echo(
                f"${money(each.amount)} were to be sent at {_moment(each.at)}, and the ledger gave no answer: its log "
                "says whether they were"
            )
    if whole_from:
        click.echo(f"jobs before {_day(whole_from // DAY_S)} are no longer in the journal")


def _row(of: Sum) -> tuple[str, ...]:
    some = "over " if of.unmeasured else ""
    energy = "unknown" if of.millijoules is None else f"{some}{of.millijoules / 1000:.1f} J"
    power = "unknown" if of.millijoules is None else f"{some}{money(of.measured_power_cost)}"
    return (
        of.key,
        str(of.jobs),
        str(of.tokens_in),
        str(of.tokens_out),
        money(of.gross),
        money(of.outstanding),
        money(of.fees),
        energy,
        power,
        "unknown" if of.net is None else money(of.net),
    )


def _print_jobs(jobs: Sequence[JobRecord], as_csv: bool, as_json: bool) -> None:
    if as_csv:
        _print_csv(JobRecord, jobs)
    elif as_json:
        print_json(jobs)
    elif jobs:
        columns = ("begun", "session", "client", "outcome", "tokens in", "tokens out", "energy", "earned $", "paid $",
                   "fees $", "entry")  # fmt: skip
        print_table(columns, [_job_row(each) for each in jobs])
    else:
        click.echo("no jobs in the journal")


def _job_row(job: JobRecord) -> tuple[str, ...]:
    return (
        _moment(job.begun_at),
        job.session.hex()[:12],
        plain(job.client)[:10],
        job.outcome,
        str(job.tokens_in),
        str(job.tokens_out),
        "unknown" if job.millijoules is None else f"{job.millijoules / 1000:.1f} J ({job.source})",
        money(job.earned),
        money(job.paid),
        money(job.fees),
        job.entry or "",
    )


def _moment(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _print_csv(cls: type[Any], values: Sequence[Any]) -> None:
    """A line for each: its fields as JSON has them, empty where that is null."""
    names = [each.name for each in dataclasses.fields(cls)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for value in values:
        fields = plain(value)
        writer.writerow(["" if fields[name] is None else screen_line(str(fields[name])) for name in names])
