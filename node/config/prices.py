"""What a provider says of its prices."""

from __future__ import annotations

from typing import Any

from node.config import shared
from node.settings import setting
from node.settings.kinds import Choice, Fixed, Whole

__all__ = [
    "cached_price_percent",
    "capital_price_micro",
    "credit_tokens",
    "hardware_price_micro",
    "late_discount_percent",
    "margin_percent",
    "margin_policy",
    "opening_price_micro",
    "overhead_price_micro",
    "requote_above_ppm",
    "requote_s",
    "target_use_percent",
    "undercut_ppm",
]


def overhead_price_micro() -> Any:
    """What work costs besides energy."""
    return setting(
        shared.PER_MILLION,
        name="overhead_price",
        table="price",
        default=0,
        reloadable=True,
        about="Cost besides energy, part of the floor that no job goes below.",
    )


def capital_price_micro() -> Any:
    """What pays for the hardware."""
    return setting(
        shared.PER_MILLION,
        name="capital_price",
        table="price",
        default=20_000,
        reloadable=True,
        about="Share of what the hardware cost, asked above the floor.",
    )


def margin_percent() -> Any:
    """What is earned on the floor."""
    return setting(
        Whole("percent of the floor", 0, 400),
        name="margin",
        table="price",
        default=20,
        reloadable=True,
        about="Profit asked above the floor.",
    )


def margin_policy() -> Any:
    """How the margin is found."""
    return setting(
        Choice(("fixed", "utilisation", "book")),
        table="price",
        default="fixed",
        reloadable=True,
        about="fixed asks the margin always; utilisation asks as much of it as the node is in use; book asks just less "
        "than the median of others for the same model. None goes below the floor.",
    )


def undercut_ppm() -> Any:
    """How far below others."""
    return setting(
        Fixed("percent of the median", 4, "0", "100"),
        name="undercut",
        table="price",
        default=10_000,
        reloadable=True,
        about="How far to stay below the median of others, with margin_policy = book.",
    )


def hardware_price_micro() -> Any:
    """What the hardware cost."""
    return setting(
        Fixed("$ per hour", 6, "0", "1000"),
        name="hardware_price",
        table="price",
        default=None,
        example="0.35",
        reloadable=True,
        about="What an hour of the hardware costs: its price less what it will be worth, over its life. It takes the "
        "place of capital_price.",
    )


def target_use_percent() -> Any:
    """How much it should be used."""
    return setting(
        Whole("percent of the time", 1, 100),
        name="target_use",
        table="price",
        default=50,
        reloadable=True,
        about="The share of its time in which the hardware has to earn hardware_price.",
    )


def requote_s() -> Any:
    """How often prices may change."""
    return setting(
        Whole("seconds", 0, 3_600),
        table="price",
        default=60,
        reloadable=True,
        about="The least time between two changes of the asks, but for those at a quarter of an hour and those that "
        "keep them above the floor.",
    )


def requote_above_ppm() -> Any:
    """By how much they have to."""
    return setting(
        Fixed("percent", 4, "0", "100"),
        name="requote_above",
        table="price",
        default=20_000,
        reloadable=True,
        about="The smallest change of a price for which the asks are changed in between.",
    )


def opening_price_micro() -> Any:
    """What a job costs at its beginning."""
    return setting(
        Fixed("$ per job", 6, "0", "1000"),
        name="opening_price",
        table="price",
        default=1,
        reloadable=True,
        about="What taking a job costs, however little is asked for then: places are not for nothing.",
    )


def cached_price_percent() -> Any:
    """What a position costs that is held already."""
    return setting(
        Whole("percent of a prompt token's price", 0, 100),
        name="cached_price",
        table="price",
        default=10,
        reloadable=True,
        about="What a token costs that is still in the attention cache, from a session that the job goes on from.",
    )


def late_discount_percent() -> Any:
    """What is taken off for late tokens."""
    return setting(
        Whole("percent of the price", 0, 100),
        name="late_discount",
        table="price",
        default=0,
        reloadable=True,
        about="By how much generated tokens are cheaper that came later than the offer says.",
    )


def credit_tokens() -> Any:
    """What is served unpaid."""
    return setting(
        Whole("tokens", 0, 4_096),
        name="credit",
        table="price",
        default=0,
        reloadable=True,
        about="Generated tokens to serve before they are paid, for clients without history here; at most a window.",
    )
