"""Writes a trace and the scenario that runs it: sites as their offers describe them, demand as it came."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path

from protocol.errors import ConfigurationError
from protocol.geography.jurisdictions import UNDECLARED, is_place
from protocol.units import MICRO
from simulator.replay.ledger_log import LoggedSession, PaidLog
from simulator.replay.machines import Machine, ServedSession
from simulator.replay.trace import COLUMNS
from simulator.store import write_whole

__all__ = ["Written", "write_trace"]

_HOUR_S = 3600
_UNKNOWN = Machine(
    model="",
    span=(0, 1),
    blocks=1,
    ask_in=0,
    ask_out=0,
    opening=0,
    prompt_us=10,
    position_us=100,
    sessions=1,
    place=UNDECLARED,
)
"""A machine that nobody has described: fast enough that it limits nothing, and free of energy."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a log."""

    scenario: str
    """The file."""
    sessions: int
    """In the trace."""
    sites: int
    hours: int
    unpaid: int
    """Opened, and never paid for anything: not in the trace."""
    unplaced: int
    """Of several legs whose blocks neither a receipt nor an offer tells, or of another model: not in the trace."""
    described: int
    """Sites whose machine a receipt or an offer describes; others are taken for fast ones."""
    begins_at: int
    """Unix seconds of hour 0."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """A session that goes into the trace."""

    at: int
    size: tuple[int, int]
    legs: tuple[tuple[bytes, int, int, int], ...]
    """Provider, blocks used, blocks held, micro-units."""


def write_trace(
    log: PaidLog,
    folder: Path,
    *,
    receipts: Mapping[bytes, ServedSession] | None = None,
    machines: Mapping[bytes, Machine] | None = None,
    model: str = "",
    by_cost: bool = False,
) -> Written:
    """Write trace.csv and scenario.toml.

    Args:
        receipts: by session id.
        machines: by address, as offered; what a receipt says of a machine goes before.
        model: the beginning of a model's root; needed where receipts and offers are of several.
        by_cost: asks follow from costs, and the file says what to calibrate them by, instead of being those observed.

    Raises:
        ConfigurationError: nothing to write, or several models and none was named.
        LocalError: the folder cannot be written.
    """
    receipts = {name: each for name, each in (receipts or {}).items() if each.model.startswith(model)}
    known = {name: each for name, each in (machines or {}).items() if each.model.startswith(model)}
    for served in receipts.values():
        known |= served.machines
    models = {each.model for each in known.values()}
    if len(models) > 1:
        raise ConfigurationError(
            f"receipts and offers are of {len(models)} models",
            hint="name one with --model: " + ", ".join(each[:12] for each in sorted(models)),
        )
    paid = [each for each in log.sessions if sum(each.paid) and each.tokens_in + each.tokens_out]
    jobs = [job for each in paid if (job := _job(each, receipts.get(each.identity), known)) is not None]
    if not jobs:
        raise ConfigurationError("no session of this log can be replayed", hint="give its receipts: --receipts DIR")
    begins = min(job.at for job in jobs) // _HOUR_S * _HOUR_S
    hours = max(job.at for job in jobs) // _HOUR_S - begins // _HOUR_S + 1
    sites = sorted({leg[0] for job in jobs for leg in job.legs} | set(known))
    write_whole(folder / "trace.csv", _table(jobs, begins).encode())
    text = _scenario(jobs, sites, known, begins, hours)
    if by_cost:
        text = _calibrated(text, jobs, log.verifier_key)
    write_whole(folder / "scenario.toml", text.encode())
    return Written(
        scenario=str(folder / "scenario.toml"),
        sessions=len(jobs),
        sites=len(sites),
        hours=hours,
        unpaid=len(log.sessions) - len(paid),
        unplaced=len(paid) - len(jobs),
        described=sum(site in known for site in sites),
        begins_at=begins,
    )


def _job(session: LoggedSession, receipt: ServedSession | None, known: Mapping[bytes, Machine]) -> _Job | None:
    """A session with its legs' blocks; None where these are not known."""
    paid = [(leg, session.providers[leg], some) for leg, some in enumerate(session.paid) if some]
    if receipt is not None:
        legs = [(name, receipt.legs[leg].used, receipt.legs[leg].held, some) for leg, name, some in paid]
        return _Job(session.opened_at, (receipt.tokens_in, receipt.tokens_out), tuple(legs))
    size = session.tokens_in, session.tokens_out
    if len(paid) == 1 and paid[0][1] not in known:
        return _Job(session.opened_at, size, ((paid[0][1], 1, 1, paid[0][2]),))
    machines = [known.get(name) for _, name, _ in paid]
    held = [0 if each is None else each.span[1] - each.span[0] for each in machines]
    if machines[0] is None or sum(held) != machines[0].blocks or not all(held):
        return None  # who ran which blocks is told by a receipt alone
    return _Job(
        session.opened_at, size, tuple((name, h, h, some) for (_, name, some), h in zip(paid, held, strict=True))
    )


