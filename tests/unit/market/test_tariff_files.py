"""A tariff file becomes prices by the quarter of an hour; what is wrong with one is named by its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tariff_files import table_toml, unix, write

from node.app.selling.asks import Asks
from node.tariff.description import Feed
from node.tariff.follow import FollowedSupply, checked_tariff
from node.tariff.reading import read_tariff
from node.tariff.schedule import supply_series
from protocol.energy.price_series import PriceSource
from protocol.errors import ConfigurationError
from protocol.market.pricing import MarginPolicy, Pricing, Supply
from protocol.market.requoting import Pace

FLAT = '[price]\nkind = "flat"\nvalue = 0.10\n'
NIGHT_AND_DAY = [0] * 8 + [1] * 12 + [0] * 4


def prices(folder: Path, text: str, start: str, hours: int) -> list[int]:
    """The price of each hour's first quarter, in micro-units per kWh."""
    tariff = read_tariff(write(folder, text))
    return list(supply_series(tariff, {}, unix(start), 4 * hours).price.prices[::4])


def test_a_flat_price_with_what_comes_on_top(tmp_path: Path) -> None:
    text = FLAT + '[[charge]]\nname = "grid"\nper_kwh = 0.05\n[[charge]]\nname = "VAT"\npercent = 19\n'
    assert prices(tmp_path, text, "2026-03-01", 1) == [178_500]


def test_a_price_may_be_per_mwh_or_in_cents(tmp_path: Path) -> None:
    for unit, value in (("MWh", "100"), ("cents/kWh", "10"), ("kWh", "0.1")):
        text = f'[price]\nkind = "flat"\nvalue = {value}\nunit = "{unit}"\n'
        assert prices(tmp_path, text, "2026-03-01", 1) == [100_000]


def test_a_table_follows_local_hours_weekends_and_holidays(tmp_path: Path) -> None:
    top = 'zone = "Europe/Berlin"\nholidays = ["12-25", 2026-04-06]'
    text = table_toml([0.08, 0.31], NIGHT_AND_DAY, [0] * 24, top=top)
    assert prices(tmp_path, text, "2026-01-14T05:00", 4) == [80_000, 80_000, 310_000, 310_000], "07:00 UTC is 08:00"
    assert set(prices(tmp_path, text, "2026-01-17", 23)) == {80_000}, "a Saturday"
    assert set(prices(tmp_path, text, "2026-12-25T00:00", 22)) == {80_000}
    assert set(prices(tmp_path, text, "2026-04-06T00:00", 21)) == {80_000}
    assert 310_000 in prices(tmp_path, text, "2027-04-06T00:00", 21), "that holiday was of one year"


