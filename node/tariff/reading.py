"""A tariff file as values: strictly, with errors that name the key."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from node.settings.kinds import Choice, Fixed, Folder, Text, Whole
from node.settings.places import WebAddress
from node.tariff.description import (
    LEDGERS_CURRENCY,
    CurtailmentSource,
    Curve,
    Exchange,
    Feed,
    FeedFormat,
    Flat,
    Load,
    Quantity,
    Table,
    Tariff,
    Tranche,
)
from node.tariff.documents import MAX_FILE_BYTES, parse_json, read_bounded
from node.tariff.local_time import WEEKDAYS, SiteCalendar, zone_of
from node.tariff.numbers import CARBON, PRICE, PUE, number, scaled
from node.tariff.strict_table import StrictTable
from node.tariff.urdb import URDB_KEYS, table_of
from protocol.encoding.bounded_toml import parse_toml
from protocol.energy.charges import MAX_LOAD_W, MAX_RATE_PPM, Charge
from protocol.energy.rate_table import Schedule, schedule_of
from protocol.errors import ConfigurationError, InvalidError, PeerError
from protocol.units import MICRO

__all__ = ["read_tariff"]

_DAY_S = 86_400
_HINT = "docs/how-to/follow-a-tariff.md has examples"
_WORD = Text("a word", pattern=r"[\w .,()-]{1,64}")
_CURRENCY = Text("a code of three letters, like EUR", metavar="CODE", pattern="[A-Z]{3}")
_PATH_KEY = Text("names with dots between, such as data.prices", pattern=r"[\w@$-]+(\.[\w@$-]+)*")
_PERCENT = Fixed("percent", 4, "-100", "1000")
_SECONDS = Whole("seconds", 0, 30 * _DAY_S)


def read_tariff(path: Path) -> Tariff:
    """What a tariff file says. Raises ConfigurationError, which names the key, table and file that is wrong."""
    try:
        values = parse_toml(read_bounded(path, MAX_FILE_BYTES).decode())
    except (InvalidError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}", hint=_HINT) from None
    top = StrictTable(values, f"at the top of {path}")
    site = _calendar(top)
    currency = top.get("currency", _CURRENCY, LEDGERS_CURRENCY)
    price = _curve(_required(top, "price"), PRICE, path, currency)
    load = _load(top.table("load"))
    tariff = Tariff(
        path=path,
        currency=currency,
        calendar=site,
        ahead_s=top.get("clock_ahead_s", Whole("seconds", -366 * _DAY_S, 366 * _DAY_S), 0),
        price=price,
        charges=tuple(map(_charge, top.tables("charge", 32))),
        tranches=tuple(map(_tranche, top.tables("tranche", 32))),
        load=load,
        exchange=_exchange(top.table("exchange"), path),
        pue=_optional_curve(top.table("pue"), PUE, path),
        carbon=_optional_curve(top.table("carbon"), CARBON, path),
        curtailment=_curtailment(top.table("curtailment"), path),
    )
    top.close()
    _require_whole(tariff)
    return tariff


def _require_whole(tariff: Tariff) -> None:
    """Parts that need one another. Raises ConfigurationError."""
    demand = isinstance(tariff.price, Table) and (tariff.price.demand.flat or tariff.price.demand.periods)
    if (tariff.tranches or demand) and tariff.load.watts is None:
        raise ConfigurationError(
            f"kw is missing in [load] of {tariff.path}: tranches and demand charges depend on what the site draws",
            hint="write [load] and kw = 12.5",
        )
    if (tariff.currency == LEDGERS_CURRENCY) != (tariff.exchange is None):
        hint = "write [exchange] with rate and as_of" if tariff.exchange is None else "leave [exchange] out"
        raise ConfigurationError(
            f"currency at the top of {tariff.path} is {tariff.currency}, and the ledger counts {LEDGERS_CURRENCY}",
            hint=hint,
        )


def _required(top: StrictTable, key: str) -> StrictTable:
    found = top.table(key)
    if found is None:
        raise ConfigurationError(f"[{key}] is missing {top.where}", hint=f'write [{key}] and kind = "flat"')
    return found


def _calendar(top: StrictTable) -> SiteCalendar:
    zone = zone_of(top.get("zone", Text("an IANA time zone", pattern=r"[\w+/-]{1,64}"), "UTC"))
    weekend = top.checked("weekend", _weekend, "days like Sat") if "weekend" in top else frozenset({5, 6})
    holidays = top.checked("holidays", _holidays, "dates, or months and days") if "holidays" in top else frozenset()
    return SiteCalendar(zone, weekend, holidays)


def _weekend(raw: Any) -> frozenset[int]:
    if not isinstance(raw, list) or not set(raw) <= set(WEEKDAYS):
        raise ValueError(f"{raw!r} is not a list of {', '.join(WEEKDAYS)}")
    return frozenset(WEEKDAYS.index(each) for each in raw)


def _holidays(raw: Any) -> frozenset[str]:
    if not isinstance(raw, list) or len(raw) > 1000:
        raise ValueError("it is a list")
    return frozenset(_holiday(each) for each in raw)


def _holiday(raw: Any) -> str:
    if type(raw) is date:
        return raw.isoformat()
    if isinstance(raw, str):
        dated = raw if len(raw) == 10 else f"2000-{raw}"
        date.fromisoformat(dated)
        return raw
    raise ValueError(f"{raw!r} is neither 2026-12-25 nor 12-25")


def _optional_curve(table: StrictTable | None, quantity: Quantity, path: Path) -> Curve | None:
    return None if table is None else _curve(table, quantity, path, "")


def _curve(table: StrictTable, quantity: Quantity, path: Path, currency: str) -> Curve:
    kind = table.take("kind", Choice(("flat", "table", "feed")))
    usual = next(iter(quantity.units))
    # A feed of prices says its unit itself, or has to be told; so there is no usual one to guess.
    unit = table.get("unit", Text("a unit", pattern="|".join(map(_escaped, quantity.units))), usual)
    scale = quantity.units[unit]
    made: Curve
    if kind == "flat":
        made = Flat(value=table.checked("value", lambda raw: scaled(number(raw), scale, quantity), "a number"))
    elif kind == "table":
        made = _table(table, quantity, scale, path)
    else:
        made = _feed(table, quantity, scale, path, currency)
    table.close()
    return made


def _escaped(unit: str) -> str:
    return unit.replace("/", r"\/")


def _table(table: StrictTable, quantity: Quantity, scale: Decimal, path: Path) -> Table:
    values: Mapping[str, Any] = {key: table.raw(key) for key in URDB_KEYS if key in table}
    where = table.where
    if "file" in table:
        file = path.parent / table.take("file", Folder())
        where = f"in {file}"
        values = _urdb_file(file)
    for key in URDB_KEYS:
        table.raw(key)
    if quantity is not PRICE and any("demand" in key for key in values):
        table.refuse("demandratestructure", f"a {quantity.name} has no demand charges", _HINT)
    return table_of(values, where, scale=scale, quantity=quantity)


def _urdb_file(file: Path) -> Mapping[str, Any]:
    try:
        found = parse_json(read_bounded(file, MAX_FILE_BYTES), str(file))
    except PeerError as error:
        raise ConfigurationError(error.message, hint=_HINT) from None
    items = found.get("items") if isinstance(found, dict) else None
    if isinstance(items, list) and len(items) == 1:
        found = items[0]
    if not isinstance(found, dict):
        raise ConfigurationError(f"{file} does not hold one rate", hint="save one item of the service's answer")
    return {key: found[key] for key in URDB_KEYS if found.get(key) is not None}


_FILE_FORMATS = (FeedFormat.JSON, FeedFormat.CSV, FeedFormat.PARQUET)


def _feed(table: StrictTable, quantity: Quantity, scale: Decimal, path: Path, currency: str) -> Feed:
    format_ = FeedFormat(table.take("format", Choice(tuple(FeedFormat))))
    file = table.get("file", Folder(), None)
    url = None if file is not None else table.take("url", WebAddress())
    if url is None and format_ not in (*_FILE_FORMATS, FeedFormat.ENTSOE, FeedFormat.NORDPOOL, FeedFormat.OCTOPUS):
        table.refuse("file", f"a {format_} feed is not read from a file", "give url")
    if url is not None and format_ in (FeedFormat.CSV, FeedFormat.PARQUET):
        table.refuse("url", f"{format_} is read from files only", "give file")
    if format_ in (FeedFormat.ENTSOE, FeedFormat.NORDPOOL):
        scale = PRICE.units["MWh"]
    elif format_ is FeedFormat.OCTOPUS:
        scale = PRICE.units["cents/kWh"]
    elif "unit" not in table and quantity is PRICE and format_ is not FeedFormat.OPENADR:
        table.refuse("unit", "a feed of prices has to say what they are per", 'write unit = "kWh" or unit = "MWh"')
    token = table.get("token_file", Folder(), None)
    zone = table.get("zone", Text("an IANA time zone", pattern=r"[\w+/-]{1,64}"), None)
    return Feed(
        format=format_,
        url=url,
        path=None if file is None else path.parent / file,
        scale=scale,
        fallback=table.checked("fallback", lambda raw: scaled(number(raw), _usual(quantity), quantity), "a number"),
        stale_s=table.get("stale_after_s", _SECONDS, 2 * _DAY_S),
        refresh_s=table.get("refresh_s", Whole("seconds", 5, _DAY_S), 900),
        parameters=table.checked("parameters", _parameters, "a table of texts") if "parameters" in table else (),
        token_file=None if token is None else path.parent / token,
        area=table.take("area", _WORD) if format_ in (FeedFormat.ENTSOE, FeedFormat.NORDPOOL) else "",
        currency=currency,
        list_at=tuple(table.get("list", _PATH_KEY, "").split(".")) if "list" in table else (),
        time_key=table.get("time", _PATH_KEY, "time"),
        end_key=table.get("end", _PATH_KEY, ""),
        value_key=table.get("value", _PATH_KEY, "price"),
        resolution_s=table.get("resolution_s", Whole("seconds", 60, _DAY_S), None),
        zone=None if zone is None else zone_of(zone),
    )


def _usual(quantity: Quantity) -> Decimal:
    return next(iter(quantity.units.values()))


def _parameters(raw: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, dict) or not all(isinstance(each, (str, int)) for each in raw.values()) or len(raw) > 32:
        raise ValueError("it is a table of texts")
    return tuple((str(key), str(value)) for key, value in raw.items())


def _charge(table: StrictTable) -> Charge:
    name = table.get("name", _WORD, "charge")
    per_kwh = (
        table.checked("per_kwh", lambda raw: scaled(number(raw), _usual(PRICE), PRICE), "a number")
        if "per_kwh" in table
        else 0
    )
    share = table.get("percent", _PERCENT, 0)
    table.close()
    try:
        return Charge(name, per_kwh, share)
    except InvalidError as error:
        table.refuse("per_kwh", error.message, _HINT)


def _tranche(table: StrictTable) -> Tranche:
    name = table.get("name", _WORD, "tranche")
    watts: int | Schedule
    if "kw_by_hour" in table:
        watts = table.checked("kw_by_hour", _watts_by_hour, "12 rows of 24 numbers")
    else:
        watts = table.checked("kw", _watts, "a number of kW")
    price: int | None = None
    if table.raw("price") != "grid":
        price = table.checked("price", lambda raw: scaled(number(raw), _usual(PRICE), PRICE), 'a number, or "grid"')
    table.close()
    return Tranche(name=name, watts=watts, price=price)


def _watts(raw: Any) -> int:
    watts = int(number(raw) * 1000)
    if not 0 <= watts <= MAX_LOAD_W:
        raise ValueError(f"{raw} kW is outside 0 to {MAX_LOAD_W // 1000}")
    return watts


def _watts_by_hour(raw: Any) -> Schedule:
    try:
        rows = [[_watts(each) for each in row] for row in raw]
        return schedule_of(rows, MAX_LOAD_W + 1, "the table")
    except InvalidError as error:
        raise ValueError(error.message) from None


def _load(table: StrictTable | None) -> Load:
    if table is None:
        return Load()
    watts = table.checked("kw", _watts, "a number of kW") if "kw" in table else None
    if watts == 0:
        table.refuse("kw", "a site that draws nothing", "say what it draws at work")
    monthly = (
        table.checked("monthly_kwh", lambda raw: int(number(raw) * 1000), "a number") if "monthly_kwh" in table else 0
    )
    factor = table.get("load_factor", Fixed("percent", 4, "0.1", "100"), MICRO)
    table.close()
    return Load(watts=watts, monthly_wh=monthly, factor_ppm=factor)


def _exchange(table: StrictTable | None, path: Path) -> Exchange | None:
    if table is None:
        return None
    oldest = table.get("oldest_days", Whole("days", 1, 3650), 7 if "file" in table else None)
    if "file" in table:
        file = path.parent / table.take("file", Folder())
        table.close()
        return Exchange(rates=_rates_of(file), oldest_days=oldest)
    rate = table.checked("rate", _rate, f"{LEDGERS_CURRENCY} for one unit")
    since = table.checked("as_of", _day, "the day of the rate, like 2026-01-31")
    table.close()
    return Exchange(rates=((since, rate),), oldest_days=oldest)


def _rate(raw: Any) -> int:
    rate = int((number(raw) * MICRO).to_integral_value())
    if not 1 <= rate <= MAX_RATE_PPM:
        raise ValueError(f"a rate of {raw} is outside 0.000001 to {MAX_RATE_PPM // MICRO}")
    return rate


def _day(raw: Any) -> date:
    return raw if type(raw) is date else date.fromisoformat(raw)


def _rates_of(file: Path) -> tuple[tuple[date, int], ...]:
    """Of a CSV file with the columns date and rate. Raises ConfigurationError."""
    found = {}
    rows = csv.DictReader(io.StringIO(read_bounded(file, MAX_FILE_BYTES).decode("utf-8-sig", "replace")))
    try:
        for row in rows:
            found[_day(row["date"])] = _rate(row["rate"])
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"line {rows.line_num} of {file}: {error}", hint="its columns are date and rate: 2026-01-31,1.08"
        ) from None
    if not found:
        raise ConfigurationError(f"{file} has no rates", hint="its columns are date and rate: 2026-01-31,1.08")
    return tuple(sorted(found.items()))


def _curtailment(table: StrictTable | None, path: Path) -> CurtailmentSource | None:
    if table is None:
        return None
    file, url = table.get("file", Folder(), None), table.get("url", WebAddress(), None)
    if (file is None) == (url is None):
        table.refuse("file", "a signal comes from a file or from a url", "give one of the two")
    token = table.get("token_file", Folder(), None)
    program = table.get("program", Text("an id", pattern=r"[\w.-]{1,128}"), "")
    poll_s = table.get("poll_s", Whole("seconds", 1, 3600), 5 if url is None else 60)
    table.close()
    return CurtailmentSource(
        path=None if file is None else path.parent / file,
        url=url,
        program=program,
        token_file=None if token is None else path.parent / token,
        poll_s=poll_s,
    )
