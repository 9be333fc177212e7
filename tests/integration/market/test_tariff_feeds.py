"""Feeds of prices and signals: from servers in their documented formats, from files, and when they are broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from tariff_files import entsoe, nordpool, octopus, openadr_event, stamp, unix, write

from node.events import Event, FeedNotRead, FeedRead, SignalNotRead, TariffRead, TariffRefused
from node.tariff import FollowedSignal, FollowedSupply, KeptFeeds
from node.tariff.description import CurtailmentSource
from node.tariff.documents import MAX_FILE_BYTES
from node.tariff.feeds import read_feed
from node.tariff.numbers import PRICE
from node.tariff.reading import read_tariff
from node.tariff.web import fetch
from protocol.energy.price_series import PriceSource
from protocol.errors import ConfigurationError, MalformedError, UnreachableError
from protocol.market.pricing import Supply
from protocol.serving.curtailment import AT_EASE, Level

NOW = unix("2026-01-31T12:20")
QUARTER = unix("2026-01-31T12:15")
HOUR = unix("2026-01-31T12:00")
SECRET = "a-secret-token"

Answer = Callable[[web.Request], web.StreamResponse]


@dataclass
class Server:
    """Answers everything in one way, and remembers what was asked."""

    url: str = ""
    answer: Answer = lambda _request: web.Response(status=404)
    asked: list[web.Request] = field(default_factory=list)

    def gives(self, text: str | bytes, kind: str = "application/json", status: int = 200) -> None:
        body = text.encode() if isinstance(text, str) else text
        self.answer = lambda _request: web.Response(body=body, content_type=kind, status=status)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return self.answer(request)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_get("/{tail:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def _toml(value: Any) -> str:
    pairs = [f"{key} = {_toml(each)}" for key, each in value.items()] if isinstance(value, dict) else None
    return json.dumps(value) if pairs is None else f"{{ {', '.join(pairs)} }}"


def described(folder: Path, *, top: str = "", **keys: Any) -> Path:
    lines = {"kind": "feed", "fallback": 0.5, **keys}
    written = "\n".join(f"{key} = {_toml(value)}" for key, value in lines.items())
    return write(folder, f"{top}\n[price]\n{written}\n")


EUROS = "[exchange]\nrate = 1\nas_of = 2026-01-01\n"


async def read(path: Path) -> dict[int, int]:
    feed = read_tariff(path).feeds["price"]
    async with aiohttp.ClientSession() as session:
        return await read_feed(feed, PRICE, session, NOW)


def in_euros(folder: Path, **keys: Any) -> Path:
    path = described(folder, top='currency = "EUR"', **keys)
    path.write_text(path.read_text() + EUROS)
    return path


pytestmark = pytest.mark.asyncio


# Documented formats


async def test_entsoe_by_the_hour_and_by_the_quarter(server: Server, tmp_path: Path) -> None:
    write(tmp_path, f"{SECRET}\n", "token")
    path = in_euros(tmp_path, format="entsoe", url=f"{server.url}/api", area="10Y1001A1001A82H", token_file="token")
    server.gives(entsoe(HOUR, ["100", "-5.32"]), "text/xml")
    found = await read(path)
    assert [found[HOUR + 900 * each] for each in (0, 3, 4, 7)] == [100_000, 100_000, -5_320, -5_320]
    assert len(found) == 8
    asked = server.asked[0].query
    assert asked["documentType"] == "A44"
    assert (asked["in_Domain"], asked["out_Domain"]) == ("10Y1001A1001A82H",) * 2
    assert (asked["periodStart"], asked["periodEnd"]) == ("202601290000", "202602020000")
    assert asked["securityToken"] == SECRET
    server.gives(entsoe(HOUR, ["1", "2"], step="PT15M", seconds=900))
    assert await read(path) == {HOUR: 1_000, HOUR + 900: 2_000}


async def test_entsoe_leaves_out_what_repeats_and_only_there(server: Server, tmp_path: Path) -> None:
    path = in_euros(tmp_path, format="entsoe", url=server.url, area="X")
    for curve, expected in (("A03", [1_000, 1_000, 3_000]), ("A01", [1_000, 3_000])):
        server.gives(entsoe(HOUR, ["1", None, "3"], step="PT15M", seconds=900, curve=curve))
        assert list((await read(path)).values()) == expected


async def test_entsoe_takes_the_first_auction(server: Server, tmp_path: Path) -> None:
    path = in_euros(tmp_path, format="entsoe", url=server.url, area="X")
    server.gives(entsoe(HOUR, ["1"], position="2"))
    with pytest.raises(MalformedError, match="without prices"):
        await read(path)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (entsoe(HOUR, ["1"], currency="PLN"), "in PLN, and the tariff's currency is EUR"),
        (entsoe(HOUR, ["1"], unit="KWH"), "per KWH, not per MWh"),
        (entsoe(HOUR, ["NaN"]), "not a number of any use"),
        (entsoe(HOUR, ["1"], step="whole day"), "no duration"),
        (entsoe(HOUR, ["1"])[:-40], "no XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + entsoe(HOUR, ["1"]), "declarations of its own"),
        ("<html><body>Sign in</body></html>", "HTML"),
        ("<Other/>", "gave a Other"),
        (
            '<Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:8:0">'
            "<Reason><code>999</code><text>No matching data found</text></Reason></Acknowledgement_MarketDocument>",
            "says: No matching data found",
        ),
    ],
)
async def test_entsoe_says_something_else(server: Server, tmp_path: Path, answer: str, why: str) -> None:
    server.gives(answer)
    with pytest.raises(MalformedError, match=why):
        await read(in_euros(tmp_path, format="entsoe", url=server.url, area="X"))


async def test_nord_pool_by_the_day(server: Server, tmp_path: Path) -> None:
    """A day that is not out yet has no content."""
    days = {"2026-01-31": nordpool(HOUR, [34.5, -1, 0]), "2026-01-30": nordpool(HOUR - 86_400, [7])}

    def answer(request: web.Request) -> web.Response:
        day = days.get(request.query["date"])
        return web.Response(status=204) if day is None else web.Response(text=day, content_type="application/json")

    server.answer = answer
    found = await read(in_euros(tmp_path, format="nordpool", url=f"{server.url}/api/DayAheadPrices", area="SE3"))
    assert found == {HOUR: 34_500, HOUR + 900: -1_000, HOUR + 1800: 0, HOUR - 86_400: 7_000}
    assert {request.query["currency"] for request in server.asked} == {"EUR"}
    assert {request.query["market"] for request in server.asked} == {"DayAhead"}
    assert {request.query["deliveryArea"] for request in server.asked} == {"SE3"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (nordpool(HOUR, [1], area="SE4"), "no prices of the area SE3"),
        (nordpool(HOUR, [1], currency="SEK"), "in SEK"),
        ('{"multiAreaEntries": {}}', "no list"),
        ("{}", "something else"),
        ("[]", "something else"),
        ("[" * 100, "nested"),
        ('{"multiAreaEntries": NaN}', "NaN"),
        ("<!DOCTYPE html><title>404</title>", "HTML"),
    ],
)
async def test_nord_pool_says_something_else(server: Server, tmp_path: Path, answer: str, why: str) -> None:
    server.gives(answer)
    with pytest.raises(MalformedError, match=why):
        await read(in_euros(tmp_path, format="nordpool", url=server.url, area="SE3"))


async def test_octopus_in_pence_with_tax(server: Server, tmp_path: Path) -> None:
    path = described(tmp_path, top='currency = "GBP"', format="octopus", url=f"{server.url}/v1/products/X/")
    path.write_text(path.read_text() + EUROS)
    server.gives(octopus(HOUR, [20.055, -2.1], last_open=True))
    found = await read(path)
    assert [found[HOUR + 900 * each] for each in (0, 1, 2, 99)] == [200_550, 200_550, -21_000, -21_000]
    assert server.asked[0].query["period_from"] == "2026-01-29T12:20Z"


async def test_any_json_by_paths(server: Server, tmp_path: Path) -> None:
    data = [{"start_timestamp": 1000 * (HOUR + 3600 * n), "end_timestamp": 1000 * (HOUR + 3600 * (n + 1)),
             "marketprice": price, "unit": "Eur/MWh"} for n, price in enumerate((42.09, 17))]  # fmt: skip
    server.gives(json.dumps({"object": "list", "data": data}))
    keys = {"format": "json", "url": server.url, "unit": "MWh", "list": "data", "time": "start_timestamp",
            "value": "marketprice", "parameters": {"zone": "DE"}}  # fmt: skip
    found = await read(described(tmp_path, **keys, end="end_timestamp"))
    assert (found[HOUR], found[HOUR + 3600], len(found)) == (42_090, 17_000, 8)
    assert await read(described(tmp_path, **keys)) == found, "without ends, by the distance of two rows"
    assert server.asked[0].query["zone"] == "DE"
    server.gives(json.dumps({"data": {"rows": [{"at": stamp(HOUR), "p": {"amount": "0.1"}}]}}))
    found = await read(
        described(tmp_path, format="json", url=server.url, unit="kWh", list="data.rows", time="at", value="p.amount")
    )
    assert found[HOUR] == 100_000


async def test_what_is_missing_makes_nothing_else_longer(server: Server, tmp_path: Path) -> None:
    rows = [{"time": stamp(HOUR + 3600 * hour), "price": 0.1} for hour in (0, 1, 5)]
    server.gives(json.dumps(rows))
    found = await read(described(tmp_path, format="json", url=server.url, unit="kWh"))
    assert sorted({(at - HOUR) // 3600 for at in found}) == [0, 1, 5]


async def test_five_minute_prices_are_means_of_a_quarter(server: Server, tmp_path: Path) -> None:
    rows = [{"time": HOUR + 300 * number, "price": price} for number, price in enumerate((0.1, 0.2, 0.4, 0.9))]
    server.gives(json.dumps(rows))
    assert await read(described(tmp_path, format="json", url=server.url, unit="kWh")) == {HOUR: 233_334}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"time": HOUR, "price": 1}, {"time": HOUR, "price": 2}], "two values"),
        ([{"time": "2026-01-31T12:00", "price": 1}], "does not say its zone"),
        ([{"time": "noon", "price": 1}], "noon"),
        ([{"time": HOUR, "price": "cheap"}], "not a number"),
        ([{"time": HOUR}], "there is no 'price'"),
        ([{"time": HOUR, "price": 10**11}], "is it per MWh"),
        ([3], "there is no 'time'"),
        ([], "no values"),
    ],
)
async def test_rows_that_make_no_sense(server: Server, tmp_path: Path, rows: list[Any], why: str) -> None:
    server.gives(json.dumps(rows))
    with pytest.raises(MalformedError, match=why):
        await read(described(tmp_path, format="json", url=server.url, unit="kWh"))


async def test_prices_by_openadr(server: Server, tmp_path: Path) -> None:
    event = openadr_event(HOUR, {"type": "PRICE", "values": [0.17]}, {"type": "PRICE", "values": [0.25]})
    server.gives(json.dumps([event]))
    write(tmp_path, SECRET, "token")
    found = await read(described(tmp_path, format="openadr", url=f"{server.url}/events", token_file="token"))
    assert (found[HOUR], found[HOUR + 3600], len(found)) == (170_000, 250_000, 8)
    assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET}"


# Files


async def test_csv_and_parquet_and_json_files(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    write(tmp_path, f"time;price\n{stamp(HOUR)};0.1\n{stamp(HOUR + 900)};-0.2\n", "a.csv")
    write(tmp_path, json.dumps([{"time": HOUR, "price": 0.1}, {"time": HOUR + 900, "price": -0.2}]), "a.json")
    table = pyarrow.table({"time": [HOUR, HOUR + 900], "price": [0.1, -0.2], "other": ["x", "y"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for kind in ("csv", "json", "parquet"):
        found = await read(described(tmp_path, format=kind, file=f"a.{kind}", unit="kWh"))
        assert found == {HOUR: 100_000, HOUR + 900: -200_000}, kind


async def test_local_times_need_a_zone(tmp_path: Path) -> None:
    write(tmp_path, "time,price\n2026-01-31 13:00,0.1\n2026-01-31 14:00,0.2\n", "a.csv")
    found = await read(described(tmp_path, format="csv", file="a.csv", unit="kWh", zone="Europe/Berlin"))
    assert found[HOUR] == 100_000
    with pytest.raises(MalformedError, match="zone"):
        await read(described(tmp_path, format="csv", file="a.csv", unit="kWh"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no rows"),
        (b"when,price\n1,2\n", "no column 'time'"),
        (b"time,price\n1769860800\n", "row 2"),
        (b"time,price\n1769860800,NaN\n", "row 2 .*any use"),
        (b"<!doctype html>", "HTML"),
        (b"\x00\xff,\n\x00", "no column"),
    ],
)
async def test_a_file_that_is_something_else(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(MalformedError, match=why):
        await read(described(tmp_path, format="csv", file="a.csv", unit="kWh"))
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(MalformedError, match="not Parquet"):
        await read(described(tmp_path, format="parquet", file="a.parquet", unit="kWh"))


# Servers that are not as they should be


async def test_a_server_that_refuses_or_sends_elsewhere(server: Server, tmp_path: Path) -> None:
    write(tmp_path, SECRET, "token")
    path = in_euros(tmp_path, format="entsoe", url=server.url, area="X", token_file="token")
    for answer, error, why in (
        (web.Response(status=401), UnreachableError, "status 401"),
        (web.Response(status=503), UnreachableError, "status 503"),
        (web.Response(status=302, headers={"Location": "http://evil.example/x"}), MalformedError, r"evil\.example"),
        (web.Response(body=b"0" * 10, headers={"Content-Encoding": "gzip"}), UnreachableError, "does not answer"),
    ):
        server.answer = lambda _request, answer=answer: answer
        with pytest.raises(error, match=why) as caught:
            await read(path)
        assert SECRET not in str(caught.value) + caught.value.hint
    write(tmp_path, "", "token")
    with pytest.raises(ConfigurationError, match="begin with a token"):
        await read(path)


async def test_an_answer_without_end_is_cut(server: Server, tmp_path: Path) -> None:
    server.gives(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(MalformedError, match="are allowed"):
        await read(described(tmp_path, format="json", url=server.url, unit="kWh"))


async def test_a_server_that_is_silent_is_given_up() -> None:
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", hang)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(UnreachableError, match="does not answer within"):
            await fetch(session, f"http://127.0.0.1:{runner.addresses[0][1]}/", answer_s=0.2)
    never.set()
    await runner.cleanup()


# Followed


class World:
    def __init__(self, path: Path, now: int = NOW) -> None:
        self.now = now
        self.events: list[Event] = []
        kept = KeptFeeds(path.parent / "feeds")
        self.followed = FollowedSupply(path, Supply(1), clock=lambda: self.now, events=self.events.append, kept=kept)

    def heard(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def read(self) -> None:
        self.followed._due = {}
        async with aiohttp.ClientSession() as session:
            await self.followed.read_feeds(session)


async def test_a_feed_that_fails_goes_stale_and_then_falls_back(server: Server, tmp_path: Path) -> None:
    path = described(tmp_path, format="json", url=server.url, unit="kWh", stale_after_s=86_400)
    rows = [{"time": HOUR + 900 * number, "price": 0.1} for number in range(12)]
    server.gives(json.dumps(rows))
    world = World(path)
    await world.followed.begin()
    assert (world.followed.supply.micro_per_kwh, world.followed.source) == (100_000, PriceSource.FEED)
    server.gives("<html>", "text/html")
    await world.read()
    await world.read()
    assert [event.source for event in world.heard(FeedNotRead)] == ["feed"], "told once, and nothing is lost yet"  # type: ignore[attr-defined]
    world.now += 86_400
    assert (world.followed.supply.micro_per_kwh, world.followed.source) == (100_000, PriceSource.STALE)
    world.now += 86_400
    assert (world.followed.supply.micro_per_kwh, world.followed.source) == (500_000, PriceSource.FALLBACK)
    server.gives(json.dumps([{"time": QUARTER + 2 * 86_400, "price": 0.2, "x": 1}, {"time": HOUR, "price": 1}]))
    await world.read()
    assert world.heard(FeedRead)
    assert world.followed.supply.micro_per_kwh == 200_000
    assert world.followed.failing == {}


async def test_what_a_feed_gave_outlives_a_restart_and_is_called_stale(server: Server, tmp_path: Path) -> None:
    path = described(tmp_path, format="json", url=server.url, unit="kWh", stale_after_s=86_400)
    rows = [{"time": HOUR + 900 * number, "price": 0.1} for number in range(12)]
    server.gives(json.dumps(rows))
    await World(path).followed.begin()
    server.gives("<html>", "text/html")

    async def begun(now: int = NOW) -> tuple[int, PriceSource]:
        world = World(path, now)
        await world.followed.begin()
        return world.followed.supply.micro_per_kwh, world.followed.source

    assert await begun() == (100_000, PriceSource.STALE)
    assert await begun(NOW + 86_400) == (100_000, PriceSource.STALE)
    assert await begun(NOW + 86_401 + 900) == (500_000, PriceSource.FALLBACK)
    server.gives(json.dumps([{**row, "price": 0.3} for row in rows]))
    assert await begun() == (300_000, PriceSource.FEED)
    described(tmp_path, format="json", url=server.url, unit="MWh", stale_after_s=86_400)
    server.gives("<html>", "text/html")
    assert await begun() == (500_000, PriceSource.FALLBACK), "what another feed gave says nothing of this one"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"<html>", b"[]", b'{"version": 2, "read_at": 1, "points": []}', b'{"version": 1, "points": []}',
        b'{"version": 1, "read_at": 1.5, "points": []}', b'{"version": 1, "read_at": %d, "points": [[1, 2]]}' % NOW,
        b'{"version": 1, "read_at": %d, "points": [[900, true]]}' % NOW,
        b'{"version": 1, "read_at": %d, "points": [[900, 1, 2]]}' % NOW,
        b'{"version": 1, "read_at": %d, "points": [[900, 99999999999]]}' % NOW,
    ],
)  # fmt: skip
async def test_what_was_kept_and_spoiled_counts_as_nothing(server: Server, tmp_path: Path, content: bytes) -> None:
    path = described(tmp_path, format="json", url=server.url, unit="kWh", stale_after_s=86_400)
    server.gives(json.dumps([{"time": HOUR + 900 * number, "price": 0.1} for number in range(12)]))
    await World(path).followed.begin()
    (kept,) = (tmp_path / "feeds").iterdir()
    kept.write_bytes(content)
    server.gives("<html>", "text/html")
    world = World(path)
    await world.followed.begin()
    assert world.followed.source is PriceSource.FALLBACK


async def test_a_price_that_no_unit_explains_is_not_taken(server: Server, tmp_path: Path) -> None:
    """80 a kWh is what a MWh costs."""
    server.gives(json.dumps([{"time": HOUR, "price": 80}]))
    world = World(described(tmp_path, format="json", url=server.url, unit="kWh"))
    await world.followed.begin()
    assert "per MWh" in world.followed.failing["price"]
    assert world.followed.source is PriceSource.FALLBACK


async def test_a_file_that_changes_is_taken_over_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, '[price]\nkind = "flat"\nvalue = 0.1\n')
    world = World(path)
    await world.followed.begin()
    write(tmp_path, '[price]\nkind = "flat"\nvalue = 0.25\n')
    await world.followed._look_at_file()
    assert world.followed.supply.micro_per_kwh == 250_000
    write(tmp_path, '[price]\nkind = "flat"\nvalue = "free"\n')
    await world.followed._look_at_file()
    path.unlink()
    await world.followed._look_at_file()
    assert len(world.heard(TariffRefused)) == 2
    assert world.followed.supply.micro_per_kwh == 250_000
    write(tmp_path, '[price]\nkind = "flat"\nvalue = 0.125\n')
    await world.followed._look_at_file()
    assert len(world.heard(TariffRead)) == 1
    assert world.followed.supply.micro_per_kwh == 125_000


# Signals


async def look(source: CurtailmentSource, now: int = NOW) -> tuple[FollowedSignal, list[Event]]:
    events: list[Event] = []
    followed = FollowedSignal(source, clock=lambda: now, events=events.append)
    async with aiohttp.ClientSession() as session:
        await followed.look(session)
    return followed, events


@pytest.mark.parametrize(
    ("content", "level", "limit_w"),
    [
        ("normal\n", Level.NORMAL, None),
        ("SHED", Level.SHED, None),
        ("drain", Level.DRAIN, None),
        ('{"level": "shed", "limit_kw": 2.5, "until": "2026-01-31T13:00Z"}', Level.SHED, 2_500),
        ('{"level": "drain", "until": "2026-01-31T12:20Z"}', Level.NORMAL, None),
        ('{"limit_kw": 0}', Level.NORMAL, 0),
    ],
)
async def test_a_file_is_a_signal(tmp_path: Path, content: str, level: Level, limit_w: int | None) -> None:
    followed, events = await look(CurtailmentSource(path=write(tmp_path, content, "signal"), url=None))
    assert (followed.signal.level, followed.signal.limit_w, events) == (level, limit_w, [])


async def test_no_file_asks_nothing_and_a_broken_one_is_told(tmp_path: Path) -> None:
    source = CurtailmentSource(path=tmp_path / "signal", url=None)
    assert (await look(source))[0].signal is AT_EASE
    for broken in ("later", "{", '{"level": 3}', '{"limit_kw": -1}', '{"level": "shed", "what": 1}', "[]"):
        write(tmp_path, broken, "signal")
        followed, events = await look(source)
        assert followed.signal is AT_EASE
        assert [type(event) for event in events] == [SignalNotRead], broken


async def test_openadr_events_shed_drain_and_cap(server: Server, tmp_path: Path) -> None:
    write(tmp_path, SECRET, "token")
    source = CurtailmentSource(path=None, url=server.url, program="44", token_file=tmp_path / "token")
    for payloads, level, limit in (
        ([{"type": "SIMPLE", "values": [1]}], Level.SHED, None),
        ([{"type": "SIMPLE", "values": [0]}, {"type": "SIMPLE", "values": [3]}], Level.NORMAL, None),
        ([{"type": "SIMPLE", "values": [2]}], Level.DRAIN, None),
        ([{"type": "ALERT_GRID_EMERGENCY", "values": ["storm"]}], Level.DRAIN, None),
        ([{"type": "IMPORT_CAPACITY_LIMIT", "values": [7.5]}], Level.NORMAL, 7_500),
        ([{"type": "PRICE", "values": [0.17]}], Level.NORMAL, None),
    ):
        server.gives(json.dumps([openadr_event(HOUR, *payloads)]))
        followed, events = await look(source)
        assert (followed.signal.level, followed.signal.limit_w, events) == (level, limit, [])
    asked = server.asked[0]
    assert (asked.path, asked.query["programID"], asked.headers["Authorization"]) == (
        "/events",
        "44",
        f"Bearer {SECRET}",
    )
    server.gives(json.dumps([openadr_event(HOUR - 7200, {"type": "SIMPLE", "values": [2]})]))
    assert (await look(source))[0].signal == AT_EASE, "it is over"


@pytest.mark.parametrize("answer", ["<html>", "{}", '[{"intervals": 3}]', '[{"intervals": [{"id": 0}]}]', "[3]", "NaN"])
async def test_a_server_of_signals_that_says_something_else(server: Server, answer: str) -> None:
    server.gives(answer)
    followed, events = await look(CurtailmentSource(path=None, url=server.url))
    assert followed.signal is AT_EASE
    assert [type(event) for event in events] == [SignalNotRead]
