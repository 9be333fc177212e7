"""What each feed's bytes say, as intervals. Each function takes one answer, and raises MalformedError, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

from node.tariff.description import Feed, FeedFormat
from node.tariff.documents import parse_json
from node.tariff.numbers import number
from node.tariff.points import Interval, intervals_of, time_of
from protocol.errors import MalformedError

__all__ = ["durations_s", "found_at", "intervals_in"]

Reader = Callable[[bytes, Feed, str], list[Interval]]
_OPEN_END_S = 4 * 86_400
"""A price without an end holds for as long as anybody looks ahead."""
_MOST_POINTS = 100_000
_MOST_IN_A_PERIOD = 10_000


def intervals_in(data: bytes, feed: Feed, whence: str) -> list[Interval]:
    """What an answer or a file says.

    Raises MalformedError: it is not in the feed's format, or what it says is of another currency or unit.
    """
    readers: dict[FeedFormat, Reader] = {
        FeedFormat.ENTSOE: _entsoe,
        FeedFormat.NORDPOOL: _nordpool,
        FeedFormat.OCTOPUS: _octopus,
        FeedFormat.OPENADR: _openadr,
        FeedFormat.JSON: _json,
    }
    try:
        return readers[feed.format](data, feed, whence)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedError(f"{whence} gave something else than the format {feed.format} has") from None
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{whence}: {error}") from None


# ENTSO-E: IEC 62325 publication documents


def _entsoe(data: bytes, feed: Feed, whence: str) -> list[Interval]:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or data[:256].lstrip().lower().startswith(b"<html"):
        raise MalformedError(f"{whence} gave a page for people (HTML), or XML with declarations of its own")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - bounded, and without declarations
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also for an encoding that nobody knows
        raise MalformedError(f"{whence} gave no XML, or not a whole one: {error}") from None
    if _plain(root.tag) == "Acknowledgement_MarketDocument":
        raise MalformedError(f"{whence} says: {_text(root, 'Reason/text')[:200]}")
    if _plain(root.tag) != "Publication_MarketDocument":
        raise MalformedError(f"{whence} gave a {_plain(root.tag)[:64]}, not a Publication_MarketDocument")
    by_step: dict[int, list[Interval]] = {}
    for series in _children(root, "TimeSeries"):
        # Where an auction is held twice the first is the one that prices are named after.
        order = _text(series, "classificationSequence_AttributeInstanceComponent.position")
        if order not in ("", "1"):
            continue
        _hold(feed, _text(series, "currency_Unit.name"), _text(series, "price_Measure_Unit.name"), whence)
        for period in _children(series, "Period"):
            step, found = _period(period, repeats=_text(series, "curveType") == "A03")
            by_step.setdefault(step, []).extend(found)
    if not by_step:
        raise MalformedError(f"{whence} gave a document without prices")
    return by_step[min(by_step)]


def _hold(feed: Feed, currency: str, unit: str, whence: str) -> None:
    if currency and feed.currency and currency != feed.currency:
        raise MalformedError(f"{whence} gives prices in {currency}, and the tariff's currency is {feed.currency}")
    if unit and unit.upper() != "MWH":
        raise MalformedError(f"{whence} gives prices per {unit[:16]}, not per MWh")


def _period(period: ElementTree.Element, *, repeats: bool) -> tuple[int, list[Interval]]:
    """A period's step in seconds, and its points; where they repeat, one that is left out is as the one before."""
    begin, end = time_of(_text(period, "timeInterval/start")), time_of(_text(period, "timeInterval/end"))
    step = durations_s(_text(period, "resolution"))
    count = (end - begin) // step if step else 0
    if not 0 < count <= _MOST_IN_A_PERIOD:
        raise ValueError("a period without a length, or of more than a hundred days")
    given = {int(_text(each, "position")): number(_text(each, "price.amount")) for each in _children(period, "Point")}
    made: list[Interval] = []
    for position in range(1, count + 1):
        value = given.get(position)
        if value is None and repeats and made:
            value = made[-1].value
        if value is not None:
            made.append(Interval(begin + (position - 1) * step, begin + position * step, value))
    return step, made


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (each for each in element if _plain(each.tag) == name)


