"""A picture of horizontal bars, written as SVG by hand: readable on light and on dark pages.

It has a ground of its own, so that a page whose theme is not the system's does not hide the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from benchmarks.report import number

WIDTH, LEFT, RIGHT = 860, 268, 118
ROW, BAR, MARGIN, HEAD, LINE = 22, 12, 20, 58, 18
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.unit, .tick { fill: #57606a }
.ground { fill: #ffffff; stroke: #d0d7de }
.grid { stroke: #d0d7de }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.whisker { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .unit, .tick { fill: #9198a1 }
  .ground { fill: #0d1117; stroke: #3d444d }
  .grid { stroke: #3d444d }
  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
  .whisker { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One store's values, round by round; none if it failed."""

    label: str
    values: tuple[float, ...]
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars over one axis. A logarithmic one begins at the power of ten below every value."""

    title: str
    unit: str
    bars: Sequence[Bar]
    logarithmic: bool = False

    @property
    def height(self) -> int:
        """How much room it takes, in pixels."""
        return HEAD + ROW * len(self.bars) + 2 * LINE


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    logarithmic: bool

    def x(self, value: float) -> float:
        if self.logarithmic:
            share = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            decades = round(math.log10(self.high / self.low))
            return [self.low * 10.0**power for power in range(decades + 1)]
        return [self.low + (self.high - self.low) * part / 4 for part in range(5)]


def svg(title: str, description: str, panels: Sequence[Panel], caption: Sequence[str]) -> str:
    """Return the picture: panels below each other, and lines of text beneath them."""
    height = 2 * MARGIN + sum(panel.height for panel in panels) + LINE * len(caption)
    body: list[str] = []
    top = MARGIN
    for panel in panels:
        body += _panel(panel, top)
        top += panel.height
    for place, line in enumerate(caption, 1):
        body.append(_text(MARGIN, top + LINE * place - 4, line, "unit"))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, top: int) -> list[str]:
    axis = _axis(panel)
    first = top + HEAD
    last = first + ROW * len(panel.bars)
    found = [
        _text(MARGIN, top + 16, panel.title, "title"),
        _text(MARGIN, top + 36, panel.unit, "unit"),
    ]
    for tick in axis.ticks():
        x = f"{axis.x(tick):.1f}"
        found.append(f'<line class="grid" x1="{x}" y1="{first - 4}" x2="{x}" y2="{last}"/>')
        found.append(_text(axis.x(tick), last + 14, f"{tick:g}", "tick", "middle"))
    for place, bar in enumerate(panel.bars):
        found += _bar(bar, axis, first + ROW * place)
    return found


def _bar(bar: Bar, axis: _Axis, top: int) -> list[str]:
    middle = top + ROW / 2
    found = [_text(LEFT - 10, middle + 4, bar.label, "label", "end")]
    if not bar.values:
        return [*found, _text(LEFT + 6, middle + 4, "failed", "unit")]
    low, mid, high = min(bar.values), median(bar.values), max(bar.values)
    kind = "ours" if bar.is_ours else "bar"
    width = max(axis.x(mid) - LEFT, 1)
    found.append(
        f'<rect class="{kind}" x="{LEFT}" y="{middle - BAR / 2:g}" '
        f'width="{width:.1f}" height="{BAR}"/>'
    )
    if low != high:
        ends = f"{axis.x(low):.1f}", f"{axis.x(high):.1f}"
        path = " ".join(f"M{x} {middle - 4:g}V{middle + 4:g}" for x in ends)
        path += f"M{ends[0]} {middle:g}H{ends[1]}"
        found.append(f'<path class="whisker" fill="none" d="{path}"/>')
    found.append(_text(axis.x(high) + 8, middle + 4, number(mid), "value"))
    return found


def _axis(panel: Panel) -> _Axis:
    values = [value for bar in panel.bars for value in bar.values]
    if not panel.logarithmic:
        return _Axis(0, _round_up(max(values, default=0)), logarithmic=False)
    positive = [value for value in values if value > 0] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(positive)))
    high = 10.0 ** math.ceil(math.log10(max(positive)))
    return _Axis(low, high if high > low else low * 10, logarithmic=True)


def _round_up(value: float) -> float:
    """Return a number above that a quarter of is still short to write."""
    if value <= 0:
        return 4
    step = 10.0 ** math.floor(math.log10(value))
    return next(step * times for times in (1, 2, 4, 8, 12) if step * times >= value)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
