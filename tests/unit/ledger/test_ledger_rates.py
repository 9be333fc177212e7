"""Token buckets: so many at once, so many a second after that, in bounded memory."""

from __future__ import annotations

import pytest

from node.ledger.rates import Buckets, Rate, TooOftenError
from node.ledger.recent import Recent


class Seconds:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_a_rate() -> None:
    clock = Seconds()
    buckets = Buckets(Rate(burst=3, per_s=0.5), clock)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(TooOftenError) as refused:
        buckets.take("a")
    assert (refused.value.code, refused.value.wait_s) == ("busy", 2)
    buckets.take("b")  # others have their own
    clock.now += 1.9
    with pytest.raises(TooOftenError):
        buckets.take("a")
    clock.now += 0.1
    buckets.take("a")
    with pytest.raises(TooOftenError):
        buckets.take("a")
    clock.now += 1000  # more than the burst is never saved up
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(TooOftenError):
        buckets.check("a")


def test_looking_takes_nothing() -> None:
    buckets = Buckets(Rate(burst=1, per_s=1), Seconds())
    for _ in range(9):
        buckets.check("a")
    buckets.take("a")
    with pytest.raises(TooOftenError):
        buckets.check("a")


def test_being_refused_costs_nothing() -> None:
    clock = Seconds()
    buckets = Buckets(Rate(burst=1, per_s=1), clock)
    buckets.take("a")
    for _ in range(99):
        with pytest.raises(TooOftenError):
            buckets.take("a")
    clock.now += 1
    buckets.take("a")


def test_only_so_many_askers_are_remembered() -> None:
    """Those that were not seen for longest go first, and whoever keeps asking stays."""
    buckets = Buckets(Rate(burst=5, per_s=0.001), Seconds(), most=3)
    for number in range(5):
        buckets.take("busy")
        buckets.take(number)
        buckets.take(-number - 1)
    with pytest.raises(TooOftenError):
        buckets.take("busy")
    for number in range(3):
        buckets.take(f"new {number}")
    buckets.take("busy")  # forgotten, as the oldest of four


def test_what_is_recent_is_bounded() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.put("a", 3)  # the newest again
    recent.put("c", 4)
    assert (recent.get("a"), recent.get("b"), recent.get("c"), len(recent)) == (3, None, 4, 2)
    assert list(recent) == ["a", "c"]
    assert recent.pop("a") == 3
    assert recent.pop("a") is None
    assert "a" not in recent
    recent.clear()
    assert len(recent) == 0
