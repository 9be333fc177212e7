"""Series of prices, tables by the hour, charges, the pace of asks, and how far a node holds back."""

from __future__ import annotations

import pytest
from market_offers import an_offer

from protocol.energy.charges import Charge, blended_price, charged, demand_price, in_merit_order
from protocol.energy.price_series import STEP_S, PriceSeries, PriceSource, filled, hourly_means
from protocol.energy.rate_table import DemandTable, RateTable, Tier, tier_rate
from protocol.errors import InvalidError
from protocol.identity.ids import BlockSpan
from protocol.market.comparing import comparable
from protocol.market.pricing import Comparable
from protocol.market.rates import Rates
from protocol.market.requoting import Pace, Quoted, next_boundary, requoted
from protocol.policy.policy import LatencyClass
from protocol.serving.curtailment import AT_EASE, Level, Signal, admits, by_ceiling, places_within, strictest

DAY = 86_400
NOON = 1_767_225_600 + DAY // 2


def series(*prices: int, start: int = 0) -> PriceSeries:
    return PriceSeries(start, prices, (PriceSource.TABLE,) * len(prices))


def test_a_series_has_a_price_for_each_quarter_and_for_nothing_else() -> None:
    made = series(10, 20, 30, start=900)
    assert [made.at(now) for now in (900, 1799, 1800, 3599)] == [10, 10, 20, 30]
    assert made.source_at(900) is PriceSource.TABLE
    for now in (899, 3600):
        with pytest.raises(InvalidError, match="no price"):
            made.at(now)


def test_a_mean_is_by_time_and_rounded_up() -> None:
    made = series(10, 20, -30)
    assert made.mean(0, 900) == 10
    assert made.mean(450, 1350) == 15
    assert made.mean(0, 2700) == 0
    assert made.mean(899, 902) == 17, "one second of 10, two of 20: 16 2/3"
    for begin, end in ((0, 0), (-1, 5), (0, 2701), (5, 4)):
        with pytest.raises(InvalidError, match="does not cover"):
            made.mean(begin, end)


@pytest.mark.parametrize(
    ("start", "prices", "sources"), [(1, (1,), 1), (0, (), 0), (0, (1, 2), 1), (0, (0,) * 40_001, 40_001)]
)
def test_what_is_no_series(start: int, prices: tuple[int, ...], sources: int) -> None:
    with pytest.raises(InvalidError):
        PriceSeries(start, prices, (PriceSource.FEED,) * sources)


def test_the_hours_after_this_one() -> None:
    made = series(*range(0, 160, 10))
    assert hourly_means(made, 0, 48) == (55, 95, 135)
    assert hourly_means(made, 3599, 2) == (55, 95)
    assert hourly_means(made, 3600, 48) == (95, 135)


def test_a_feed_that_says_nothing_is_filled_from_days_before_and_then_by_the_fallback() -> None:
    points = {NOON - DAY: 7, NOON: 9, NOON - 2 * DAY + STEP_S: 5}
    prices, sources = filled(points, NOON, 3, stale_s=DAY, fallback=99)
    assert prices == (9, 99, 99)
    assert sources == (PriceSource.FEED, PriceSource.FALLBACK, PriceSource.FALLBACK)
    prices, sources = filled(points, NOON, 2, stale_s=2 * DAY, fallback=99)
    assert prices == (9, 5)
    assert sources[1] is PriceSource.STALE
    assert filled(points, NOON + DAY, 1, stale_s=2 * DAY, fallback=99)[0] == (9,), "the latest day counts"
    assert filled({}, NOON, 1, stale_s=0, fallback=-3) == ((-3,), (PriceSource.FALLBACK,))


# Tables by the hour

FLAT_DAY = (0,) * 24
PEAK_DAY = (0,) * 16 + (1,) * 4 + (0,) * 4
TIERS = ((Tier(500_000, 80_000), Tier(None, 120_000)), (Tier(None, 300_000),))


def test_rates_follow_month_hour_kind_of_day_and_use() -> None:
    table = RateTable(TIERS, (*((FLAT_DAY,) * 5), PEAK_DAY, *((FLAT_DAY,) * 6)), (FLAT_DAY,) * 12)
    assert table.rate(6, 16, weekend=False) == 300_000
    assert table.rate(6, 16, weekend=True) == 80_000
    assert table.rate(6, 20, weekend=False, used_wh=499_999) == 80_000
    assert table.rate(6, 20, weekend=False, used_wh=500_000) == 120_000
    assert table.rate(7, 16, weekend=False) == 80_000


