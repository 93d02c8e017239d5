import re
from xml.etree import ElementTree as ET

import pytest

from samevoice.evaluation.metrics import probit
from samevoice.evaluation.report import svg

NAMESPACE = "{http://www.w3.org/2000/svg}"
PLAIN = svg.linear_axis("x", 0, 10), svg.linear_axis("y", 0, 1)


def drawn(*arguments, **more) -> ET.Element:
    return ET.fromstring(svg.plot(*arguments, **more))


def points(root: ET.Element, kind: str = "line") -> list[list[tuple[float, float]]]:
    """The strokes of all lines of this class, legend left out, in pixels."""
    strokes = []
    for path in root.iter(f"{NAMESPACE}path"):
        text = path.get("d", "")
        if kind in path.get("class", "").split() and "h14" not in text:
            for stroke in re.split("M", text)[1:]:
                pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)", stroke)
                strokes.append([(float(a), float(b)) for a, b in pairs])
    return strokes


def texts(root: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in root.iter(f"{NAMESPACE}text")]


def test_det_points_lie_at_their_normal_deviates():
    axes = svg.rate_axis("fa", 1e-4, 0.5), svg.rate_axis("miss", 1e-4, 0.5)
    root = drawn("DET", *axes, [svg.Series("a", [0.001, 0.02, 0.1], [0.2, 0.02, 0.005])])
    ((_, (x, y), _),) = points(root)
    share = float((probit(0.02) - probit(1e-4)) / (probit(0.5) - probit(1e-4)))
    assert x == pytest.approx(svg.LEFT + share * (svg.WIDTH - svg.LEFT - svg.RIGHT), abs=0.1)
    assert y == pytest.approx(svg.HEIGHT - svg.BOTTOM - share * (svg.HEIGHT - svg.TOP - svg.BOTTOM), abs=0.1)
    ticks = [text for _, text in axes[0].ticks]
    assert ticks == ["0.01", "0.1", "0.5", "1", "2", "5", "10", "20", "40"]


def test_lines_end_at_the_axes():
    a = svg.Series("a", [-3, -2, 5, 11, 12, 13, 7, 6], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    first, second = points(drawn("t", *PLAIN, [a]))
    left, right = svg.LEFT, svg.WIDTH - svg.RIGHT
    assert [x for x, _ in first] == [left, pytest.approx((left + right) / 2), right]
    assert second[0][0] == right
    assert len(second) == 3
    assert points(drawn("t", *PLAIN, [svg.Series("a", [1, 2], [3, 4])])) == []


def test_areas_stand_on_the_axis():
    root = drawn("t", *PLAIN, [svg.Series("a", [0, 5, 10], [0, 1, 0.5], "area")])
    (corners,) = points(root, "area")
    bottom = svg.HEIGHT - svg.BOTTOM
    assert [y for _, y in corners] == [bottom, bottom, svg.TOP, pytest.approx((bottom + svg.TOP) / 2), bottom]


def test_names_and_titles_are_escaped():
    root = drawn('<b>&" title', *PLAIN, [svg.Series('<b>&"', [1, 2], [0, 1]), svg.Series("", [1, 2], [0, 1])])
    assert {'<b>&"', '<b>&" title'} <= set(texts(root))
    assert root.find(f"{NAMESPACE}title").text == '<b>&" title'
    assert "" not in texts(root)


def test_the_legend_is_below_the_drawing_and_inside():
    series = [svg.Series(f"a rather long name of a system, {i}", [1, 2], [0, 1]) for i in range(18)]
    root = drawn("t", *PLAIN, series)
    _, _, width, height = map(float, root.get("viewBox").split())
    entries = [text for text in root.iter(f"{NAMESPACE}text") if (text.text or "").startswith("a rather")]
    places = {(float(text.get("x")), float(text.get("y"))) for text in entries}
    assert len(places) == 18
    assert all(svg.HEIGHT - 8 < y < height and x + 5 * len("a rather long name") < width for x, y in places)
    classes = [path.get("class") for path in root.iter(f"{NAMESPACE}path") if "h14" in path.get("d")]
    colours = [group.get("class") for group in root.iter(f"{NAMESPACE}g") if group.get("class")][18:]
    assert len(set(zip(colours, classes, strict=True))) == 18  # none looks like another


def test_short_names_share_a_line_of_the_legend():
    two = drawn("t", *PLAIN, [svg.Series(name, [1], [1], "marks") for name in ("targets", "nontargets")])
    assert float(two.get("viewBox").split()[3]) == svg.HEIGHT + svg.LINE


def test_long_titles_take_two_lines():
    title = "Scores: a model with a long name, adaptive s-norm and quality measures, first 1.5 s, noise at 5 dB"
    root = drawn(title, *PLAIN, [])
    lines = [text.text for text in root.iter(f"{NAMESPACE}text") if text.get("class") == "title"]
    assert " ".join(lines) == title
    assert len(lines) == 2
    assert float(root.get("viewBox").split()[3]) == svg.HEIGHT + svg.LINE


def test_a_drawing_brings_its_colours_for_light_and_dark():
    light, dark = svg.STYLE.split("@media (prefers-color-scheme:dark)")
    for name in ("--ink", "--faint", "--paper", *(f".s{i}{{--c" for i in range(svg.COLOURS))):
        assert name in light
        assert name in dark


@pytest.mark.parametrize(("low", "high", "ticks"), [(0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]), (3, 3, None)])
def test_ticks_are_round(low, high, ticks):
    axis = svg.linear_axis("x", low, high)
    assert all(axis.holds(value) for value, _ in axis.ticks)
    assert ticks is None or [text for _, text in axis.ticks] == ticks
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 1
