import json
from xml.dom import minidom

import pytest


@pytest.fixture
def report(command, tiny_model, samples, tmp_path):
    made = command("evaluate", "trials", "make", samples, "-o", tmp_path / "t.txt", "--kind", "exhaustive")
    assert made.status == 0, made.err
    arguments = ["--trials", tmp_path / "t.txt", "--recordings", samples, "--cache", tmp_path / "c", "--replicates", 20]
    done = command("evaluate", tiny_model, *arguments, "-o", tmp_path / "report", "--json")
    assert done.status == 0, done.err
    return tmp_path / "report", json.loads(done.out)


def test_a_report_is_complete(report):
    folder, told = report
    assert json.loads((folder / "report.json").read_text()) == told
    entry = told["entries"][0]
    assert entry["trials"] == entry["targets"] + entry["nontargets"] == 24 * 23 // 2
    assert entry["min_dcf_0.05"] <= 1
    assert entry["intervals"]["eer"][0] <= entry["intervals"]["eer"][1]
    shown = f"{100 * entry['eer']:.2f}"
    page = (folder / "report.html").read_text()
    assert "src=" not in page
    assert "prefers-color-scheme:dark" in page
    for svg in page.split("<svg")[1:]:
        minidom.parseString("<svg" + svg.split("</svg>")[0] + "</svg>")
    for name in ("report.html", "report.md", "report.tex"):
        assert shown in (folder / name).read_text()


def test_compare(command, report):
    folder, told = report
    both = command("evaluate", "compare", folder, folder, "--replicates", 10, "--json")
    first, second = json.loads(both.out)
    assert first == told
    difference = second["entries"][0].pop("difference")
    assert second == told
    assert difference["eer"] == {"value": 0, "low": 0, "high": 0}
    assert (difference["trials"], difference["of_one_alone"]) == (276, 0)


def test_a_missing_recording_is_told_first(command, tiny_model, samples, tmp_path):
    (tmp_path / "t.txt").write_text("1 gone.flac there.flac\n")
    done = command("evaluate", tiny_model, "--trials", tmp_path / "t.txt", "--recordings", samples)
    assert done.status == 2
    assert "2 recordings are missing, 1 of 1 trials need them: gone.flac" in done.err


def test_an_unknown_protocol_names_the_nearest(command):
    done = command("evaluate", "--protocol", "voxceleb-o")
    assert done.status == 2
    assert "did you mean voxceleb1-o?" in done.err
