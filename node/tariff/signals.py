"""What a grid asks of a site: a file that somebody writes, or the events of an OpenADR 3 server, polled.

A file holds a word (``normal``, ``shed`` or ``drain``), or JSON: ``{"level": "shed", "until": "2026-01-31T18:00Z",
"limit_kw": 5, "reason": "evening peak"}``. Where there is no file nothing is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp

from node.events import Events, SignalNotRead
from node.ports import Clock
from node.tariff.description import CurtailmentSource
from node.tariff.documents import parse_json, read_bounded, secret_of
from node.tariff.formats import durations_s
from node.tariff.numbers import number
from node.tariff.points import time_of
from node.tariff.web import fetch
from protocol.encoding.text import to_plain_text
from protocol.energy.charges import MAX_LOAD_W
from protocol.errors import LocalError, MalformedError, PeerError
from protocol.serving.curtailment import AT_EASE, Level, Signal, strictest

__all__ = ["FollowedSignal", "signal_of_events", "signal_of_file"]

_MOST_BYTES = 64 * 1024
_MOST_EVENTS = 1000
_KEYS = {"level", "until", "limit_kw", "reason"}
_ALERTS = {
    "ALERT_GRID_EMERGENCY": Level.DRAIN,
    "ALERT_BLACK_START": Level.DRAIN,
    "ALERT_FLEX_ALERT": Level.SHED,
}
"""Types of payloads that say how bad it is by their names."""


def signal_of_file(data: bytes, whence: str) -> Signal:
    """What a file asks. Raises MalformedError."""
    text = data.decode("utf-8", "replace").strip()
    if text.lower() in {level.word for level in Level}:
        return Signal(Level[text.upper()], "" if text.lower() == "normal" else f"{whence} says {text.lower()}")
    found = parse_json(data, whence)
    if not isinstance(found, dict) or not found.keys() <= _KEYS:
        raise MalformedError(f"{whence} is neither normal, shed or drain, nor an object of {', '.join(sorted(_KEYS))}")
    try:
        level = Level[str(found.get("level", "normal")).upper()]
        until = None if found.get("until") is None else time_of(found["until"])
        limit = None if found.get("limit_kw") is None else _watts(found["limit_kw"])
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise MalformedError(f"{whence}: {error}") from None
    reason = to_plain_text(str(found.get("reason", f"{whence} says {level.word}")), 200)
    return Signal(level, reason, until, limit)


def _watts(raw: Any) -> int:
    watts = int(number(raw) * 1000)
    if not 0 <= watts <= MAX_LOAD_W:
        raise ValueError(f"{raw} kW is no limit")
    return watts


def signal_of_events(data: bytes, whence: str, now: int) -> Signal:
    """The strictest of what the events of an OpenADR 3 server ask at a time. Raises MalformedError.

    SIMPLE counts 1 as a request to shed and 2 or 3 as one to drain; alerts of a grid's emergency drain, others shed;
    IMPORT_CAPACITY_LIMIT is a power cap in kW. Other types of payload ask nothing of a consumer.
    """
    try:
        events = parse_json(data, whence)
        if not isinstance(events, list) or len(events) > _MOST_EVENTS:
            raise MalformedError(f"{whence} gave no list of events, or one that is far too long")
        return strictest(signal for event in events for signal in _asked(event, whence, now))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedError(f"{whence} gave something else than events of OpenADR 3") from None
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{whence}: {error}") from None


def _asked(event: Any, whence: str, now: int) -> Iterator[Signal]:
    name = to_plain_text(str(event.get("eventName") or event.get("id") or "an event"), 64)
    for interval in event["intervals"]:
        own = interval.get("intervalPeriod")
        period = own or event["intervalPeriod"]
        begin, long_s = time_of(period["start"]), durations_s(period["duration"])
        if own is None:
            begin += long_s * int(interval["id"])  # intervals of one length follow one another
        if not begin <= now < begin + long_s:
            continue
        for payload in interval["payloads"]:
            found = _of_payload(payload["type"], payload["values"])
            if found is not None:
                level, limit = found
                reason = "" if level is Level.NORMAL else f"{name} of {whence} says {payload['type'][:32]}"
                yield Signal(level, reason, begin + long_s, limit)


def _of_payload(kind: str, values: list[Any]) -> tuple[Level, int | None] | None:
    if kind in _ALERTS:
        return _ALERTS[kind], None
    if kind == "SIMPLE":
        return Level(min(2, max(0, int(number(values[0]))))), None
    if kind == "IMPORT_CAPACITY_LIMIT":
        return Level.NORMAL, _watts(values[0])
    return None


class FollowedSignal:
    """The signal that holds now. Belongs to one event loop."""

    def __init__(self, source: CurtailmentSource, *, clock: Clock, events: Events) -> None:
        self._source = source
        self._clock = clock
        self._events = events
        self._signal = AT_EASE
        self._failing = ""

    @property
    def signal(self) -> Signal:
        """As it was last read, unless its time is over."""
        return self._signal.at(self._clock())

    async def run(self) -> None:
        """Poll until cancelled; nothing that is wrong with the signal ends it."""
        async with aiohttp.ClientSession() as session:
            while True:
                await self.look(session)
                await asyncio.sleep(self._source.poll_s)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Read it once; where that fails the last one counts on until it ends, and it is told once."""
        try:
            self._signal, self._failing = await self._read(session), ""
        except (PeerError, LocalError) as error:
            if self._failing != error.message:
                self._failing = error.message
                self._events(SignalNotRead(code=error.code, reason=error.message))

    async def _read(self, session: aiohttp.ClientSession) -> Signal:
        source = self._source
        if source.path is not None:
            if not await asyncio.to_thread(source.path.exists):
                return AT_EASE
            return signal_of_file(await asyncio.to_thread(read_bounded, source.path, _MOST_BYTES), source.path.name)
        url = f"{source.url}/events"
        token = await asyncio.to_thread(secret_of, source.token_file)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        parameters = {"programID": source.program} if source.program else {}
        data = await fetch(session, url, parameters=parameters, headers=headers)
        return signal_of_events(data, (source.url or "").partition("//")[2], self._clock())
