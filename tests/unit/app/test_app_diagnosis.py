"""What is found wrong with a node, and why no work came: each reason, and what to do about it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from market_offers import an_offer, key_of

from node.app.diagnosis.activity import Told
from node.app.diagnosis.diagnosis import Symptoms, diagnosed
from node.app.diagnosis.finding import Finding
from node.app.diagnosis.symptoms import _reached
from node.events import (
    EnergyNotKept,
    EnergyPriceChanged,
    FeedNotRead,
    FeedRead,
    MeterFailed,
    MeterNotShared,
    MeterReadAgain,
    RestartNeeded,
    SettingsChanged,
    SettingsRefused,
    SignalNotRead,
    TariffRead,
    TariffRefused,
    WorkHeldBack,
    WorkResumed,
)
from node.p2p.direct import DataPlane, Listener
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from node.ports import Link
from protocol.identity.peer_id import peer_id_of

READY = {
    "ledger": "http://127.0.0.1:1",
    "blocks": "0:4",
    "model": "demo",
    "energy_source": "wall",
    "peer": "/ip4/127.0.0.1/tcp/1/p2p/x",
}
WELL = Symptoms(
    name="0xab",
    process=7,
    told=(),
    ready=READY,
    has_key=True,
    book=(an_offer(1), an_offer(2)),
    own=an_offer(1),
    clock_off_s=0.4,
    ledger_error="",
    free=1_000_000,
    bond=1_000_000,
    dialled={"/ip4/127.0.0.1/tcp/4002/tls": ""},
)


def told(event: str, *, code: str = "", count: int = 1, at: int = 0, **last: Any) -> Told:
    return Told(day=1, event=event, code=code, count=count, last_at=at, last=last)


def found(what: str, **changes: Any) -> list[Finding]:
    return [each for each in diagnosed(replace(WELL, **changes)) if each.what == what]


def test_a_node_that_is_well_has_nothing_to_be_done() -> None:
    busy = (told("job begun", count=3), told("job served", count=3))
    findings = diagnosed(replace(WELL, told=busy))
    assert {each.level for each in findings} == {"ok"}
    assert all(not each.fix for each in findings)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("clock", {"clock_off_s": 61.0}),
        ("clock", {"clock_off_s": -61.0}),
        ("port 4002", {"dialled": {"/ip4/127.0.0.1/tcp/4002/tls": "refused"}}),
        ("port 4002", {"ready": {**READY, "ledger": "https://ledger.example.org"}}),
        ("offer", {"own": None}),
        ("offer", {"told": (told("key in use elsewhere", addresses=["x"]),)}),
        ("network", {"told": (told("network back", at=1), told("network lost", at=2))}),
        ("ledger", {"ledger_error": "no answer"}),
        ("disk refused", {"told": (told("disk refused", reason="full"),)}),
        ("feed", {"told": (told(FeedNotRead.name, of="price", reason="HTML", source="fallback"),)}),
        (
            "feed",
            {
                "told": (
                    told(FeedNotRead.name, of="price", at=1),
                    told(FeedNotRead.name, of="carbon", at=2, code="x"),
                    told(FeedRead.name, of="price", at=3),
                )
            },
        ),
        ("meter", {"told": (told(MeterReadAgain.name, at=1), told(MeterFailed.name, at=2, reason="NaN", hint=""))}),
        ("tariff", {"told": (told(TariffRefused.name, reason="price is missing", hint="write it"),)}),
        ("signal", {"told": (told(SignalNotRead.name, code="x", reason="gone"),)}),
        ("settings", {"told": (told(SettingsRefused.name, reason="margin is a word", hint=""),)}),
        ("energy not kept", {"told": (told(EnergyNotKept.name, reason="full"),)}),
        ("held back", {"told": (told(WorkHeldBack.name, how="drain", reason="power costs too much"),), "own": None}),
        ("no work", {"own": None}),
        ("no work", {"own": an_offer(1, (0, 3)), "book": (an_offer(1, (0, 3)),)}),
        ("no work", {"own": an_offer(1, sessions=0)}),
    ],
)
def test_what_keeps_work_away_is_a_failure_with_its_fix(what: str, changes: dict[str, Any]) -> None:
    failures = [each for each in found(what, **changes) if each.level == "fail"]
    assert failures
    assert all(each.fix for each in failures)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("clock", {"clock_off_s": 59.0}),
        ("clock", {"clock_off_s": None}),
        ("network", {"told": (told("network lost", at=1), told("network back", at=2))}),
        ("port 4002", {"dialled": {"/ip4/203.0.113.7/tcp/4002/tls": ""}}),
        ("meter", {"ready": {**READY, "energy_source": "model"}}),
        ("offer", {"book": None}),
        ("feed", {"told": (told(FeedNotRead.name, of="price", at=1), told(FeedRead.name, of="price", at=2))}),
        (
            "feed",
            {
                "told": (
                    told(FeedNotRead.name, of="price", at=1),
                    told(EnergyPriceChanged.name, source="feed", micro_per_kwh=1, at=2),
                )
            },
        ),
        ("meter", {"told": (told(MeterFailed.name, at=1), told(MeterReadAgain.name, at=2))}),
        ("meter", {"told": (told(MeterNotShared.name, reason="no folder"),)}),
        ("tariff", {"told": (told(TariffRefused.name, at=1), told(TariffRead.name, at=2))}),
        ("settings", {"told": (told(RestartNeeded.name, settings=["listen"]),)}),
        ("settings", {"told": (told(SettingsRefused.name, at=1), told(SettingsChanged.name, at=2))}),
        ("held back", {"told": (told(WorkHeldBack.name, how="drain", at=1), told(WorkResumed.name, at=2))}),
        ("held back", {"told": (told(WorkHeldBack.name, how="shed"),)}),
        ("offer", {"own": None, "told": (told(WorkHeldBack.name, how="drain"),)}),
        ("no work", {"own": None, "told": (told(WorkHeldBack.name, how="drain"),)}),
        ("price", {"book": (an_offer(1), an_offer(2, price_out=200_000))}),
        ("key", {"has_key": False}),
        ("ledger", {"free": 0}),
        ("node", {"ready": None}),
    ],
)
def test_what_is_not_that_bad_is_no_failure(what: str, changes: dict[str, Any]) -> None:
    assert not [each for each in found(what, **changes) if each.level == "fail"]


def test_orders_of_today_are_counted_with_the_reasons_for_refusals() -> None:
    findings = found("work", told=(told("job begun", count=2), told("order refused", code="full", count=5)))
    assert "7 orders came today: 2 taken, 5 refused" in findings[0].detail
    (refused,) = found("refused", told=(told("order refused", code="full", count=5, reason="all places taken"),))
    assert refused.detail == "5 x full: all places taken"
    assert "max_sessions" in refused.fix


def test_why_no_orders_came() -> None:
    def reasons(**changes: Any) -> str:
        return " / ".join(each.detail for each in found("no work", **changes))

    assert "no client has asked" in reasons()
    assert "blocks 3:4" in reasons(own=an_offer(1, (0, 3)), book=(an_offer(1, (0, 3)),))
    assert "for less" in reasons(book=(an_offer(1), an_offer(2, price_out=200_000)))
    assert "for less" not in reasons(book=(an_offer(1), an_offer(2, price_out=299_000)))
    assert "faster" in reasons(book=(an_offer(1), an_offer(2, position_us=10)))
    assert "where it stands" in reasons(own=an_offer(1, jurisdiction="ZZ"))
    assert "at stake" in reasons(bond=0)
    assert reasons(told=(told("job begun"),)) == ""


def test_a_node_that_has_not_begun_says_what_it_does() -> None:
    (node,) = found("node", ready=None, told=(told("starting", step="loading blocks 0:2"),), own=None, dialled={})
    assert "loading blocks 0:2" in node.detail


@pytest.mark.asyncio
async def test_who_answers_at_an_address_is_not_taken_on_trust() -> None:
    """The node itself, a program that says nothing of the kind, another node, and nobody."""
    key, other = key_of(1), key_of(2)
    async with TrioRuntime.open() as runtime, P2PHost.open(runtime, key.secret) as host, DataPlane(key.secret) as plane:
        with Listener.open("127.0.0.1", 0) as listener:
            serving = asyncio.create_task(plane.serve(listener, _hang_up))
            well = await _reached(host.addresses[0], listener.address)
            swapped = host.addresses[0].replace(peer_id_of(key.public_key), peer_id_of(other.public_key))
            wrong = await _reached(swapped, listener.address)
            serving.cancel()
        async with await asyncio.start_server(_say_nothing_of_the_kind, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            strange = await _reached(host.addresses[0], f"/ip4/127.0.0.1/tcp/{port}/tls")
    gone = await _reached(host.addresses[0], listener.address)
    assert set(well.values()) == {""}
    assert all("another node, has this port" in why for why in wrong.values())
    assert [bool(why) for why in strange.values()] == [False, True]
    assert all(gone.values())


async def _hang_up(link: Link) -> None:
    await link.close()


async def _say_nothing_of_the_kind(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()
