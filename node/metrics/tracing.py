"""Traces of jobs for OpenTelemetry: OTLP over HTTP, in JSON, which every collector takes.

A job's trace is named by its session, which client and legs know alike: so what each process sends joins into one
trace, and nothing more travels with a job. In it are ids, times, counts and codes; no texts, no tokens, no addresses of
clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from node.events import (
    Closed,
    Event,
    Events,
    Healed,
    JobFailed,
    JobServed,
    SessionOpened,
    Settled,
    TracesNotSent,
    VoucherSigned,
)

__all__ = ["Traces", "sending_traces"]

MOST_WAITING = 2_048
"""Spans; beyond them the oldest are dropped."""
MOST_JOBS = 1_024
"""That a client has open at once; the oldest are given up."""
MOST_MARKS = 64
"""Of one span."""
MOST_SENT = 256
"""In one request."""
GATHER_S = 1.0
SEND_S = 5.0
LAST_S = 2.0
"""For what is left when the process ends."""
_Value = str | int | float | None
_Values = dict[str, _Value]
_CLIENT, _SERVER = 3, 2
"""Kinds of span."""
_ERROR = 2


@dataclass(slots=True)
class _Open:
    """A job that a client has under way."""

    begun_ns: int
    reserved_micro: int
    marks: list[dict[str, Any]] = field(default_factory=list)


def _names(session: bytes) -> tuple[str, str]:
    """Ids of a job's trace and of its root, in hex."""
    digest = hashlib.sha256(b"joulemesh trace\n" + session).hexdigest()
    return digest[:32], digest[32:48]


def _attributes(values: Mapping[str, _Value]) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    return [
        {"key": f"joulemesh.{name}", "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for name, value in values.items()
        if value is not None
    ]


class Traces:
    """Makes spans of what it is told, and tells it on. Belongs to one event loop.

    Args:
        service: whose they are, such as ``node``.
        url: where a collector takes them.
    """

    def __init__(self, service: str, url: str, events: Events) -> None:
        self._service = service
        self._url = url
        self._events = events
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._jobs: dict[bytes, _Open] = {}
        self._failing = False

    def __call__(self, event: Event) -> None:
        now = time.time_ns()
        match event:
            case SessionOpened():
                while len(self._jobs) >= MOST_JOBS:
                    del self._jobs[next(iter(self._jobs))]
                self._jobs[event.session] = _Open(now, event.reserved_micro)
            case VoucherSigned():
                self._mark(
                    event.session, now, "voucher", {"tokens_in": event.tokens_in, "tokens_out": event.tokens_out}
                )
            case Healed():
                self._mark(event.session, now, "healed", {"legs": len(event.legs), "seconds": event.seconds})
            case Settled():
                self._end(event.session, now, event.amount_micro)
            case Closed():
                self._end(event.session, now, None)
            case JobServed() | JobFailed():
                self._served(event, now)
        self._events(event)

    def _mark(self, session: bytes, now: int, name: str, values: Mapping[str, int | float]) -> None:
        job = self._jobs.get(session)
        if job is not None and len(job.marks) < MOST_MARKS:
            job.marks.append({"name": name, "timeUnixNano": str(now), "attributes": _attributes(values)})

    def _end(self, session: bytes, now: int, paid_micro: int | None) -> None:
        job = self._jobs.pop(session, None)
        if job is None:
            return
        trace, root = _names(session)
        told: _Values = {"session": session.hex(), "reserved_micro": job.reserved_micro, "paid_micro": paid_micro}
        self._put(trace, root, "", "job", _CLIENT, (job.begun_ns, now), _attributes(told), events=job.marks)

    def _served(self, event: JobServed | JobFailed, now: int) -> None:
        trace, root = _names(event.session)
        span = hashlib.sha256(f"joulemesh leg {event.leg}\n".encode() + event.session).hexdigest()[:16]
        told: _Values = {
            "session": event.session.hex(),
            "leg": event.leg,
            "tokens_in": event.tokens_in,
            "tokens_out": event.tokens_out,
        }
        begun, status = now, {}
        if isinstance(event, JobServed):
            begun -= round(event.seconds * 1e9)
            told |= {"earned_micro": event.earned_micro, "millijoules": event.millijoules}
        else:
            told["code"] = event.code
            status = {"status": {"code": _ERROR, "message": event.code}}
        self._put(trace, span, root, "leg", _SERVER, (begun, now), _attributes(told), **status)

    def _put(
        self, trace: str, span: str, parent: str, name: str, kind: int, times: tuple[int, int], told: Any, **more: Any
    ) -> None:
        begun, ended = times
        ids = {"traceId": trace, "spanId": span, "parentSpanId": parent, "name": name, "kind": kind}
        clock = {"startTimeUnixNano": str(begun), "endTimeUnixNano": str(ended)}
        self._waiting.append({**ids, **clock, "attributes": told, **more})

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SEND_S)) as session:
            while True:
                await asyncio.sleep(GATHER_S)
                await self._send(session)

    async def send_last(self) -> None:
        """What is left, as far as there is time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S), aiohttp.ClientSession() as session:
                await self._send(session)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        while self._waiting:
            spans = [self._waiting.popleft() for _ in range(min(MOST_SENT, len(self._waiting)))]
            failed = await self._post(session, spans)
            if failed and not self._failing:  # told once, until it works again; what was not taken is lost
                self._events(TracesNotSent(collector=urlsplit(self._url).hostname or "", reason=failed))
            self._failing = bool(failed)

    async def _post(self, session: aiohttp.ClientSession, spans: list[dict[str, Any]]) -> str:
        """Send some spans; why they were not taken, else nothing."""
        name = {"key": "service.name", "value": {"stringValue": f"joulemesh-{self._service}"}}
        scope = {"scope": {"name": "joulemesh"}, "spans": spans}
        body = {"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [scope]}]}
        try:
            async with session.post(self._url, json=body, allow_redirects=False) as answer:
                return "" if answer.status < 300 else f"status {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return str(error) or type(error).__name__


@asynccontextmanager
async def sending_traces(service: str, url: str, events: Events) -> AsyncIterator[Traces]:
    """Send traces of what is told in the block to a collector."""
    traces = Traces(service, url, events)
    task = asyncio.create_task(traces.run(), name="traces")
    try:
        yield traces
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await traces.send_last()