def test_days_of_23_and_25_hours(tmp_path: Path) -> None:
    """In Berlin 02:00 does not come on 29 March 2026, and comes twice on 25 October."""
    text = table_toml([float(hour) / 100 for hour in range(24)], range(24), top='zone = "Europe/Berlin"')
    spring = prices(tmp_path, text, "2026-03-28T23:00", 23)
    assert [price // 10_000 for price in spring] == [0, 1, *range(3, 24)]
    autumn = prices(tmp_path, text, "2026-10-24T22:00", 25)
    assert [price // 10_000 for price in autumn] == [0, 1, 2, *range(2, 24)]
    tariff = read_tariff(tmp_path / "tariff.toml")
    assert len(supply_series(tariff, {}, unix("2026-10-24T22:00"), 100).price.prices) == 100


def test_half_hour_zones_change_within_the_hour(tmp_path: Path) -> None:
    text = table_toml([0.1, 0.2], [0] * 12 + [1] * 12, top='zone = "Asia/Kolkata"')
    tariff = read_tariff(write(tmp_path, text))
    assert supply_series(tariff, {}, unix("2026-01-14T06:00"), 4).price.prices == (100_000, 100_000, 200_000, 200_000)


def test_tiers_follow_what_was_used_in_the_month(tmp_path: Path) -> None:
    text = (
        '[load]\nkw = 1\nmonthly_kwh = 1000\n[price]\nkind = "table"\n'
        "energyratestructure = [[{ rate = 0.08, max = 500 }, { rate = 0.12, adj = 0.01 }]]\n"
        f"energyweekdayschedule = {[[0] * 24] * 12}\n"
    )
    assert prices(tmp_path, text, "2026-04-15T23:00", 2) == [80_000, 130_000], "half of April"


def test_peaks_cost_by_the_kwh_of_their_hours(tmp_path: Path) -> None:
    text = (
        '[load]\nkw = 10\nload_factor = 50\n[price]\nkind = "table"\nenergyratestructure = [[{ rate = 0.10 }]]\n'
        f"energyweekdayschedule = {[[0] * 24] * 12}\n"
        "flatdemandstructure = [[{ rate = 7.2 }]]\nflatdemandmonths = [0,0,0,0,0,0,0,0,0,0,0,0]\n"
        "demandratestructure = [[{ rate = 0 }], [{ rate = 8.8 }]]\n"
        f"demandweekdayschedule = {[[0] * 16 + [1] * 4 + [0] * 4] * 12}\n"
        f"demandweekendschedule = {[[0] * 24] * 12}\n"
    )
    # April 2026 has 720 hours, and 22 working days with 4 hours of peak each.
    assert prices(tmp_path, text, "2026-04-15T15:00", 2) == [120_000, 120_000 + 200_000]


def test_supplies_of_ones_own_are_used_before_the_grid(tmp_path: Path) -> None:
    solar = [[0] * 8 + [5] * 8 + [0] * 8] * 12
    text = (
        FLAT.replace("0.10", "0.30")
        + f'[load]\nkw = 10\n[[tranche]]\nname = "PPA"\nkw = 2\nprice = 0.05\n[[tranche]]\nkw_by_hour = {solar}\n'
        'price = "grid"\n[[charge]]\nper_kwh = 0.20\n'
    )
    # The grid costs 0.50 with its fee; the sun's power would bring 0.30; without the sun only the PPA helps.
    assert prices(tmp_path, text, "2026-04-15T07:00", 2) == [410_000, 310_000]


def test_another_currency_needs_a_dated_rate(tmp_path: Path) -> None:
    dated = "[exchange]\nrate = 1.08\nas_of = 2026-01-01\n"
    assert prices(tmp_path, 'currency = "EUR"\n' + FLAT + dated, "2026-03-01", 1) == [108_000]
    write(tmp_path, "date,rate\n2026-01-01,1.10\n2026-02-01,1.20\n", "rates.csv")
    text = 'currency = "EUR"\n' + FLAT + '[exchange]\nfile = "rates.csv"\noldest_days = 30\n'
    tariff = read_tariff(write(tmp_path, text))
    for day, price, notes in (
        ("2026-01-31", 110_000, ()),
        ("2026-02-01", 120_000, ()),
        ("2026-03-04", 120_000, ("the exchange rate is of 2026-02-01",)),
        ("2025-12-31", 110_000, ("the exchange rate is of 2026-01-01",)),
    ):
        found = supply_series(tariff, {}, unix(day), 4)
        assert (found.price.prices[0], found.notes) == (price, notes)
    for wrong in ("date,rate\n2026-01-01,nan\n", "date,rate\n", "day,rate\n1,1\n", "date,rate\n2026-13-01,1\n"):
        write(tmp_path, wrong, "rates.csv")
        with pytest.raises(ConfigurationError, match=r"rates\.csv"):
            read_tariff(tmp_path / "tariff.toml")


def test_pue_and_carbon_are_curves_too(tmp_path: Path) -> None:
    table = table_toml([300, 500], NIGHT_AND_DAY).replace("[price]", "[carbon]")
    text = FLAT + '[pue]\nkind = "flat"\nvalue = 1.25\n' + table
    followed = FollowedSupply(
        write(tmp_path, text), Supply(1, 1000, 7), clock=lambda: unix("2026-01-14T07:30"), events=lambda _: None
    )
    assert followed.supply == Supply(100_000, 1250, 300)
    assert [each.carbon_g_per_kwh for each in followed.hours(2)] == [500, 500]
    assert len(followed.hours()) == 48
    forecast = _asks(followed).carbon_forecast()
    assert (len(forecast), forecast[:2], set(forecast)) == (48, (500, 500), {300, 500})


def test_carbon_that_stays_or_is_not_known_is_not_forecast() -> None:
    for carbon in (None, 7):
        settled = FollowedSupply(None, Supply(1, 1000, carbon), clock=lambda: 1_800_000_000, events=lambda _: None)
        assert _asks(settled).carbon_forecast() == ()


def _asks(power: FollowedSupply) -> Asks:
    return Asks(pricing=Pricing(policy=MarginPolicy.FIXED), power=power, pace=Pace(least_s=600, least_ppm=0))


def test_a_rate_of_the_database_is_read_as_its_service_gives_it(tmp_path: Path) -> None:
    item = {
        "label": "5374efea9bef51471a6965d0", "utility": "Example Electric Co", "name": "TOU", "startdate": 1704067200,
        "fixedchargefirstmeter": 12.5, "energyratestructure": [[{"rate": 0.08, "unit": "kWh"}], [{"rate": 0.31}]],
        "energyweekdayschedule": [NIGHT_AND_DAY] * 12, "energyweekendschedule": [[0] * 24] * 12,
    }  # fmt: skip
    for document in (item, {"items": [item]}):
        write(tmp_path, json.dumps(document), "rate.json")
        text = 'zone = "America/New_York"\n[price]\nkind = "table"\nfile = "rate.json"\n'
        assert prices(tmp_path, text, "2026-01-14T12:00", 2) == [80_000, 310_000]
    for wrong, why in (
        ("<html>", "HTML"),
        ("{", "no JSON"),
        ("[]", "one rate"),
        ("{}", "energyratestructure is missing"),
    ):
        write(tmp_path, wrong, "rate.json")
        with pytest.raises(ConfigurationError, match=why):
            read_tariff(tmp_path / "tariff.toml")


def test_a_clock_may_be_put_ahead_to_try_a_tariff(tmp_path: Path) -> None:
    text = table_toml([0.08, 0.31], NIGHT_AND_DAY, top="clock_ahead_s = 18000")
    now = unix("2026-01-14T03:00")
    followed = FollowedSupply(write(tmp_path, text), Supply(1), clock=lambda: now, events=lambda _: None)
    assert (followed.supply.micro_per_kwh, followed.source) == (310_000, PriceSource.TABLE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"\[price\] is missing"),
        ("price = 3", "price at the top of .* it is a table"),
        ("[price]", "kind is missing in .price. of"),
        ('[price]\nkind = "spot"', "kind in .price. .* none of flat, table, feed"),
        ('[price]\nkind = "flat"', "value is missing"),
        ('[price]\nkind = "flat"\nvalue = nan', "value in .price.* not a number of any use"),
        ('[price]\nkind = "flat"\nvalue = true', "not a number"),
        ('[price]\nkind = "flat"\nvalue = 1e12', "outside"),
        ('[price]\nkind = "flat"\nvalue = 80', "more than 25 per kWh"),
        (FLAT + 'unit = "GWh"', "unit in .price."),
        (FLAT + "prise = 1", "unknown key 'prise'"),
        (FLAT + "[prices]", "unknown key 'prices'"),
        ('zone = "Europe/Atlantis"\n' + FLAT, "no time zone"),
        ('weekend = ["Caturday"]\n' + FLAT, "weekend"),
        ('holidays = ["13-01"]\n' + FLAT, "holidays"),
        ('currency = "EUR"\n' + FLAT, "the ledger counts USD"),
        (FLAT + "[exchange]\nrate = 1\nas_of = 2026-01-01", "the ledger counts USD"),
        ('currency = "EUR"\n' + FLAT + "[exchange]\nrate = 0\nas_of = 2026-01-01", "rate in .exchange."),
        (FLAT + '[pue]\nkind = "flat"\nvalue = -1.2', "value in .pue."),
        (FLAT + '[carbon]\nkind = "flat"\nvalue = -1', "value in .carbon."),
        (FLAT + '[[charge]]\nper_kwh = "a lot"', r"per_kwh in \[\[charge\]\] number 1"),
        (FLAT + "[[charge]]\npercent = 5000", "percent"),
        (FLAT + "[[tranche]]\nkw = 1\nprice = 1", r"kw is missing in \[load\]"),
        (FLAT + "[load]\nkw = 0", "kw in .load."),
        (FLAT + "[load]\nkw = 1\n[[tranche]]\nkw = -1\nprice = 1", "kw"),
        (FLAT + "[load]\nkw = 1\n[[tranche]]\nkw_by_hour = [[1]]\nprice = 1", "1 rows"),
        (FLAT + "[curtailment]", "file or from a url"),
        (FLAT + '[curtailment]\nfile = "a"\nurl = "http://x"', "file or from a url"),
        ('[price]\nkind = "feed"\nformat = "csv"\nfile = "x"\nfallback = 1', "unit in .price. .* has to say"),
        ('[price]\nkind = "feed"\nformat = "csv"\nfile = "x"\nunit = "kWh"', "fallback is missing"),
        ('[price]\nkind = "feed"\nformat = "csv"\nurl = "http://x"\nunit = "kWh"\nfallback = 1', "files only"),
        ('[price]\nkind = "feed"\nformat = "entsoe"\nurl = "http://x"\nfallback = 1', "area is missing"),
        ('[price]\nkind = "feed"\nformat = "json"\nurl = "gopher://x"\nunit = "kWh"\nfallback = 1', "url"),
        ("[price\n", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){why}"):
        checked_tariff(write(tmp_path, text), unix("2026-01-14"))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("0, 0]\n]\nenergyweekend", "0]\n]\nenergyweekend", "energyweekdayschedule.*month 12 has 23 hours"),
        ("[{ rate = 0.31 }]", "[{ rate = nan }]", "energyratestructure"),
        ("[{ rate = 0.31 }]", "[{ rote = 1 }]", "energyratestructure"),
        ("[{ rate = 0.31 }]", '[{ rate = 1, unit = "kWh daily" }]', "kWh daily"),
        (", [{ rate = 0.31 }]", "", "names period 1 of 1"),
        ("energyweekdayschedule", "energyweekdaysched", "energyweekdayschedule is missing"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    text = table_toml([0.08, 0.31], NIGHT_AND_DAY, [0] * 24)
    assert old in text
    with pytest.raises(ConfigurationError, match=f"(?s){why}"):
        read_tariff(write(tmp_path, text.replace(old, new, 1)))


def test_a_tariff_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_tariff(tmp_path / "none.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigurationError, match="MiB"):
        read_tariff(tmp_path / "large.toml")


def feed_of(folder: Path, **keys: Any) -> Feed:
    """A feed of prices as a tariff file says it."""
    lines = {"kind": "feed", "fallback": 0.5, "unit": "kWh", **keys}
    written = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items())
    curve = read_tariff(write(folder, f"[price]\n{written}\n")).price
    assert isinstance(curve, Feed)
    return curve


def test_paths_in_a_tariff_are_meant_from_its_folder(tmp_path: Path) -> None:
    assert feed_of(tmp_path, format="csv", file="prices.csv").path == tmp_path / "prices.csv"
