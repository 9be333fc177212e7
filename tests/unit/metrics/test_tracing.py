"""Traces of jobs, as a collector receives them over HTTP: one trace for all that take part, and no word of a client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trace_collector import collector

from node.events import (
    Closed,
    Event,
    Healed,
    JobFailed,
    JobServed,
    SessionOpened,
    Settled,
    TracesNotSent,
    VoucherSigned,
)
from node.metrics import tracing

pytestmark = pytest.mark.asyncio
CLIENT, SESSION = b"\x01" * 20, b"\x02" * 32


def told(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def served(leg: int) -> JobServed:
    return JobServed(
        client=CLIENT,
        session=SESSION,
        leg=leg,
        tokens_in=3,
        tokens_out=5,
        earned_micro=40,
        millijoules=None,
        seconds=2.0,
    )


async def test_client_and_legs_send_one_trace() -> None:
    heard: list[Event] = []
    client = [
        SessionOpened(session=SESSION, reserved_micro=900),
        VoucherSigned(session=SESSION, tokens_in=3, tokens_out=0, amount_micro=7),
        Healed(session=SESSION, legs=(1,), joined=(2,), seconds=0.5, reason="a stranger's word"),
        Settled(session=SESSION, amount_micro=80),
        Closed(session=SESSION),
    ]
    failed = JobFailed(
        client=CLIENT,
        session=SESSION,
        leg=1,
        tokens_in=1,
        tokens_out=2,
        paid_micro=3,
        code="lost-peer",
        reason="secret",
    )
    async with collector() as (found, url):
        async with tracing.sending_traces("client", url, heard.append) as mine:
            for each in client:
                mine(each)
        for event in (served(0), failed):  # each in a process of its own
            async with tracing.sending_traces("node", url, heard.append) as theirs:
                theirs(event)
    assert heard == [*client, served(0), failed]
    root, first, second = found.spans
    assert {each["traceId"] for each in found.spans} == {root["traceId"]}
    assert [each["name"] for each in found.spans] == ["job", "leg", "leg"]
    assert first["parentSpanId"] == second["parentSpanId"] == root["spanId"] != ""
    assert len({each["spanId"] for each in found.spans}) == 3
    assert [len(root[key]) for key in ("traceId", "spanId")] == [32, 16]
    assert [each["name"] for each in root["events"]] == ["voucher", "healed"]
    assert told(root)["joulemesh.paid_micro"] == "80"
    assert int(first["endTimeUnixNano"]) - int(first["startTimeUnixNano"]) == 2_000_000_000
    assert "joulemesh.millijoules" not in told(first)  # what is not known is not said
    assert second["status"]["message"] == told(second)["joulemesh.code"] == "lost-peer"
    sent = json.dumps(found.bodies)
    for word in ("stranger", "secret", CLIENT.hex()):
        assert word not in sent


async def test_another_job_is_another_trace() -> None:
    async with collector() as (found, url), tracing.sending_traces("client", url, lambda _event: None) as traces:
        for session in (SESSION, b"\x03" * 32):
            traces(SessionOpened(session=session, reserved_micro=1))
            traces(Closed(session=session))
        traces(Settled(session=b"\x04" * 32, amount_micro=1))  # nobody saw it open
    assert len({each["traceId"] for each in found.spans}) == len(found.spans) == 2


async def test_a_collector_that_refuses_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "GATHER_S", 0.0)
    heard: list[Event] = []
    async with collector() as (found, url):
        found.status = 503
        async with tracing.sending_traces("node", url, heard.append) as traces:
            for leg in range(3):
                found.asked.clear()
                traces(served(leg))
                await found.asked.wait()
    lost = [each for each in heard if isinstance(each, TracesNotSent)]
    assert len(lost) == 1
    assert (lost[0].collector, lost[0].reason) == ("127.0.0.1", "status 503")


async def test_what_waits_is_bounded_and_a_collector_that_is_away_stops_nobody() -> None:
    heard: list[Event] = []
    async with tracing.sending_traces("node", "http://127.0.0.1:1/v1/traces", heard.append) as traces:
        for number in range(tracing.MOST_JOBS + 5):
            traces(SessionOpened(session=number.to_bytes(32, "big"), reserved_micro=1))
        for number in range(tracing.MOST_WAITING + 5):
            traces(served(number % 16))
        assert len(traces._jobs) == tracing.MOST_JOBS
        assert len(traces._waiting) == tracing.MOST_WAITING
    assert isinstance(heard[-1], TracesNotSent)
