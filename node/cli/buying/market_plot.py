"""A picture of a market as SVG: what each block is served with, and what it costs where."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from protocol.market.market_figures import MarketFigures, Prices

__all__ = ["market_svg"]

WIDTH, ROW, BARS, MARGIN = 760, 22, 140, 16


def market_svg(markets: Sequence[MarketFigures]) -> str:
    """One drawing of all of them, one below the other. Names come from strangers and are escaped."""
    parts: list[str] = []
    top = MARGIN
    for market in markets:
        top = _market(parts, market, top) + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, said: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(said)}</text>'


def _market(parts: list[str], market: MarketFigures, top: int) -> int:
    """Draws one from `top` on; where it ends."""
    parts.append(_text(MARGIN, top + 12, f"{market.name} ({market.model.hex()[:12]})", 'font-weight="bold"'))
    half = f"{market.concentration.hold_half} of {market.operators} keys hold half"
    parts.append(_text(MARGIN, top + 30, f"{market.capacity / 1000:g} tokens/s through the scarcest block; {half}"))
    base = top + 40 + BARS
    wide = (WIDTH - 2 * MARGIN) / market.blocks
    most = max(1, *market.supply)
    for block, rate in enumerate(market.supply):
        high = BARS * rate / most
        left = MARGIN + block * wide
        colour = "#4477aa" if rate else "#cc3311"
        parts.append(
            f'<rect x="{left:.1f}" y="{base - max(2, high):.1f}" width="{max(1, wide - 1):.1f}" '
            f'height="{max(2, high):.1f}" fill="{colour}"><title>block {block}: {rate / 1000:g} tokens/s</title></rect>'
        )
    parts.append(_text(MARGIN, base + 14, f"tokens/s by block, 0 to {market.blocks - 1}; most {most / 1000:g}"))
    return _prices(parts, market.by_place, base + 30)


def _prices(parts: list[str], places: Sequence[Prices], top: int) -> int:
    most = max(1, *(each.median_out for each in places))
    for row, each in enumerate(places):
        y = top + row * ROW
        low, median = (420 * price / most for price in (each.low_out, each.median_out))
        parts.append(_text(MARGIN, y + 14, f"{each.name} ({each.offers})"))
        parts.append(f'<rect x="90" y="{y + 4}" width="{median:.1f}" height="12" fill="#bbccee"/>')
        parts.append(f'<rect x="90" y="{y + 4}" width="{low:.1f}" height="12" fill="#4477aa"/>')
        said = f"${each.low_out / 1e6:.4g} least, ${each.median_out / 1e6:.4g} median for 1M generated tokens"
        parts.append(_text(100 + median, y + 14, said, 'font-size="10"'))
    return top + len(places) * ROW
