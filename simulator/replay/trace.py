"""A trace: requests that were really asked for, when, how large, who served them, and what each of them was paid.

A CSV file with a row for each site that served a session. Rows of one session follow each other and agree in what they
say of it; all times count from hour 0 of the scenario.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.exact import Ints
from simulator.timeline import Timeline

__all__ = ["COLUMNS", "Trace", "arrivals_an_hour", "read_trace"]

COLUMNS = ("session", "at_s", "class", "tokens_in", "tokens_out", "site", "used", "held", "paid_micro")
MAX_ROWS = 1_000_000
MAX_BYTES = 256 << 20
_MOST = {"session": 2**62, "tokens_in": 10**6, "tokens_out": 10**6, "used": 1000, "held": 1000, "paid_micro": 2**50}
_MOST_S = 8760 * 5 * 3600


class Trace:
    """Arrays by session (S) and by leg (L); equal and hashed by what they say.

    Attributes:
        classes, sites: names; other arrays index into them.
        at_us: (S,) microseconds from hour 0 to the arrival, never falling.
        of_class, tokens_in, tokens_out: (S,)
        session: (L,) index of the session.
        leg: (L,) 0 for its first.
        site, used, held, paid: (L,) who served, blocks used of those held, micro-units.
    """

    __slots__ = (
        "at_us",
        "classes",
        "digest",
        "held",
        "leg",
        "of_class",
        "paid",
        "session",
        "site",
        "sites",
        "tokens_in",
        "tokens_out",
        "used",
    )

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes rows with the columns of the file, numbers as whole numbers and `at_us` instead of `at_s`."""
        sessions: list[tuple[int, str, int, int]] = []
        legs: list[tuple[int, int, str, int, int, int]] = []
        last: Any = None
        for row in rows:
            said = row["at_us"], row["class"], row["tokens_in"], row["tokens_out"]
            if row["session"] != last:
                last = row["session"]
                sessions.append(said)
                legs.append((len(sessions) - 1, 0, row["site"], row["used"], row["held"], row["paid_micro"]))
            else:
                before = legs[-1][1]
                legs.append((len(sessions) - 1, before + 1, row["site"], row["used"], row["held"], row["paid_micro"]))
            if sessions[-1] != said:
                raise ConfigurationError(f"session {last} has rows that contradict each other")
        order = sorted(range(len(sessions)), key=lambda each: sessions[each])
        place = {each: at for at, each in enumerate(order)}
        sessions = [sessions[each] for each in order]
        legs = sorted((place[leg[0]], *leg[1:]) for leg in legs)
        self.classes = tuple(sorted({each[1] for each in sessions}))
        self.sites = tuple(sorted({each[2] for each in legs}))
        known, named = ({name: at for at, name in enumerate(names)} for names in (self.classes, self.sites))
        self.at_us, self.tokens_in = _ints(each[0] for each in sessions), _ints(each[2] for each in sessions)
        self.tokens_out = _ints(each[3] for each in sessions)
        self.of_class, self.site = _ints(known[each[1]] for each in sessions), _ints(named[each[2]] for each in legs)
        self.session, self.leg = _ints(each[0] for each in legs), _ints(each[1] for each in legs)
        self.used, self.held = _ints(each[3] for each in legs), _ints(each[4] for each in legs)
        self.paid = _ints(each[5] for each in legs)
        content = hashlib.sha256(repr((self.classes, self.sites)).encode())
        for name in self.__slots__:
            if name not in ("classes", "sites", "digest"):
                content.update(np.ascontiguousarray(getattr(self, name), "<i8").tobytes())
        self.digest = content.hexdigest()

    def __len__(self) -> int:
        return len(self.at_us)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def read_trace(path: Path) -> Trace:
    """The trace in a file.

    Raises:
        ConfigurationError: no such file or column, or a row that says what no session can.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"run.trace: {path.name} is larger than {MAX_BYTES >> 20} MiB")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ConfigurationError(f"run.trace: {path.name} has other columns", hint=",".join(COLUMNS))
            rows = [_row(row, at) for row, at in zip(reader, range(1, MAX_ROWS + 2), strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(
            f"run.trace: cannot read {path.name}: {error}", hint="its path is relative to the scenario's"
        ) from error
    if not 1 <= len(rows) <= MAX_ROWS:
        raise ConfigurationError(f"run.trace has {len(rows)} rows", hint=f"from 1 to {MAX_ROWS:,}")
    return Trace(rows)


def arrivals_an_hour(trace: Trace, name: str, timeline: Timeline) -> Ints:
    """(T,) requests of a class, at the rate of each epoch."""
    if name not in trace.classes:
        return np.zeros(timeline.epochs, dtype=np.int64)
    mine = trace.at_us[trace.of_class == trace.classes.index(name)] // timeline.epoch_us
    return np.asarray(np.bincount(mine[mine < timeline.epochs], minlength=timeline.epochs) * timeline.per_hour)


def _row(row: dict[str, str], at: int) -> dict[str, Any]:
    found: dict[str, Any] = {"class": row["class"], "site": row["site"]}
    try:
        if None in row.values() or None in row:
            raise ValueError("another number of values")
        seconds = Decimal(row["at_s"])
        if not 0 <= seconds < _MOST_S:
            raise ValueError(f"at_s is {seconds}")
        found["at_us"] = int((seconds * MICRO).to_integral_value())
        for key, most in _MOST.items():
            found[key] = int(row[key])
            if not 0 <= found[key] <= most:
                raise ValueError(f"{key} is {found[key]}")
        if not 1 <= found["used"] <= found["held"] or not found["tokens_in"] + found["tokens_out"]:
            raise ValueError("it used no block, or more than it holds, or has no token")
    except (ValueError, InvalidOperation) as error:
        raise ConfigurationError(f"run.trace, row {at}: {error}", hint=f"columns: {','.join(COLUMNS)}") from error
    return found


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)
