"""Counters that several nodes of a machine read: what each has used of them, kept in a file for each counter.

The files lie in the runtime folder of the user, which is gone with the next start of the machine. Where they cannot be
written the node counts for itself alone, and says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from node.energy.reading import Gauge, Reading
from protocol.energy.energy_shares import Accuracy
from protocol.energy.shared_counter import CounterBook, Party, note
from protocol.errors import MeterError
from protocol.market.offer import Provenance

__all__ = ["MeterFolder", "SharedMeter", "meters_folder", "read_book"]

_MOST_BYTES = 1 << 20
_LOCK_TRIES, _LOCK_WAIT_S = 100, 0.02
"""Who holds a lock needs a millisecond."""
_LEAST_UW = 500_000
"""A machine that computes draws more than half a watt."""


def meters_folder() -> Path:
    """Where nodes of this user keep them: one folder in one that others cannot move it in."""
    user, said = os.getuid(), os.environ.get("XDG_RUNTIME_DIR", "")
    for base in (Path(said), Path(f"/run/user/{user}")):
        if base.is_absolute() and base.is_dir():
            return base / "joulemesh-meters"
    return Path(tempfile.gettempdir()) / f"joulemesh-meters-{user}"


class MeterFolder:
    """The files of all counters.

    Args:
        folder: None for a node that shares with nobody.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._alone: dict[str, CounterBook] = {}
        self.trouble: str | None = None
        """Why nothing can be shared; None where it can, as far as is known."""
        if folder is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                about = folder.lstat()
                if about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode) or about.st_mode & 0o022:
                    self.trouble = f"{folder} is not this user's own folder"
            except OSError as error:
                self.trouble = f"{folder} cannot be written: {error.strerror}"

    def change(self, name: str, change: Callable[[CounterBook | None], CounterBook]) -> CounterBook:
        """Replace the book of a counter by what `change` makes of it, while nobody else does."""
        if self._folder is None or self.trouble is not None:
            self._alone[name] = change(self._alone.get(name))
            return self._alone[name]
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
        try:
            with _locked(path.with_suffix(".lock")):
                book = change(read_book(path))
                draft = path.with_suffix(".new")
                draft.write_text(json.dumps({"counter": name, **asdict(book)}))
                draft.replace(path)
        except OSError as error:
            self.trouble = f"{path} cannot be written: {error.strerror}"
            return self.change(name, change)
        return book


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Raises OSError, and MeterError where another process holds it and does not go on."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_WAIT_S)
        else:
            raise MeterError(
                f"another process holds {path} and does not go on", hint="see which: a node that was stopped, perhaps"
            )
        yield
    finally:
        os.close(descriptor)


def read_book(path: Path) -> CounterBook | None:
    """None where there is none, or none that anybody understands: then counting begins anew."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
        parties = {str(name): Party(**_whole(each)) for name, each in said.pop("parties").items()}
        del said["counter"]
        return CounterBook(**_whole(said), parties=parties)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _whole(fields: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(value, int) for value in fields.values()):
        raise ValueError("a book of counters has whole numbers")
    return fields


class SharedMeter:
    """This node's part of some counters: of what each has counted, by the time that each node has used meanwhile.

    Args:
        folder: where the nodes of the machine meet.
        who: this node; unique on the machine, and its process id up to the first dash.
        work_ns: processor or device time that it has used in all.
        most_uw: microwatts that the machine cannot exceed (docs/spec/market.md, clause M14).
        clock_us: the same for all processes of the machine.
    """

    def __init__(
        self,
        source: Provenance,
        gauges: Sequence[Gauge],
        *,
        folder: MeterFolder,
        who: str,
        work_ns: Callable[[], int],
        most_uw: int,
        every_s: float = 1.0,
        window_s: float = 10.0,
        settle_s: float = 5.0,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        if not gauges:
            raise ValueError("the sum of no counters is not a measurement")
        self.source = source
        self.every_s = every_s
        self.window_s = window_s
        self.settle_s = settle_s
        self.folder = folder
        self._gauges = tuple(gauges)
        self._who = who
        self._work_ns = work_ns
        self._most_uw = most_uw
        self._clock_us = clock_us
        self._origins: dict[str, tuple[int, int]] = {}
        """Of counters of this process's own: what they showed last, and what is added to it in the book."""

    @property
    def name(self) -> str:
        """Of all counters."""
        return " and ".join(each.name for each in self._gauges)

    @property
    def accuracy(self) -> Accuracy:
        """Of the sum: the least accurate counter's share, and all steps."""
        all_of = [each.accuracy for each in self._gauges]
        known = [each.ppm for each in all_of if each.ppm is not None]
        steps = [each.step_uj for each in all_of if each.step_uj is not None]
        return Accuracy(ppm=max(known) if len(known) == len(all_of) else None, step_uj=sum(steps) if steps else None)

    def read(self) -> Reading:
        """Its part now. Raises MeterError."""
        total, epoch, sharers = 0, [], 1
        for gauge in self._gauges:
            book = self._note(gauge, gauge.value())
            mine = book.parties[self._who]
            total += mine.uj
            epoch += [book.gaps, mine.joined_us]
            sharers = max(sharers, len(book.parties))
        return Reading(total, tuple(epoch), sharers)

    def _note(self, gauge: Gauge, value: int) -> CounterBook:
        step_uj = gauge.accuracy.step_uj or 0
        if gauge.is_power:
            self._hold_possible(gauge, value)
        before: list[CounterBook | None] = []

        def change(book: CounterBook | None) -> CounterBook:
            book = _of_the_living(book)
            before[:] = [book]
            return note(
                book,
                at_us=self._clock_us(),
                value=self._in_book(gauge, value, book) if gauge.is_own else value,
                is_power=gauge.is_power,
                who=self._who,
                work_ns=self._work_ns(),
                most_uw=self._most_uw,
                step_uj=step_uj,
            )

        book = self.folder.change(gauge.name, change)
        if (old := before[0]) is not None and book.gaps > old.gaps and not gauge.is_power and book.value > old.value:
            risen, seconds = (book.value - old.value) / 1e6, (book.at_us - old.at_us) / 1e6
            raise MeterError(
                f"{gauge.name} has risen by {risen:g} J in {seconds:.1f} s, more than this machine can draw",
                hint="look at meter_unit",
            )
        return book

    def _in_book(self, gauge: Gauge, value: int, book: CounterBook | None) -> int:
        """What a counter of this process's own is in the book: it goes on from where the book was when it joined.

        Whoever joined earlier may be ahead by what was used just then, and is right.
        """
        reached = 0 if book is None else book.value
        last, origin = self._origins.get(gauge.name, (value, reached - value))
        if value < last or book is None or self._who not in book.parties:
            origin = reached - value
        self._origins[gauge.name] = (value, origin)
        return max(reached, value + origin)

    def _hold_possible(self, gauge: Gauge, uw: int) -> None:
        said = f"{gauge.name} says {uw / 1e6:g} W"
        if uw > self._most_uw:
            most = f"this machine cannot draw more than {self._most_uw / 1e6:g} W"
            raise MeterError(f"{said}, and {most}", hint="look at meter_unit")
        if uw < _LEAST_UW:
            raise MeterError(
                f"{said}, less than any machine that computes", hint="look at meter_unit, and at what is plugged in"
            )


def _of_the_living(book: CounterBook | None) -> CounterBook | None:
    """Without the nodes that have ended: nobody waits for what they have used."""
    if book is None:
        return None
    return replace(book, parties={who: each for who, each in book.parties.items() if _is_alive(who)})


def _is_alive(who: str) -> bool:
    process = who.partition("-")[0]
    if not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
