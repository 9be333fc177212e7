"""Tariff files, and what the servers of feeds answer, in their documented formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

__all__ = [
    "entsoe",
    "nordpool",
    "octopus",
    "openadr_event",
    "stamp",
    "table_toml",
    "unix",
    "write",
]


def write(folder: Path, text: str, name: str = "tariff.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def unix(text: str) -> int:
    """Of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def stamp(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def rows(row: Sequence[int]) -> str:
    return "[\n" + ",\n".join(f"  {list(row)}" for _ in range(12)) + "\n]"


def table_toml(
    prices: Sequence[float], weekday: Sequence[int], weekend: Sequence[int] | None = None, *, top: str = ""
) -> str:
    """A tariff by the hour: a price for each period, and a period for each hour."""
    periods = ", ".join(f"[{{ rate = {price} }}]" for price in prices)
    return (
        f'{top}\n[price]\nkind = "table"\nenergyratestructure = [{periods}]\n'
        f"energyweekdayschedule = {rows(weekday)}\nenergyweekendschedule = {rows(weekend or weekday)}\n"
    )


def entsoe(
    start: int, prices: Sequence[str | None], *, step: str = "PT60M", seconds: int = 3600, **changes: str
) -> str:
    """A publication document: one auction, one period. None leaves a point out."""
    said = {"currency": "EUR", "unit": "MWH", "curve": "A01", "position": "1", **changes}
    points = "".join(
        f"<Point><position>{number}</position><price.amount>{price}</price.amount></Point>"
        for number, price in enumerate(prices, 1)
        if price is not None
    )
    end = start + seconds * len(prices)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Publication_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3">
  <mRID>1</mRID><revisionNumber>1</revisionNumber><type>A44</type>
  <period.timeInterval><start>{stamp(start)[:16]}Z</start><end>{stamp(end)[:16]}Z</end></period.timeInterval>
  <TimeSeries>
    <mRID>1</mRID><auction.type>A01</auction.type><businessType>A62</businessType>
    <in_Domain.mRID codingScheme="A01">10Y1001A1001A82H</in_Domain.mRID>
    <out_Domain.mRID codingScheme="A01">10Y1001A1001A82H</out_Domain.mRID>
    <contract_MarketAgreement.type>A01</contract_MarketAgreement.type>
    <currency_Unit.name>{said["currency"]}</currency_Unit.name>
    <price_Measure_Unit.name>{said["unit"]}</price_Measure_Unit.name>
    <classificationSequence_AttributeInstanceComponent.position>{said["position"]}</classificationSequence_AttributeInstanceComponent.position>
    <curveType>{said["curve"]}</curveType>
    <Period>
      <timeInterval><start>{stamp(start)[:16]}Z</start><end>{stamp(end)[:16]}Z</end></timeInterval>
      <resolution>{step}</resolution>{points}
    </Period>
  </TimeSeries>
</Publication_MarketDocument>"""


def nordpool(start: int, prices: Sequence[float], *, area: str = "SE3", currency: str = "EUR") -> str:
    """One delivery day by the quarter."""
    entries = [
        {
            "deliveryStart": stamp(start + 900 * number),
            "deliveryEnd": stamp(start + 900 * number + 900),
            "entryPerArea": {area: price},
        }
        for number, price in enumerate(prices)
    ]
    return json.dumps(
        {
            "deliveryDateCET": "2026-01-31",
            "version": 3,
            "updatedAt": stamp(start),
            "deliveryAreas": [area],
            "market": "DayAhead",
            "multiAreaEntries": entries,
            "blockPriceAggregates": [],
            "currency": currency,
            "exchangeRate": 1,
            "areaStates": [{"state": "Final", "areas": [area]}],
            "areaAverages": [{"areaCode": area, "price": 1.0}],
        }
    )


def octopus(start: int, pence: Sequence[float], *, last_open: bool = False) -> str:
    """Half hours, the latest first, as the service gives them."""
    results = [
        {
            "value_exc_vat": price / 1.05,
            "value_inc_vat": price,
            "valid_from": stamp(start + 1800 * number),
            "valid_to": None if last_open and number == len(pence) - 1 else stamp(start + 1800 * number + 1800),
            "payment_method": None,
        }
        for number, price in enumerate(pence)
    ]
    return json.dumps({"count": len(results), "next": None, "previous": None, "results": results[::-1]})


def openadr_event(start: int, *payloads: dict[str, Any], duration: str = "PT1H", name: str = "peak") -> dict[str, Any]:
    """An event whose intervals follow one another, each with one payload."""
    began = datetime.fromtimestamp(start, UTC)
    return {
        "id": "7",
        "createdDateTime": stamp(start),
        "modificationDateTime": stamp(start),
        "objectType": "EVENT",
        "programID": "44",
        "eventName": name,
        "priority": 0,
        "targets": None,
        "reportDescriptors": None,
        "payloadDescriptors": None,
        "intervalPeriod": {"start": (began + timedelta()).isoformat(), "duration": duration, "randomizeStart": "PT0S"},
        "intervals": [{"id": number, "payloads": [payload]} for number, payload in enumerate(payloads)],
    }