def _class_of(size: tuple[int, int]) -> str:
    """Requests whose prompts, and whose answers, differ in size by less than four times are of one class."""
    least = [0 if not tokens else 1 << (tokens.bit_length() - 1) // 2 * 2 for tokens in size]
    return f"in{least[0]}-out{least[1]}"


def _table(jobs: Iterable[_Job], begins: int) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for at, job in enumerate(jobs):
        for provider, used, held, paid in job.legs:
            writer.writerow((at, job.at - begins, _class_of(job.size), *job.size, provider.hex(), used, held, paid))
    return file.getvalue()


def _scenario(jobs: list[_Job], sites: list[bytes], known: Mapping[bytes, Machine], begins: int, hours: int) -> str:
    blocks = max((known[site].blocks for site in sites if site in known), default=1)
    hour = begins // _HOUR_S % 24
    offset = hour if hour <= 14 else hour - 24
    lines = [
        "version = 2",
        'title = "What happened"',
        f'about = "What {len(jobs)} sessions did, and what they would have done."',
        "",
        "[run]",
        'trace = "trace.csv"',
        f"hours = {hours}",
        f"blocks = {blocks}",
        "",
        "[entry]",
        'rule = "none"',
    ]
    regions: dict[tuple[str, int, int, int], str] = {}
    for site in sites:
        machine = known.get(site, _UNKNOWN)
        place = machine.place if is_place(machine.place) else UNDECLARED
        key = place, machine.tariff, max(machine.pue, 1000), machine.carbon
        if key not in regions:
            alike = sum(each[0] == place for each in regions)
            regions[key] = place + (f"-{alike + 1}" if alike else "")
            lines += ["", f"[region.{_quoted(regions[key])}]", f'jurisdiction = "{place}"']
            lines += [f"energy_price = {_decimal(key[1])}", f"pue = {_decimal(key[2], 1000)}", "pue_spread = 0"]
            lines += [f"carbon = {key[3]}", f"utc_offset = {offset}"]
        asks = _asks(site, jobs) if site not in known else (machine.ask_in, machine.ask_out)
        lines += _site(site.hex(), regions[key], machine, asks, blocks)
    for name, sizes in sorted(_sizes(jobs).items()):
        lines += ["", f"[demand.{name}]"]
        lines += [f"tokens_in = {_mean(each[0] for each in sizes)}"]
        lines += [f"tokens_out = {max(1, _mean(each[1] for each in sizes))}"]
        lines += ["price_cap = 10000", f"utc_offset = {offset}"]
    return "\n".join(lines) + "\n"


def _site(name: str, region: str, machine: Machine, asks: tuple[int, int], blocks: int) -> list[str]:
    whole = machine.span == (0, blocks) or machine is _UNKNOWN
    return [
        "",
        f"[hardware.{name}]",
        "share = 0",
        f"tokens_in_per_s = {max(1, machine.sessions * MICRO // machine.prompt_us)}",
        f"tokens_out_per_s = {max(1, machine.sessions * MICRO // machine.position_us)}",
        f"slots = {min(machine.sessions, 10_000)}",
        f"joules_in = {_decimal(machine.millijoules[0], 1000)}",
        f"joules_out = {_decimal(machine.millijoules[1], 1000)}",
        f"ask_in = {_decimal(max(1, asks[0]))}",
        f"ask_out = {_decimal(max(1, asks[1]))}",
        f"opening = {_decimal(min(machine.opening, 1000 * MICRO))}",
        *([] if whole else [f"blocks = [{machine.span[0]}, {machine.span[1]}]"]),
        "",
        f"[site.{name}]",
        f"region = {_quoted(region)}",
        f'hardware = "{name}"',
    ]


def _calibrated(text: str, jobs: Iterable[_Job], verifier_key: str) -> str:
    """The scenario without asks, and with the overhead to be found at which tokens cost what they did."""
    kept = [line for line in text.splitlines() if not line.startswith(("ask_in = ", "ask_out = "))]
    paid, tokens = 0, 0
    for job in jobs:
        paid, tokens = paid + sum(leg[3] for leg in job.legs), tokens + sum(job.size)
    price = paid * MICRO // tokens
    kept += ["", "[calibrate.overhead]", 'key = "market.overhead"', "low = 0"]
    kept += [f"high = {_decimal(min(2 * price, 1000 * MICRO))}", 'figure = "market.price"']
    kept += [f"target = {_decimal(price)}", f"source = {_quoted('the ledger ' + verifier_key)}"]
    return "\n".join(kept) + "\n"


def _asks(site: bytes, jobs: Iterable[_Job]) -> tuple[int, int]:
    """Rates for prompt and generated tokens by which a site's payments come out with least squares, none below 0."""
    mine = [(job.size, leg[3] * MICRO) for job in jobs for leg in job.legs if leg[0] == site]
    xx = sum(size[0] ** 2 for size, _ in mine)
    yy = sum(size[1] ** 2 for size, _ in mine)
    xy = sum(size[0] * size[1] for size, _ in mine)
    xp = sum(size[0] * paid for size, paid in mine)
    yp = sum(size[1] * paid for size, paid in mine)
    both = xx * yy - xy * xy
    if both:
        found = (xp * yy - yp * xy) // both, (yp * xx - xp * xy) // both
        if min(found) >= 0:
            return found
    one_price = sum(paid for _, paid in mine) // max(1, sum(sum(size) for size, _ in mine))
    return one_price, one_price


def _sizes(jobs: Iterable[_Job]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for job in jobs:
        found.setdefault(_class_of(job.size), []).append(job.size)
    return found


def _mean(values: Iterable[int]) -> int:
    counted = Counter(values)
    return round(sum(value * times for value, times in counted.items()) / counted.total())


def _decimal(value: int, scale: int = MICRO) -> str:
    return f"{Decimal(value) / scale:f}"


def _quoted(text: str) -> str:
    return json.dumps(text)
