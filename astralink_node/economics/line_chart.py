"""Line charts as plain SVG text: axes, ticks, a legend, units. No package, no script, readable on white paper.

The same series give the same bytes. Lines differ by colour (safe for colour-blind eyes) and by dashes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

WIDTH: Final = 860
HEIGHT: Final = 440
_LEFT: Final = 78
_RIGHT: Final = 200
_TOP: Final = 56
_BOTTOM: Final = 58
_TICKS: Final = 6
_STYLES: Final = (
    ("#000000", ""),
    ("#0072b2", ""),
    ("#d55e00", ""),
    ("#009e73", ""),
    ("#cc79a7", ""),
    ("#cc79a7", "3 4"),
    ("#e69f00", "8 4"),
    ("#56b4e9", ""),
    ("#0072b2", "8 4"),
    ("#000000", "3 4"),
)
"""(colour, dashes), in the order of the series. Okabe and Ito's colours."""


class ChartError(ValueError):
    """Series that cannot be drawn."""


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """From `first` to `last` in steps; both are ticks."""

    first: float
    last: float
    step: float

    def ticks(self) -> list[float]:
        count = round((self.last - self.first) / self.step)
        return [self.first + number * self.step for number in range(count + 1)]

    def part(self, value: float) -> float:
        """0 at `first`, 1 at `last`."""
        return (value - self.first) / (self.last - self.first)


def axis_for(values: Sequence[float], *, from_zero: bool = False) -> Axis:
    """A scale of round steps (1, 2, 2.5 or 5 times a power of ten) that holds all values."""
    low, high = min(values), max(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        low, high = low - 1, high + 1
    rough = (high - low) / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = floor(low / step + 1e-9) * step
    last = -floor(-high / step + 1e-9) * step
    return Axis(first, last, step)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_text: Callable[[float], str],
    from_zero: bool = True,
    stepped: bool = False,
) -> str:
    """The SVG. `y_text` writes a tick's value; `stepped` holds a value until the next (for whole numbers)."""
    if not series or not all(each.points for each in series):
        raise ChartError("expected at least one series, each with a point")
    if len(series) > len(_STYLES):
        raise ChartError(f"expected at most {len(_STYLES)} series, found {len(series)}")
    points = [point for each in series for point in each.points]
    x_axis = axis_for([x for x, _ in points])
    y_axis = axis_for([y for _, y in points], from_zero=from_zero)
    names = ", ".join(each.name for each in series)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' role="img" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222222">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(f'{y_label} by {x_label}: {names}')}</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="26" font-size="17" font-weight="bold">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="46" fill="#555555">{escape(y_label)}</text>',
        *_y_ticks(y_axis, y_text),
        *_x_ticks(x_axis, x_label),
    ]
    for number, each in reversed(list(enumerate(series))):  # the first lies on top
        lines += _line(each, number, x_axis, y_axis, stepped=stepped)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _y_ticks(axis: Axis, text: Callable[[float], str]) -> list[str]:
    lines = []
    for tick in axis.ticks():
        y = _y(axis, tick)
        zero = abs(tick) < axis.step / 1000
        stroke = "#222222" if zero or tick == axis.first else "#dddddd"
        lines.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" stroke="{stroke}"/>')
        shown = escape(text(0.0 if zero else tick))
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{shown}</text>')
    return lines


def _x_ticks(axis: Axis, label: str) -> list[str]:
    bottom = HEIGHT - _BOTTOM
    lines = []
    for tick in axis.ticks():
        x = _x(axis, tick)
        lines.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}" stroke="#222222"/>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle:.1f}" y="{HEIGHT - 12}" text-anchor="middle" fill="#555555">{escape(label)}</text>')
    return lines


def _line(series: Series, number: int, x_axis: Axis, y_axis: Axis, *, stepped: bool) -> list[str]:
    """The line and its entry in the legend."""
    colour, dashes = _STYLES[number]
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"'
    if dashes:
        style += f' stroke-dasharray="{dashes}"'
    corners = []
    for index, (x, y) in enumerate(series.points):
        if stepped and index:
            corners.append((x, series.points[index - 1][1]))
        corners.append((x, y))
    path = " ".join(f"{_x(x_axis, x):.1f},{_y(y_axis, y):.1f}" for x, y in corners)
    left = WIDTH - _RIGHT + 16
    middle = _TOP + 10 + 22 * number
    return [
        f'<polyline points="{path}" {style}/>',
        f'<line x1="{left}" y1="{middle}" x2="{left + 28}" y2="{middle}" {style}/>',
        f'<text x="{left + 36}" y="{middle + 4.5}">{escape(series.name)}</text>',
    ]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.part(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.part(value) * (HEIGHT - _TOP - _BOTTOM)
