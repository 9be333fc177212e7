"""A picture of a tariff: SVG written as text, PNG by matplotlib where that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from node.cli.terminal.output import money
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from node.cli.selling.tariff import Quarter, TariffShown

__all__ = ["draw"]

_COLOURS = {"table": "#0072b2", "feed": "#009e73", "stale": "#e69f00", "fallback": "#d55e00"}
_WIDTH, _HEIGHT = 960, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 36, 40


def draw(path: Path, shown: TariffShown) -> None:
    """Write the picture. Raises ConfigurationError where the file's kind is not known, or it cannot be written."""
    try:
        if path.suffix == ".svg":
            path.write_text(_svg(shown), encoding="utf-8")
        elif path.suffix == ".png":
            _png(path, shown)
        else:
            raise ConfigurationError(f"{path} is neither a .svg nor a .png", hint="name it tariff.svg")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", hint="choose another place") from None


def _svg(shown: TariffShown) -> str:
    quarters = shown.quarters
    low, high = _bounds(quarters)
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(index: int) -> float:
        return _LEFT + wide * index / len(quarters)

    def y(micro: int) -> float:
        return _TOP + tall * (high - micro) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">$ per kWh, {escape(shown.zone)}</text>',
    ]
    for micro in sorted({low, 0, (low + high) // 2, high}):
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(micro):.1f}" y2="{y(micro):.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{y(micro) + 4:.1f}" text-anchor="end">{money(micro)}</text>')
    zone = ZoneInfo(shown.zone)
    for index in range(0, len(quarters), max(4, len(quarters) // 12 // 4 * 4)):
        then = datetime.fromtimestamp(quarters[index].at, UTC).astimezone(zone)
        parts.append(f'<text x="{x(index):.1f}" y="{_HEIGHT - 16}">{then:%a %H:%M}</text>')
    for index, each in enumerate(quarters):
        edge, zero = sorted((y(each.micro_per_kwh), y(0)))
        height = max(1.0, zero - edge)
        parts.append(
            f'<rect x="{x(index):.2f}" y="{edge:.2f}" width="{wide / len(quarters):.2f}" height="{height:.2f}" '
            f'fill="{_COLOURS[each.source]}"/>'
        )
    parts += _legend(quarters)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(quarters: tuple[Quarter, ...]) -> Iterator[str]:
    for place, source in enumerate(each for each in _COLOURS if each in {quarter.source for quarter in quarters}):
        left = _WIDTH - _RIGHT - 100 * (place + 1)
        yield f'<rect x="{left}" y="10" width="12" height="12" fill="{_COLOURS[source]}"/>'
        yield f'<text x="{left + 16}" y="20">{source}</text>'


def _bounds(quarters: tuple[Quarter, ...]) -> tuple[int, int]:
    prices = [each.micro_per_kwh for each in quarters]
    return min(0, *prices), max(1000, *prices)


def _png(path: Path, shown: TariffShown) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigurationError("a PNG is drawn by matplotlib, which is not installed", hint="draw a .svg") from None
    page = Figure(figsize=(9.6, 3.2), layout="constrained")
    FigureCanvasAgg(page)
    axes = page.subplots()
    hours = [(each.at - shown.quarters[0].at) / 3600 for each in shown.quarters]
    axes.bar(
        hours,
        [each.micro_per_kwh / 1_000_000 for each in shown.quarters],
        width=0.25,
        align="edge",
        color=[_COLOURS[each.source] for each in shown.quarters],
    )
    axes.set_ylabel("$ per kWh")
    axes.set_xlabel(f"hours from now, {shown.zone}")
    page.savefig(path, dpi=100, metadata={"Software": "joulemesh"})
