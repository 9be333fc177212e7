"""Joules that no hardware can have drawn are refused, those next to them are not."""

from __future__ import annotations

import pytest
from market_offers import NOW, an_energy_claim, an_offer, key_of

from protocol.energy.power import DEVICE_W, MOST_DEVICES, most_millijoules, most_per_token
from protocol.energy.tariff import MAX_MILLIJOULES_PER_TOKEN
from protocol.errors import MalformedError
from protocol.market.offer import MAX_AT_ONCE, HardwareKind, check_offer

FIELDS = {"millijoules_in": "prompt_us", "millijoules_out": "position_us"}


def test_every_kind_of_hardware_has_a_bound() -> None:
    assert set(DEVICE_W) == set(HardwareKind)


@pytest.mark.parametrize("kind", list(HardwareKind))
def test_power_grows_with_devices_up_to_a_number_that_no_machine_has(kind: HardwareKind) -> None:
    one, two, most, more = (most_millijoules(kind, count, 1_000_000) for count in (1, 2, MOST_DEVICES, 2**32 - 1))
    assert one < two < most == more
    assert one >= 500_000, "a joule a second is a watt"


@pytest.mark.parametrize("field", FIELDS)
def test_m14_an_offer_claims_no_more_for_a_token_than_its_hardware_can_draw(field: str) -> None:
    offer = an_offer(0)
    most = most_per_token(offer.hardware.device, offer.hardware.count, getattr(offer, FIELDS[field]))
    check_offer(offer.replace(energy=an_energy_claim(**{field: most})), key_of(0).address, NOW)
    with pytest.raises(MalformedError, match="its hardware can draw"):
        check_offer(offer.replace(energy=an_energy_claim(**{field: most + 1})), key_of(0).address, NOW)


def test_a_batch_does_not_make_more_of_it() -> None:
    offer = an_offer(0)
    claim = an_energy_claim(millijoules_out=MAX_MILLIJOULES_PER_TOKEN, batch=MAX_AT_ONCE)
    with pytest.raises(MalformedError, match="its hardware can draw"):
        check_offer(offer.replace(energy=claim), key_of(0).address, NOW)
