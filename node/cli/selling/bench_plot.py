"""A picture of what a kilowatt-hour buys of a model, by precision and batch: SVG, written as text."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from node.app.selling.benched import BenchedModel

__all__ = ["draw", "require_svg"]

_COLOURS = ("#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00")
_WIDTH, _LEFT, _RIGHT, _TOP, _BAR = 960, 150, 130, 64, 18


def draw(path: Path, found: BenchedModel) -> None:
    """Write the picture: a bar for each precision and batch. Raises ConfigurationError."""
    require_svg(path)
    try:
        path.write_text(_svg(found), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", hint="choose another place") from None


def require_svg(path: Path) -> None:
    """Raises ConfigurationError for a picture of another kind."""
    if path.suffix != ".svg":
        raise ConfigurationError(f"{path} is no .svg", hint="name it bench.svg")


def _svg(found: BenchedModel) -> str:
    bars = [
        (f"{each.precision}, {pace.batch} at once", each.right_per_kwh(pace) or 0, _COLOURS[at % len(_COLOURS)])
        for at, each in enumerate(found.precisions)
        for pace in each.paces
    ]
    most = max([value for _, value, _ in bars] + [1])
    height = _TOP + len(bars) * (_BAR + 6) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="24" font-size="14">{escape(found.name)}: accuracy x tokens per kWh</text>',
        f'<text x="16" y="44" fill="#555">{escape(found.device)}; {escape(found.meter)}</text>',
    ]
    for at, (name, value, colour) in enumerate(bars):
        y = _TOP + at * (_BAR + 6)
        wide = (_WIDTH - _LEFT - _RIGHT) * value / most
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{wide:.1f}" height="{_BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + wide + 6:.1f}" y="{y + 13}">{value:,}</text>')
    return "".join([*parts, "</svg>\n"])
