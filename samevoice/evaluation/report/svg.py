"""Small drawings as SVG text: lines, areas and marks over axes, for light and dark pages, without a plotting library.

A drawing carries its own colours: it follows the page's `prefers-color-scheme` wherever it is put.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from samevoice.evaluation.metrics import probit

WIDTH, HEIGHT = 480, 360  # without the legend, which adds lines below
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 34, 48
LINE = 17  # from a line of text to the next
LETTER = 7.2  # the room of a letter: fonts differ, this is a wide one
COLOURS = 8  # series beyond these have the same colours again, and dashes
_LIGHT = ("#0b6fb8", "#c8501e", "#1f8a52", "#8c4bb5", "#b0851a", "#c23a78", "#4a6a7c", "#6b5b3e")
_DARK = ("#62b5f5", "#ff9a6b", "#66cf98", "#cb98ee", "#e5c065", "#f58ab8", "#a5bfcc", "#c9b48a")


def _style() -> str:
    def scheme(ink: str, faint: str, paper: str, colours: Sequence[str]) -> str:
        lines = "".join(f".s{i}{{--c:{colour}}}" for i, colour in enumerate(colours))
        return f".plot{{--ink:{ink};--faint:{faint};--paper:{paper}}}{lines}"

    return (
        scheme("#1c2126", "#d5dade", "#ffffff", _LIGHT)
        + f"@media (prefers-color-scheme:dark){{{scheme('#e4e8eb', '#3a4249', '#15191d', _DARK)}}}"
        ".plot text{fill:var(--ink);font:12px system-ui,sans-serif}.plot .title{font-weight:600;font-size:13px}"
        ".plot .paper{fill:var(--paper)}.plot .grid{stroke:var(--faint);stroke-width:1}"
        ".plot .line{fill:none;stroke:var(--c);stroke-width:1.8}"
        ".plot .area{fill:var(--c);fill-opacity:.35;stroke:var(--c);stroke-width:1}"
        ".plot .dash1{stroke-dasharray:7 3}.plot .dash2{stroke-dasharray:2 3}"
        ".plot .mark{fill:var(--c)}.plot .guide{stroke:var(--ink);stroke-dasharray:4 4;stroke-width:1;fill:none}"
    )


STYLE = _style()


@dataclass(frozen=True)
class Axis:
    """label: with its unit. ticks: (value, text). scale: from a value to where it lies; low and high in values."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    scale: Callable[[float], float] = float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def place(self, value: float) -> float:
        """0 at low, 1 at high; values beyond are put on the edge."""
        low, high = self.scale(self.low), self.scale(self.high)
        return (self.scale(min(max(value, self.low), self.high)) - low) / (high - low)


@dataclass(frozen=True)
class Series:
    """name: "" stays out of the legend. kind: "line", "area" (to the horizontal axis) or "marks"."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: str = "line"
    sizes: Sequence[float] = ()  # radii of marks


def linear_axis(label: str, low: float, high: float, count: int = 5, form: str = "g") -> Axis:
    """Ticks at round values."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / count)
    first = math.ceil(low / step - 1e-9)
    ticks = [(i * step, format(i * step + 0.0, form)) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return Axis(label, low, high, ticks)


def rate_axis(label: str, low: float, high: float) -> Axis:
    """A probability on the normal-deviate scale of DET plots, ticks in percent."""
    shares = (1e-5, 1e-4, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    ticks = [(share, f"{share * 100:g}") for share in shares if low <= share <= high]
    return Axis(label, low, high, ticks, lambda share: float(probit(share)))


def plot(title: str, x: Axis, y: Axis, series: Sequence[Series], guides: Sequence[Series] = ()) -> str:
    """One drawing. guides: dashed lines in ink, such as the diagonal.

    Of lines, what lies beyond the axes is left out. Long titles and the legend, which is below, make it higher.
    """
    heading = textwrap.wrap(title, int((WIDTH - 24) / LETTER)) or [""]
    legend, rows = _legend(series)
    above, bottom = LINE * (len(heading) - 1), HEIGHT - BOTTOM
    height = above + HEIGHT + LINE * rows
    parts = [
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'preserveAspectRatio="xMidYMin" role="img">',  # beside a higher one, both begin at the top
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
    ]
    parts += [f'<text class="title" x="12" y="{20 + LINE * i}">{escape(line)}</text>' for i, line in enumerate(heading)]
    parts.append(f'<g transform="translate(0 {above})">' if above else "<g>")
    for value, text in x.ticks:
        at = _x(x, value)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
    for value, text in y.ticks:
        at = _y(y, value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x.label)}</text>')
    upright = f"translate(16 {(TOP + bottom) / 2}) rotate(-90)"
    parts.append(f'<text transform="{upright}" text-anchor="middle">{escape(y.label)}</text>')
    parts += [f'<path class="guide" d="{_path(x, y, guide)}"/>' for guide in guides]
    for number, one in enumerate(series):
        parts.append(f'<g class="s{number % COLOURS}">{_drawn(x, y, one, _dashes(number))}</g>')
    return "".join([*parts, legend]) + "</g></svg>"


def _drawn(x: Axis, y: Axis, one: Series, dashes: str) -> str:
    if one.kind == "line":
        return f'<path class="line{dashes}" d="{_path(x, y, one)}"/>'
    if one.kind == "area":
        corners = [(one.x[0], y.low), *zip(one.x, one.y, strict=True), (one.x[-1], y.low)]
        return f'<path class="area" d="M{"L".join(_at(x, y, *corner) for corner in corners)}Z"/>'
    sizes = one.sizes or [4.0] * len(one.x)
    return "".join(
        f'<circle class="mark" cx="{_x(x, a):.1f}" cy="{_y(y, b):.1f}" r="{size:.1f}"/>'
        for a, b, size in zip(one.x, one.y, sizes, strict=True)
    )


def _dashes(number: int) -> str:
    return ("", " dash1", " dash2")[number // COLOURS % 3]


def _legend(series: Sequence[Series]) -> tuple[str, int]:
    """The legend below the drawing, as many names in a line as there is room for, and how many lines it takes."""
    parts, left, row = [], 12.0, 0
    for number, one in enumerate(series):
        if not one.name:
            continue
        width = 34 + LETTER * len(one.name)
        if left > 12 and left + width > WIDTH:
            left, row = 12.0, row + 1
        at = HEIGHT + 6 + LINE * row
        if one.kind == "line":
            sign = f'<path class="line{_dashes(number)}" d="M{left:.1f} {at - 4}h14"/>'
        else:
            sign = f'<rect class="mark" x="{left + 2:.1f}" y="{at - 9}" width="10" height="10"/>'
        name = f'<text x="{left + 19:.1f}" y="{at}">{escape(one.name)}</text>'
        parts.append(f'<g class="s{number % COLOURS}">{sign}{name}</g>')
        left += width
    return "".join(parts), row + 1 if parts else 0


def _path(x: Axis, y: Axis, one: Series) -> str:
    """The line through its points; those beyond the axes are left out, but for the neighbours of points within."""
    within = [x.holds(a) and y.holds(b) for a, b in zip(one.x, one.y, strict=True)]
    kept = [any(within[max(i - 1, 0) : i + 2]) for i in range(len(within))]
    return "".join(
        ("L" if i and kept[i - 1] else "M") + _at(x, y, a, b)
        for i, (a, b) in enumerate(zip(one.x, one.y, strict=True))
        if kept[i]
    )


def _at(x: Axis, y: Axis, a: float, b: float) -> str:
    return f"{_x(x, a):.1f} {_y(y, b):.1f}"


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _round_step(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step - 1e-12)
