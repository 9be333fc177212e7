"""What a provider says of the meter of its energy."""

from __future__ import annotations

from typing import Any

from node.settings import setting
from node.settings.kinds import Choice, Fixed, MeterUnit, Text
from node.settings.places import WebAddress

__all__ = [
    "device_kb_per_s",
    "device_mflop_per_s",
    "device_milliwatts",
    "meter",
    "meter_command",
    "meter_error_ppm",
    "meter_path",
    "meter_unit",
    "meter_url",
]


def meter() -> Any:
    """What is read."""
    return setting(
        Choice(
            ("auto", "shelly", "tasmota", "http", "command", "nvml", "amd", "apple", "rapl", "processor", "roofline")
        ),
        table="energy",
        default="auto",
        about="What is read: a plug (shelly, tasmota, or http for any that answers JSON), a command, a counter of the "
        "machine (nvml, amd, apple, rapl; extra energy), or a model (processor time, or a device's roofline). auto is "
        "the machine's best counter, else processor time.",
    )


def meter_url() -> Any:
    """Where a plug answers."""
    return setting(
        WebAddress(),
        table="energy",
        default=None,
        example='"http://192.168.1.20"',
        about="Where the plug answers: its address, or for http the whole URL of the JSON.",
    )


def meter_path() -> Any:
    """Where the number stands."""
    return setting(
        Text("names and indices with dots between them", metavar="PATH", pattern=r".{0,200}"),
        table="energy",
        default="",
        about="Where the number stands: names and indices with dots between them, + between several that are added up. "
        "For a command that prints no JSON, the text before the number; for a plug with several meters, which one.",
    )


def meter_unit() -> Any:
    """What the number is in."""
    return setting(
        MeterUnit(),
        table="energy",
        default="W",
        about="What http or a command says: power (W, kW, mW) or a counter (J, mJ, kJ, MJ, Wh, mWh, kWh, Wmin).",
    )


def meter_command() -> Any:
    """What prints the number."""
    return setting(
        Text("a command line", metavar="COMMAND"),
        table="energy",
        default=None,
        example='"ipmitool dcmi power reading"',
        about="Prints the number, for meter = command: a program and its arguments, without a shell.",
    )


def meter_error_ppm() -> Any:
    """How far the meter may be off."""
    return setting(
        Fixed("percent", 4, "0.0001", "50"),
        name="meter_error",
        table="energy",
        default=None,
        example="2",
        about="How far the meter may be off, as its maker says. Left out, it is shown as unknown.",
    )


def device_milliwatts() -> Any:
    """Of a roofline: the power at work."""
    return setting(
        Fixed("watts", 3, "0.1", "100000"),
        name="device_watts",
        table="energy",
        default=None,
        example="350",
        about="What the device draws at work, for meter = roofline.",
    )


def device_mflop_per_s() -> Any:
    """Of a roofline: the arithmetic."""
    return setting(
        Fixed("TFLOP/s", 6, "0.000001", "100000"),
        name="device_tflops",
        table="energy",
        default=None,
        example="312",
        about="Its arithmetic in the precision that is served, for meter = roofline.",
    )


def device_kb_per_s() -> Any:
    """Of a roofline: the memory traffic."""
    return setting(
        Fixed("GB/s", 6, "0.001", "1000000"),
        name="device_gb_per_s",
        table="energy",
        default=None,
        example="2039",
        about="Its memory traffic, for meter = roofline.",
    )
