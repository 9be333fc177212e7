"""What a tariff is made of: its file, the answers of feeds, and signals of a grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from node.tariff.columns import intervals_of_columns
from node.tariff.description import Feed, FeedFormat
from node.tariff.follow import checked_tariff
from node.tariff.formats import intervals_in
from node.tariff.kept import points_of
from node.tariff.numbers import PRICE
from node.tariff.points import quarters
from node.tariff.signals import signal_of_events, signal_of_file
from protocol.errors import ConfigurationError, PeerError
from scripts.fuzzing.files import in_file
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree

__all__ = ["targets"]

NOW = 1_769_860_800
_JSON: Mutator = several(json_tree(), json_tree(), raw)
_LINES: Mutator = several(lines, lines, raw)
_HOURS = [0] * 12 + [1] * 12


def _tariff(data: bytes) -> None:
    with in_file(data, "tariff.toml") as path:
        checked_tariff(path, NOW)


def _tariffs() -> list[bytes]:
    table = "energyratestructure = [[{ rate = 0.1, max = 5 }, { rate = 0.2 }], [{ rate = 0.3 }]]\n"
    table += f"energyweekdayschedule = {[_HOURS] * 12}\n"
    flat = '[price]\nkind = "flat"\nvalue = 0.1\nunit = "kWh"\n'
    more = '[[charge]]\nname = "VAT"\npercent = 19\n[load]\nkw = 5\n[[tranche]]\nkw = 2\nprice = "grid"\n'
    top = 'currency = "EUR"\nzone = "Europe/Berlin"\nweekend = ["Sun"]\nholidays = ["12-25"]\n'
    rate = "[exchange]\nrate = 1.08\nas_of = 2026-01-01\n"
    feed = '[price]\nkind = "feed"\nformat = "nordpool"\nurl = "http://x"\narea = "SE3"\nfallback = 0.2\n'
    return [text.encode() for text in (top + flat + more + rate, f'[price]\nkind = "table"\n{table}{more}', feed)]


def _feed(format_: FeedFormat) -> Feed:
    return Feed(
        **{"format": format_, "url": "http://x", "path": None, "scale": Decimal(1000), "fallback": 0, "stale_s": 0},
        refresh_s=900,
        area="SE3",
        list_at=("data",) if format_ is FeedFormat.JSON else (),
        end_key="end",
    )


def _answer(format_: FeedFormat) -> Callable[[bytes], object]:
    feed = _feed(format_)
    return lambda data: quarters(intervals_in(data, feed, "x"), feed.scale, PRICE, NOW)


def _csv(data: bytes) -> object:
    with in_file(data, "prices.csv") as path:
        return quarters(intervals_of_columns(path, _feed(FeedFormat.CSV)), Decimal(1), PRICE, NOW)


_BEGIN, _END = "2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"
_ENTSOE = f"""<?xml version="1.0" encoding="UTF-8"?>
<Publication_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3">
<TimeSeries><currency_Unit.name>EUR</currency_Unit.name><price_Measure_Unit.name>MWH</price_Measure_Unit.name>
<curveType>A03</curveType><Period><timeInterval><start>{_BEGIN}</start><end>{_END}</end></timeInterval>
<resolution>PT15M</resolution>
<Point><position>1</position><price.amount>50.1</price.amount></Point>
<Point><position>3</position><price.amount>-5</price.amount></Point>
</Period></TimeSeries></Publication_MarketDocument>"""
_ANSWERS: dict[FeedFormat, object] = {
    FeedFormat.NORDPOOL: {
        "currency": "EUR",
        "multiAreaEntries": [{"deliveryStart": _BEGIN, "deliveryEnd": _END, "entryPerArea": {"SE3": 34.5}}],
    },
    FeedFormat.OCTOPUS: {"results": [{"value_inc_vat": 20.1, "valid_from": _BEGIN, "valid_to": None}]},
    FeedFormat.JSON: {
        "data": [{"time": NOW, "end": NOW + 900, "price": 0.1}, {"time": NOW + 900, "end": _END, "price": 2}]
    },
}


def _events(kind: str) -> bytes:
    period = {"start": _BEGIN, "duration": "PT1H"}
    payloads = [{"type": kind, "values": [1]}]
    return json.dumps([{"id": "7", "intervalPeriod": period, "intervals": [{"id": 0, "payloads": payloads}]}]).encode()


def targets() -> list[Target]:
    """See the module."""
    remote, local = (PeerError,), (PeerError, ConfigurationError)
    return [
        Target(name="tariff", seeds=_tariffs, run=_tariff, errors=local, mutators=(_LINES,), short=200, long=200_000),
        Target(
            name="feed-entsoe",
            seeds=lambda: [_ENTSOE.encode()],
            run=_answer(FeedFormat.ENTSOE),
            errors=remote,
            mutators=(_LINES,),
        ),
        *(
            Target(
                name=f"feed-{format_}",
                seeds=lambda answer=answer: [json.dumps(answer).encode()],  # type: ignore[misc]
                run=_answer(format_),
                errors=remote,
                mutators=(_JSON,),
            )
            for format_, answer in _ANSWERS.items()
        ),
        Target(
            name="feed-openadr",
            seeds=lambda: [_events("PRICE")],
            run=_answer(FeedFormat.OPENADR),
            errors=remote,
            mutators=(_JSON,),
        ),
        Target(
            name="feed-csv",
            seeds=lambda: [f"time,end,price\n{_BEGIN},{_END},0.1\n".encode()],
            run=_csv,
            errors=local,
            mutators=(_LINES,),
        ),
        Target(
            name="kept-feed",
            seeds=lambda: [
                b'{"version": 1, "read_at": %d, "points": [[%d, 100000], [%d, -5]]}' % (NOW, NOW, NOW + 900)
            ],
            run=lambda data: points_of(data, PRICE, 0, NOW),
            errors=remote,
            mutators=(_JSON, raw),
            long=200_000,
        ),
        Target(
            name="signal-file",
            seeds=lambda: [b"shed", b'{"level": "drain", "until": 1769864400, "limit_kw": 2.5, "reason": "peak"}'],
            run=lambda data: signal_of_file(data, "x"),
            errors=remote,
            mutators=(_JSON, raw),
        ),
        Target(
            name="signal-events",
            seeds=lambda: [_events("SIMPLE"), _events("IMPORT_CAPACITY_LIMIT")],
            run=lambda data: signal_of_events(data, "x", NOW),
            errors=remote,
            mutators=(_JSON,),
        ),
    ]