@pytest.mark.parametrize(
    ("weekday", "why"),
    [
        ((FLAT_DAY,) * 11, "11 rows"),
        ((*((FLAT_DAY,) * 11), FLAT_DAY[:23]), "row of month 12 has 23 hours"),
        ((*((FLAT_DAY,) * 11), (2, *FLAT_DAY[1:])), "month 12, hour 0 names period 2 of 2"),
        ((*((FLAT_DAY,) * 11), (-1, *FLAT_DAY[1:])), "names period -1"),
    ],
)
def test_a_table_is_twelve_by_twenty_four(weekday: tuple[tuple[int, ...], ...], why: str) -> None:
    with pytest.raises(InvalidError, match=f"energyweekdayschedule.*{why}"):
        RateTable(TIERS, weekday, (FLAT_DAY,) * 12)


@pytest.mark.parametrize(
    ("tiers", "why"),
    [
        ((), "0 periods"),
        (((),), "0 tiers"),
        (((Tier(5, 1),),), "the last has none"),
        (((Tier(None, 1), Tier(None, 2)),), "all tiers but the last"),
        (((Tier(5, 1), Tier(5, 1), Tier(None, 1)),), "do not rise"),
        (((Tier(0, 1), Tier(None, 1)),), "do not rise"),
        (((Tier(None, 10**12),),), "beyond"),
    ],
)
def test_what_tiers_are_not(tiers: tuple[tuple[Tier, ...], ...], why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        RateTable(tiers, (FLAT_DAY,) * 12, (FLAT_DAY,) * 12)


def test_peaks_are_charged_by_month_and_by_period() -> None:
    demand = DemandTable(
        flat=((Tier(10_000, 5_000_000), Tier(None, 9_000_000)),),
        flat_months=(0,) * 12,
        periods=((Tier(None, 0),), (Tier(None, 15_000_000),)),
        weekday=(PEAK_DAY,) * 12,
        weekend=(FLAT_DAY,) * 12,
    )
    assert (demand.flat_rate(1, 9_999), demand.flat_rate(1, 10_000)) == (5_000_000, 9_000_000)
    assert demand.period(1, 17, weekend=False) == 1
    assert demand.period(1, 17, weekend=True) == 0
    assert demand.period_rate(1, 1) == 15_000_000
    assert DemandTable().flat_rate(1, 5) == 0
    with pytest.raises(InvalidError, match="flatdemandmonths"):
        DemandTable(flat=((Tier(None, 1),),), flat_months=(0,) * 11)
    with pytest.raises(InvalidError, match="demandweekdayschedule"):
        DemandTable(periods=((Tier(None, 1),),))
    assert tier_rate(TIERS[0], 0) == 80_000


# Charges


def test_charges_are_added_in_their_order() -> None:
    fee, tax = Charge("grid", per_kwh=50_000), Charge("VAT", share_ppm=190_000)
    assert charged(100_000, [fee, tax]) == 178_500
    assert charged(100_000, [tax, fee]) == 169_000
    assert charged(-100_000, [fee, tax]) == -59_500, "paid consumption gets its tax back"
    for wrong in ({"per_kwh": 10**12}, {"share_ppm": 10_000_001}, {"share_ppm": -1_000_001}):
        with pytest.raises(InvalidError, match="VAT"):
            Charge("VAT", **wrong)


def test_the_cheapest_supply_is_used_first() -> None:
    solar, gas = (2_000, 60_000), (3_000, 20_000)
    ordered = in_merit_order([solar, gas])
    assert ordered == [gas, solar]
    assert blended_price(3_000, ordered, 300_000) == 20_000
    assert blended_price(5_000, ordered, 300_000) == 36_000
    assert blended_price(10_000, ordered, 300_000) == 168_000
    assert blended_price(1, [], 300_000) == 300_000


def test_a_demand_charge_is_spread_over_its_hours() -> None:
    assert demand_price(15_000_000, 750, 1_000_000) == 20_000, "$15 a kW and month are 2 cents a kWh at full load"
    assert demand_price(15_000_000, 750, 500_000) == 40_000


# Asks


def rates(price: int) -> Rates:
    return Rates(
        opening=1,
        price_in=price // 10,
        price_out=price,
        price_cached=price // 100,
        price_rejected=0,
        late_discount_ppm=0,
    )


def quoted(out: Quoted | None, price: int, *, now: int, floor: int = 0) -> Quoted:
    return requoted(out, rates(price), floor_in=0, floor_out=floor, now=now, pace=Pace(least_s=60, least_ppm=20_000))


def test_asks_change_at_a_quarter_at_once() -> None:
    out = quoted(None, 100_000, now=899)
    assert quoted(out, 100_100, now=899) == out
    assert quoted(out, 100_100, now=900) == Quoted(rates(100_100), 900)
    assert quoted(out, 100_000, now=900) == out, "nothing has changed"
    assert [next_boundary(now) for now in (0, 899, 900)] == [900, 900, 1800]


def test_within_a_quarter_they_change_seldom_and_by_something() -> None:
    out = quoted(None, 100_000, now=0)
    assert quoted(out, 150_000, now=59) == out
    assert quoted(out, 102_000, now=60) == out, "2 % is not above 2 %"
    assert quoted(out, 102_100, now=60).rates == rates(102_100)
    assert quoted(out, 97_000, now=60).rates == rates(97_000)


def test_asks_below_the_floor_are_raised_at_once() -> None:
    out = quoted(None, 100_000, now=0)
    assert quoted(out, 100_001, now=1, floor=100_000) == out
    assert quoted(out, 100_001, now=1, floor=100_001).rates == rates(100_001)


def test_another_opening_charge_is_a_change() -> None:
    out = quoted(None, 100_000, now=0)
    wanted = rates(100_000).replace(opening=2)
    pace = Pace(least_s=60, least_ppm=20_000)
    assert requoted(out, wanted, floor_in=0, floor_out=0, now=60, pace=pace).rates == wanted


def test_what_others_ask_is_scaled_to_ones_own_blocks() -> None:
    own = an_offer(0)
    others = [an_offer(number, price_in=100 * number, price_out=1000 * number) for number in (1, 2, 3, 4)]
    found = comparable([own, *others], own=own.public_key, model=own.model, span=own.span)
    assert found == Comparable(price_in=200, price_out=2000), "the lower median of four"
    half = BlockSpan(start=own.span.start, end=own.span.start + 1)
    scaled = comparable(others, own=own.public_key, model=own.model, span=half)
    assert scaled is not None
    assert scaled.price_out == -(-2000 // len(own.span))
    assert comparable([own], own=own.public_key, model=own.model, span=own.span) is None
    assert comparable(others, own=own.public_key, model=bytes(32), span=own.span) is None
    crowd = [*others, *(an_offer(4, price_out=1, sequence=5 + each) for each in range(9))]
    assert comparable(crowd, own=own.public_key, model=own.model, span=own.span) is not None
    assert len({each.public_key for each in crowd}) == 4, "one key counts once"


# Holding back


def test_batch_goes_first_and_then_everything() -> None:
    taken = {level: [each for each in LatencyClass if admits(level, each)] for level in Level}
    assert taken[Level.NORMAL] == list(LatencyClass)
    assert taken[Level.SHED] == [each for each in LatencyClass if each is not LatencyClass.BATCH]
    assert taken[Level.DRAIN] == []


def test_the_strictest_signal_holds_with_the_least_power() -> None:
    shed, drain = Signal(Level.SHED, "a", 9, 5_000), Signal(Level.DRAIN, "b", 7)
    assert strictest([AT_EASE, shed, drain]) == Signal(Level.DRAIN, "b", 7, 5_000)
    assert strictest([]) == AT_EASE
    assert shed.at(8) is shed
    assert shed.at(9) is AT_EASE
    assert Signal(Level.SHED).at(10**9).level is Level.SHED


def test_at_the_ceiling_there_is_work_and_above_it_none() -> None:
    assert [by_ceiling(price, 300) for price in (299, 300, 301)] == [False, False, True]
    assert not by_ceiling(10**9, None)


def test_places_stay_below_the_power_cap() -> None:
    """10.8 J in 20 ms are 540 W, and 594 W at the meter with a PUE of 1.1."""
    assert places_within(2_375, 10_800, 20_000, 1_100) == 3
    assert places_within(2_376, 10_800, 20_000, 1_100) == 4
    assert places_within(593, 10_800, 20_000, 1_100) == 0
