"""Of the pages, with figures that are known: two normal distributions, three standard deviations apart."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from samevoice.evaluation.metrics import probit
from samevoice.evaluation.report import pages, svg
from samevoice.evaluation.report.measure import measure

SEPARATION, TRIALS = 3.0, 20_000
NAME = r'<b>&"net_50%|'
VOID = {"meta", "link", "img", "br", "input", "hr"}


@pytest.fixture(scope="module")
def report():
    half = TRIALS // 2
    shape = probit((np.arange(half) + 0.5) / half)
    scores = np.concatenate([shape, shape + SEPARATION])
    labels = np.arange(TRIALS) >= half
    speakers = np.array([f"s{i % 50}" for i in range(TRIALS)])
    others = np.where(labels, speakers, np.roll(speakers, 1))
    groups = [("gender", np.where(np.arange(TRIALS) % 2, "f", "m"))]
    llrs = SEPARATION * (scores - SEPARATION / 2)  # the true ratio of these two
    entry = measure(scores, labels, (speakers, others), llrs, groups, replicates=20)
    about = {"condition": "first 3 s, clean", "scoring": "as-norm", "refused": 3, "too_short": 1200}
    made = {"model": NAME, "architecture": "eres2net", "parameters": 6_610_688, "protocol": "voxceleb1-o",
            "date": "2026-11-24", "machine": "R&D's <box>", "entries": [about | entry]}  # fmt: skip
    return json.loads(json.dumps(made))  # as it comes back from report.json


class Page(HTMLParser):
    """What a browser finds: elements that are closed, tables' cells, headings, and what is loaded."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.cells, self.texts, self.links, self.tags, self.line = [], [], {}, [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
            if self.open[-1] in ("td", "th"):
                self.cells[-1][-1] += data


def test_figures_are_the_closed_forms(report):
    entry = report["entries"][0]
    normal = float(probit(entry["eer"]))
    assert normal == pytest.approx(-SEPARATION / 2, abs=0.01)
    assert entry["eer_hull"] <= entry["eer"] + 1e-12
    assert entry["min_cllr"] == pytest.approx(entry["cllr"], abs=0.01)  # calibrated, as they are the true ratios
    assert entry["act_dcf_0.01"] == pytest.approx(entry["min_dcf_0.01"], abs=0.02)


