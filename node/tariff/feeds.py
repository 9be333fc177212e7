"""Where a feed's values come from: a file, or questions to its server for some days."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import aiohttp

from node.tariff.columns import intervals_of_columns
from node.tariff.description import Feed, FeedFormat, Quantity
from node.tariff.documents import MAX_FILE_BYTES, read_bounded, secret_of
from node.tariff.formats import intervals_in
from node.tariff.points import Interval, quarters
from node.tariff.web import fetch
from protocol.errors import MalformedError

__all__ = ["read_feed"]

_DAY_S = 86_400
_BACK_S, _AHEAD_S = 2 * _DAY_S, 2 * _DAY_S
"""What is asked for, around now: what was is what a stale feed is filled with."""


async def read_feed(feed: Feed, quantity: Quantity, session: aiohttp.ClientSession, now: int) -> dict[int, int]:
    """Values by the start of each quarter.

    Raises:
        PeerError: what came is not in the feed's format, or out of bounds.
        LocalError: the file cannot be read, or the server does not answer.
    """
    if feed.path is not None:
        return await asyncio.to_thread(_of_file, feed, quantity, now)
    token = await asyncio.to_thread(secret_of, feed.token_file)
    made: dict[int, int] = {}
    for parameters, headers in _questions(feed, token, now):
        data = await fetch(session, feed.url or "", parameters=parameters, headers=headers)
        if data:  # no content: tomorrow is not out yet
            intervals = await asyncio.to_thread(intervals_in, data, feed, feed.place)
            made.update(await asyncio.to_thread(quarters, intervals, feed.scale, quantity, now))
    if not made:
        raise MalformedError(f"{feed.place} has no values for these days")
    return made


def _of_file(feed: Feed, quantity: Quantity, now: int) -> dict[int, int]:
    path = feed.path
    assert path is not None
    if feed.format in (FeedFormat.CSV, FeedFormat.PARQUET):
        intervals: Sequence[Interval] = intervals_of_columns(path, feed)
    else:
        intervals = intervals_in(read_bounded(path, MAX_FILE_BYTES), feed, str(path))
    return quarters(intervals, feed.scale, quantity, now)


Question = tuple[Mapping[str, str], Mapping[str, str]]
"""Parameters and headers."""


def _questions(feed: Feed, token: str, now: int) -> list[Question]:
    """What to ask a server around `now`."""
    given = dict(feed.parameters)
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (now - _BACK_S, now + _AHEAD_S))
    match feed.format:
        case FeedFormat.ENTSOE:
            asked = {"documentType": "A44", "in_Domain": feed.area, "out_Domain": feed.area}
            asked |= {"periodStart": f"{begin:%Y%m%d0000}", "periodEnd": f"{end:%Y%m%d0000}", "securityToken": token}
            return [({**asked, **given}, {})]
        case FeedFormat.NORDPOOL:
            asked = {"market": "DayAhead", "deliveryArea": feed.area, "currency": feed.currency, **given}
            return [({"date": day.isoformat(), **asked}, bearer) for day in _days(begin.date(), end.date())]
        case FeedFormat.OCTOPUS:
            asked = {"period_from": f"{begin:%Y-%m-%dT%H:%MZ}", "period_to": f"{end:%Y-%m-%dT%H:%MZ}"}
            return [({**asked, "page_size": "1500", **given}, bearer)]
        case _:
            return [(given, bearer)]


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
