"""Small drawings as SVG text: lines, steps and bars over axes, for light and dark pages, without a plotting library.

A drawing carries its own colours: it follows the page's `prefers-color-scheme` wherever it is put.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 34, 48
COLOURS = 8  # series beyond these begin again
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
    labels: Sequence[str] = ()  # of marks


def probit(p: float) -> float:
    """The normal deviate of a probability, as DET axes have it."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(p, 1e-9), 1 - 1e-9))


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
    return Axis(label, low, high, ticks, probit)


def plot(title: str, x: Axis, y: Axis, series: Sequence[Series], guides: Sequence[Series] = ()) -> str:
    """One drawing. guides: dashed lines in ink, such as the diagonal."""
    parts = [
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
    ]
    bottom = HEIGHT - BOTTOM
    for value, text in x.ticks:
        at = _x(x, value)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>')
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
        parts.append(f'<g class="s{number % COLOURS}">{_drawn(x, y, one)}</g>')
    parts.append(_legend([(i % COLOURS, one.name) for i, one in enumerate(series) if one.name]))
    return "".join(parts) + "</svg>"


def _drawn(x: Axis, y: Axis, one: Series) -> str:
    if one.kind == "line":
        return f'<path class="line" d="{_path(x, y, one)}"/>'
    if one.kind == "area":
        base = _y(y, y.low)
        start, end = _x(x, one.x[0]), _x(x, one.x[-1])
        return f'<path class="area" d="M{start:.1f} {base:.1f}L{_path(x, y, one)[1:]}L{end:.1f} {base:.1f}Z"/>'
    sizes = one.sizes or [4.0] * len(one.x)
    labels = one.labels or [""] * len(one.x)
    return "".join(
        f'<circle class="mark" cx="{_x(x, a):.1f}" cy="{_y(y, b):.1f}" r="{size:.1f}"/>'
        + (f'<text x="{_x(x, a) + size + 3:.1f}" y="{_y(y, b) + 4:.1f}">{escape(label)}</text>' if label else "")
        for a, b, size, label in zip(one.x, one.y, sizes, labels, strict=True)
    )


def _legend(entries: list[tuple[int, str]]) -> str:
    rows = []
    for row, (colour, name) in enumerate(entries):
        at = TOP + 14 + 16 * row
        rows.append(
            f'<g class="s{colour}"><rect class="mark" x="{WIDTH - RIGHT - 14}" y="{at - 9}" width="10" height="10"/>'
            f'<text x="{WIDTH - RIGHT - 20}" y="{at}" text-anchor="end">{escape(name)}</text></g>'
        )
    return "".join(rows)


def _path(x: Axis, y: Axis, one: Series) -> str:
    points = [f"{_x(x, a):.1f} {_y(y, b):.1f}" for a, b in zip(one.x, one.y, strict=True)]
    return "M" + "L".join(points)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _round_step(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step - 1e-12)