def test_html_needs_nothing_else(report):
    text = pages.html([report, report])
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    assert not re.search(r"@import|url\(|javascript:|\son\w+=", text)
    addresses = set(re.findall(r"\w+://[^\"'<> ]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, which is not loaded


def test_html_follows_light_and_dark(report):
    text = pages.html([report])
    assert "color-scheme:light dark" in text
    assert "@media (prefers-color-scheme:dark)" in text


def test_html_escapes_names(report):
    text = pages.html([report])
    assert NAME not in text
    assert "<b>" not in text
    assert "<box>" not in text
    page = Page(text)
    assert page.texts["h1"] == [f"{NAME} on voxceleb1-o"]
    assert page.cells[1][0] == f"{NAME} (as-norm)"


def test_drawings_are_well_formed_and_right(report):
    drawings = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", pages.html([report]), re.S)]
    titles = [drawing.find("{http://www.w3.org/2000/svg}title").text for drawing in drawings]
    assert titles == ["DET", "ROC", f"Scores: {NAME}, as-norm, first 3 s, clean"]
    strokes = [
        path.get("d") for path in drawings[0].iter() if path.get("class") == "line" and "h14" not in path.get("d")
    ]
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", strokes[0]), float)
    # On a DET plot two equal normal distributions are a straight line: deviates of misses and false alarms add to -3.
    low, high = float(probit(1e-4)), float(probit(0.5))
    across = (points[:, 0] - svg.LEFT) / (svg.WIDTH - svg.LEFT - svg.RIGHT)
    up = (svg.HEIGHT - svg.BOTTOM - points[:, 1]) / (svg.HEIGHT - svg.TOP - svg.BOTTOM)
    within = (across > 0.02) & (across < 0.98) & (up > 0.02) & (up < 0.98)
    assert within.sum() > 50
    total = (across + up)[within] * (high - low) + 2 * low
    assert total == pytest.approx(np.full(len(total), -SEPARATION), abs=0.1)


def test_curves_have_false_alarms_across_and_misses_or_hits_upwards(report):
    entry = report["entries"][0] | {"curve": {"false_alarm": [0.0, 0.1, 1.0], "miss": [1.0, 0.4, 0.0]}}
    det, roc = re.findall(r"<svg.*?</svg>", pages.html([report | {"entries": [entry]}]), re.S)[:2]
    low, high = float(probit(1e-4)), float(probit(0.5))
    across, up = ((float(probit(rate)) - low) / (high - low) for rate in (0.1, 0.4))
    wide, tall = svg.WIDTH - svg.LEFT - svg.RIGHT, svg.HEIGHT - svg.TOP - svg.BOTTOM
    assert f"L{svg.LEFT + across * wide:.1f} {svg.TOP + (1 - up) * tall:.1f}" in det
    assert f"L{svg.LEFT + 0.1 * wide:.1f} {svg.TOP + 0.4 * tall:.1f}" in roc


def test_html_and_markdown_have_the_same_cells(report):
    page = Page(pages.html([report]))
    lines = pages.markdown([report]).splitlines()
    unescaped = [[cell.replace(r"\|", "|") for cell in re.split(r"(?<!\\) \| ", line[2:-2])]
                 for line in lines if line.startswith("| ") and "---" not in line]  # fmt: skip
    assert [[cell.strip() for cell in line] for line in unescaped] == [
        [cell.strip() for cell in line] for line in page.cells
    ]


def test_rows_hold_the_figures(report):
    entry = report["entries"][0]
    cells = dict(zip(pages.HEADS, pages.rows([report])[0], strict=True))
    low, high = (100 * bound for bound in entry["intervals"]["eer"])
    assert cells["EER %"] == f"{100 * entry['eer']:.2f} [{low:.2f}, {high:.2f}]"
    assert cells["EER %"].startswith("6.6")  # Phi(-1.5) = 6.68 %
    assert low <= 100 * entry["eer"] <= high
    assert cells["minDCF 0.01"].startswith(f"{entry['min_dcf_0.01']:.3f} [")
    assert cells["actDCF 0.01"] == f"{entry['act_dcf_0.01']:.3f}"
    assert cells["Cllr"] == f"{entry['cllr']:.3f}"
    assert cells["trials"] == "10,000 + 10,000"
    assert cells["recordings left out"] == "3 refused, 1,200 too short"
    assert cells["condition"] == "voxceleb1-o: first 3 s, clean"


def test_published_rows_follow_of_the_same_protocol_only(report):
    published = pages.rows([report])[1:]
    assert ["WavLM LARGE LAP (h=16) + ASTP (the paper's own)", "published: LAP", "", "", "0.37", "", "0.059", "0.029",
            "", "", ""] in published  # fmt: skip
    assert len(published) == 8 + 7 + 16 + 15
    assert len(pages.rows([report | {"protocol": "mine"}])) == 1


def test_breakdowns_are_told(report):
    parts = report["entries"][0]["breakdown"]["gender"]
    ((title, heads, lines),) = pages.more_tables([report])
    assert title == pages.BREAKDOWN
    assert all(len(line) == len(heads) for line in lines)
    assert [line[2:4] for line in lines] == [["gender", "f"], ["gender", "m"]]
    for line, part in zip(lines, parts, strict=True):
        assert line[4] == "5,000 + 5,000"
        assert line[5].startswith(f"{100 * part['eer']:.2f} [")


def test_markdown_cells_do_not_break_the_table(report):
    text = pages.markdown([report])
    assert r'| <b>&"net_50%\| (as-norm) | voxceleb1-o: first 3 s, clean | 10,000 + 10,000 |' in text
    assert text.startswith(f"{NAME} on voxceleb1-o, 6.61 million parameters, 2026-11-24, R&D's <box>")
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.split("\n## ")[0].splitlines() if line[:1] == "|"}
    assert widths == {len(pages.HEADS) + 1}


def test_latex_escapes_and_lines_up(report):
    lines = pages.latex([report]).splitlines()
    assert all(len(re.findall(r"(?<!\\)&", line)) == len(pages.HEADS) - 1 for line in lines)
    assert all(line.endswith(r" \\") for line in lines)
    assert lines[0].startswith(r"system & condition & trials & recordings left out & EER \% & EER \% (hull)")
    assert lines[1].startswith(r'<b>\&"net\_50\%| (as-norm) & voxceleb1-o: first 3 s, clean & 10,000 + 10,000 & ')
    eer = f"{100 * report['entries'][0]['eer']:.2f}"
    assert f" & {eer} [" in lines[1]
    assert not re.search(r"(?<!\\)[_%#$]", "\n".join(lines))


def test_without_calibration_and_intervals_those_cells_are_empty():
    labels = np.arange(10) > 4
    entry = measure(np.arange(10.0), labels, None, replicates=20)
    assert entry["intervals"] == {}
    report = {"model": "m", "protocol": "p", "date": "d", "machine": "x", "entries": [
        {"condition": "full, clean", "scoring": "cosine"} | entry]}  # fmt: skip
    cells = dict(zip(pages.HEADS, pages.rows([report])[0], strict=True))
    assert (cells["EER %"], cells["Cllr"], cells["actDCF 0.01"]) == ("0.00", "", "")
    assert Page(pages.html([report])).open == []  # a perfect system's DET has no point to draw
