"""What a node told that goes wrong and was not mended since: meters, feeds, settings, disks, and work held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from node.app.diagnosis.activity import Told
from node.app.diagnosis.finding import Finding
from node.events import (
    DiskRefused,
    EnergyNotKept,
    EnergyPriceChanged,
    FeedNotRead,
    FeedRead,
    JournalNotKept,
    MeterFailed,
    MeterNotShared,
    MeterReadAgain,
    MeterShared,
    PeersNotKept,
    RestartNeeded,
    SettingsChanged,
    SettingsRefused,
    SignalNotRead,
    TariffRead,
    TariffRefused,
    WorkHeldBack,
    WorkResumed,
)

__all__ = ["held_back", "last_of", "troubles_of"]

_MENDED: Mapping[str, tuple[str, str, str]] = {
    MeterFailed.name: (
        "meter",
        MeterReadAgain.name,
        "see that the meter can be reached",
    ),
    TariffRefused.name: ("tariff", TariffRead.name, "`joule tariff show` with that file says which key is wrong"),
    SignalNotRead.name: (
        "signal",
        WorkResumed.name,
        "see that its file or server can be read",
    ),
}
"""By what is told where something cannot be read: what that is, what is told when it can be again, and what to do."""
_NOT_KEPT = (DiskRefused.name, JournalNotKept.name, EnergyNotKept.name, PeersNotKept.name)


def last_of(told: Sequence[Told], *names: str) -> Told | None:
    """The latest event of one of some names."""
    return max((each for each in told if each.event in names), key=lambda each: each.last_at, default=None)


def held_back(told: Sequence[Told]) -> Told | None:
    """The event by which work is held back now; None where it is not."""
    latest = last_of(told, WorkHeldBack.name, WorkResumed.name)
    return latest if latest is not None and latest.event == WorkHeldBack.name else None


def troubles_of(told: Sequence[Told]) -> Iterator[Finding]:
    """All of them, and that a feed is read again."""
    yield from _unread(told)
    yield from _feeds(told)
    yield from _settings(told)
    yield from _kept(told)


def _unread(told: Sequence[Told]) -> Iterator[Finding]:
    """Meters, tariffs and signals that could be read, and then could not."""
    for bad, (what, good, fix) in _MENDED.items():
        latest = last_of(told, bad, good)
        if latest is not None and latest.event == bad:
            hint = str(latest.last.get("hint", "")) or fix
            yield Finding("fail", what, f"{bad}: {latest.last.get('reason', '')}", hint)
    apart = last_of(told, MeterNotShared.name, MeterShared.name)
    if apart is not None and apart.event == MeterNotShared.name:
        fix = "let the nodes of this machine share a data directory, or name a meter for each"
        yield Finding("note", "meter", f"others may count it, too: {apart.last.get('reason', '')}", fix)


def _feeds(told: Sequence[Told]) -> Iterator[Finding]:
    price = last_of(told, EnergyPriceChanged.name)
    for of in ("price", "pue", "carbon"):
        bad_at, worst = _of(told, FeedNotRead.name, of)
        good_at, _ = _of(told, FeedRead.name, of)
        if of == "price" and price is not None and price.last.get("source") == "feed":
            good_at = max(good_at, price.last_at)
        if worst is None:
            continue
        if good_at >= bad_at:
            yield Finding("ok", "feed", f"that of {of} is read again")
            continue
        said = f"that of {of} is not read: {worst.get('reason', '')}; what counts: {worst.get('source', '')}"
        yield Finding("fail", "feed", said, "see its url, token and format; `joule tariff show` tries it")


def _of(told: Sequence[Told], event: str, of: str) -> tuple[int, dict[str, Any] | None]:
    """When an event was last told of one feed, and what it said; -1 and None for never."""
    of_it = [each for each in told if each.event == event and each.last.get("of") == of]
    last = max(of_it, key=lambda each: each.last_at, default=None)
    return (-1, None) if last is None else (last.last_at, last.last)


def _settings(told: Sequence[Told]) -> Iterator[Finding]:
    """What was changed and does not count."""
    latest = last_of(told, SettingsRefused.name, RestartNeeded.name, SettingsChanged.name)
    if latest is None or latest.event == SettingsChanged.name:
        return
    if latest.event == RestartNeeded.name:
        named = ", ".join(map(str, latest.last.get("settings", ())))
        yield Finding("note", "settings", f"changed, and not taken over: {named}", "start the node again")
        return
    hint = str(latest.last.get("hint", "")) or "mend the file; the node goes on with what it had"
    yield Finding("fail", "settings", f"refused: {latest.last.get('reason', '')}", hint)


def _kept(told: Sequence[Told]) -> Iterator[Finding]:
    """What could not be written down."""
    for name in _NOT_KEPT:
        bad = last_of(told, name)
        if bad is not None:
            yield Finding("fail", name, str(bad.last.get("reason", "")), "make room on its disk, and see who may write")