def _text(element: ElementTree.Element, path: str) -> str:
    """The text at a path of names without namespaces; empty where there is none."""
    for name in path.split("/"):
        found = next(_children(element, name), None)
        if found is None:
            return ""
        element = found
    return (element.text or "").strip()


def durations_s(text: str) -> int:
    """Seconds of an ISO 8601 duration such as PT15M or P1D. Raises ValueError."""
    match = re.fullmatch(r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?", text)
    if match is None or not any(match.groups()):
        raise ValueError(f"{text[:32]!r} is no duration")
    days, hours, minutes, seconds = (int(each or 0) for each in match.groups())
    return int(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds())


# Nord Pool: the data portal's DayAheadPrices


def _nordpool(data: bytes, feed: Feed, whence: str) -> list[Interval]:
    found = parse_json(data, whence)
    _hold(feed, str(found.get("currency", "")), "", whence)
    entries = _listed(found["multiAreaEntries"])
    if entries and all(feed.area not in each["entryPerArea"] for each in entries):
        raise MalformedError(f"{whence} has no prices of the area {feed.area}")
    return [
        Interval(time_of(each["deliveryStart"]), time_of(each["deliveryEnd"]), number(each["entryPerArea"][feed.area]))
        for each in entries
        if each["entryPerArea"].get(feed.area) is not None
    ]


# Octopus: standard unit rates, in pence with value added tax


def _octopus(data: bytes, feed: Feed, whence: str) -> list[Interval]:
    _hold(feed, "GBP", "", whence)
    made = []
    for each in _listed(parse_json(data, whence)["results"]):
        if each.get("payment_method") == "NON_DIRECT_DEBIT":
            continue  # the same times again, for another way to pay
        begin, until = time_of(each["valid_from"]), each.get("valid_to")
        end = max(begin, time_of("2000-01-01T00:00Z")) + _OPEN_END_S if until is None else time_of(until)
        made.append(Interval(begin, end, number(each["value_inc_vat"])))
    return made


# OpenADR 3: events with prices or carbon


def _openadr(data: bytes, feed: Feed, whence: str) -> list[Interval]:
    wanted = feed.value_key if feed.value_key in ("PRICE", "GHG") else "PRICE"
    made = []
    for event in _listed(parse_json(data, whence)):
        for interval in _listed(event["intervals"]):
            period = interval.get("intervalPeriod") or event["intervalPeriod"]
            begin, long_s = time_of(period["start"]), durations_s(period["duration"])
            if "intervalPeriod" not in interval or interval["intervalPeriod"] is None:
                begin += long_s * int(interval["id"])  # intervals of one length follow one another
            for payload in _listed(interval["payloads"]):
                if payload["type"] == wanted:
                    made.append(Interval(begin, begin + long_s, number(payload["values"][0])))
    return made


# Any other JSON


def _json(data: bytes, feed: Feed, whence: str) -> list[Interval]:
    rows = _listed(found_at(parse_json(data, whence), feed.list_at))
    return intervals_of([_row(row, feed) for row in rows], feed.resolution_s)


def _row(row: Any, feed: Feed) -> tuple[int, int | None, Decimal]:
    end = time_of(found_at(row, tuple(feed.end_key.split("."))), feed.zone) if feed.end_key else None
    begin = time_of(found_at(row, tuple(feed.time_key.split("."))), feed.zone)
    return begin, end, number(found_at(row, tuple(feed.value_key.split("."))))


def found_at(value: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of keys, and of numbers for lists. Raises ValueError, which names the key."""
    for key in path:
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise ValueError(f"there is no {key[:64]!r} where {'.'.join(path)[:128]} leads")
    return value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_POINTS:
        raise ValueError("there is no list of prices, or one that is far too long")
    return value
