"""A small candlestick chart as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

type Candle = tuple[str, float, float, float, float]
"""A label, and the prices at open, high, low and close."""

_STEP, _BODY, _HEIGHT, _EDGE, _SCALE = 8, 5, 160, 10, 60
"""Width of a candle with and without its margin; height; margin; width of the scale. All in px."""


def candles(found: Sequence[Candle], label: str) -> str:
    """Draw candles from left to right, with the highest and lowest price."""
    if not found:
        return ""
    top, bottom = max(c[2] for c in found), min(c[3] for c in found)
    width = _STEP * len(found) + _EDGE + _SCALE

    def y(price: float) -> float:
        share = (top - price) / (top - bottom) if top > bottom else 0.5
        return round(_EDGE + share * (_HEIGHT - 2 * _EDGE), 1)

    parts = []
    for place, (title, opened, high, low, close) in enumerate(found):
        x = _EDGE + _STEP * place + _BODY // 2
        body = sorted((y(opened), y(close)))
        parts.append(
            f'<g class="candle {"up" if close >= opened else "down"}"><title>{escape(title)}</title>'
            f'<path d="M{x}.5 {y(high)}V{y(low)}"/>'
            f'<path stroke-width="{_BODY}" d="M{x}.5 {body[0]}V{max(body[1], body[0] + 1)}"/></g>'
        )
    scale = "".join(
        f'<text x="{width - _SCALE + 4}" y="{y(price) + 4}">{price:,.6g}</text>'
        for price in dict.fromkeys((top, bottom))
    )
    return (
        f'<svg class="calendar candles" width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}"><rect class="paper" width="100%" height="100%" rx="4"/>{"".join(parts)}{scale}</svg>'
    )
