"""Energy becomes a price: worked examples, and the bounds."""

from __future__ import annotations

import pytest

from protocol.energy.tariff import ask_price, energy_price, floor_price


@pytest.mark.parametrize(
    ("millijoules", "pue_milli", "tariff", "expected"),
    [
        (10_800, 1000, 100_000, 300_000),  # 10.8 J at $0.10 per kWh: $0.30 per million tokens
        (10_800, 1100, 100_000, 330_000),
        (10_800, 1500, 100_000, 450_000),
        (10_800, 1000, 30_000, 90_000),
        (10_800, 1000, 250_000, 750_000),
        (1, 1000, 1, 1),  # rounded up, never to nothing
        (1, 1000, 0, 0),
        (10_800, 1000, -100_000, -300_000),
    ],
)
def test_energy_price(millijoules: int, pue_milli: int, tariff: int, expected: int) -> None:
    assert energy_price(millijoules, pue_milli, tariff) == expected


def test_paid_consumption_does_not_lower_the_floor_below_overhead() -> None:
    assert floor_price(-300_000, 50_000) == 50_000
    assert floor_price(300_000, 50_000) == 350_000


def test_the_ask_adds_margin_and_capital_by_demand() -> None:
    assert ask_price(300_000, 200_000, 100_000, 0) == 360_000
    assert ask_price(300_000, 200_000, 100_000, 500_000) == 410_000
    assert ask_price(300_000, 0, 0, 1_000_000) == 300_000
