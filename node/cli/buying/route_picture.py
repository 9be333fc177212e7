"""A route as a picture: bars over the blocks of the model, on a terminal or as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from node.app.buying.planned import PlannedRoute

__all__ = ["bars", "svg"]

WIDTH = 64
"""Columns for all blocks, on a terminal."""
BLOCK, LANE, LEFT = 12, 26, 150
"""Pixels: of a block, of a leg's lane, and before the first block."""
MOST_DRAWN = 200
"""Other offers."""


def _span(blocks: str) -> tuple[int, int]:
    start, end = blocks.split(":")
    return int(start), int(end)


def bars(route: PlannedRoute) -> Iterator[str]:
    """A line for each leg: what it serves, and what it offers besides."""
    for number, leg in enumerate(route.legs):
        (start, end), (low, high) = _span(leg.blocks), _span(leg.offered)
        cells = [
            "█" if start <= block < end else "░" if low <= block < high else "·"
            for block in (column * route.blocks // WIDTH for column in range(WIDTH))
        ]
        yield f"{number:>3}  {leg.region or leg.jurisdiction:<6}  {''.join(cells)}  {leg.blocks}"


def svg(route: PlannedRoute) -> str:
    """The legs, with dotted bars for all that they offer; below them the other offers, with the reason as a tooltip."""
    others = route.not_taken[:MOST_DRAWN]
    top = LANE * (len(route.legs) + 1)
    width, height = LEFT + BLOCK * route.blocks + 20, top + 20 + 7 * len(others)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f"<title>{escape(route.model)}: {len(route.legs)} legs</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, leg in enumerate(route.legs):
        y = LANE * number + 10
        where = leg.region or leg.jurisdiction
        lines += [
            f'<text x="8" y="{y + 14}" font-size="12">{escape(where)} {escape(leg.provider[:10])}</text>',
            _bar(leg.offered, y, 16, 'fill="none" stroke="#2b6cb0" stroke-dasharray="3"', ""),
            _bar(leg.blocks, y, 16, 'fill="#2b6cb0"', f"{leg.provider}, blocks {leg.blocks}"),
        ]
    for number, each in enumerate(others):
        told = f"{each.provider}, blocks {each.blocks}: {each.reason}"
        lines.append(_bar(each.blocks, top + 7 * number, 4, 'fill="#a0aec0"', told))
    return "\n".join([*lines, "</svg>", ""])


def _bar(blocks: str, y: int, height: int, style: str, told: str) -> str:
    start, end = _span(blocks)
    title = f"<title>{escape(told)}</title>" if told else ""
    x, width = LEFT + BLOCK * start, BLOCK * (end - start)
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" {style}>{title}</rect>'
