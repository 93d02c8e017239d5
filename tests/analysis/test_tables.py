import json

import pytest

from samevoice.analysis import tables
from samevoice.analysis.tables import Run, RunError
from samevoice.evaluation import published
from samevoice.evaluation.protocols import Condition


def report(path, protocol="voxceleb1-o", scoring="cosine", **figures):
    entry = {"scoring": scoring, "eer": 0.0101, "min_dcf_0.01": 0.0987, "cllr": 0.1} | figures
    entries = [entry | {"condition": Condition().name}, entry | {"condition": "another", "eer": 0.5}]
    content = {"model": "mine", "architecture": "eres2net", "protocol": protocol, "entries": entries}
    path.write_text(json.dumps(content))
    return content


def test_reports_of_one_system_become_one_line(tmp_path):
    (tmp_path / "h").mkdir()
    first = report(tmp_path / "o.json")
    report(tmp_path / "h" / "report.json", "voxceleb1-h", eer=0.02)
    normed = report(tmp_path / "s.json", scoring="adaptive s-norm")
    run, other = tables.read([tmp_path / "o.json", tmp_path / "h", tmp_path / "s.json"])
    assert run.results == {
        "voxceleb1-o": {"eer": pytest.approx(1.01), "min_dcf_0.01": 0.0987},
        "voxceleb1-h": {"eer": pytest.approx(2.0), "min_dcf_0.01": 0.0987},
    }
    assert other.scoring == "adaptive s-norm"
    (tmp_path / "both.json").write_text(json.dumps([first, normed]))
    assert [run.scoring for run in tables.read([tmp_path / "both.json"])] == ["cosine", "adaptive s-norm"]


def test_parameters_of_a_report_stand_in_the_tables(tmp_path):
    content = report(tmp_path / "a.json") | {"parameters": 6_610_688}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (run,) = tables.read([tmp_path / "a.json"])
    (table,) = tables.assemble([run], ["eres2net-table4"])
    assert dict(zip(table.heads, table.lines[-1].cells, strict=True))["params (M)"] == "6.6"
    report(tmp_path / "b.json")  # of an older version, without
    assert tables.read([tmp_path / "b.json"])[0].parameters is None


@pytest.mark.parametrize("content", ["no JSON", "[1]", "{}", '{"entries": [1]}'])
def test_what_is_no_report_is_told(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RunError, match=r"a\.json: is not a report"):
        tables.read([tmp_path / "a.json"])


def test_published_rows_are_all_there_as_printed():
    made = tables.assemble([])
    assert [len(table.lines) for table in made] == [len(published.tables()[name].rows) for name in tables.TITLES]
    for table in made:
        assert all(len(line.cells) == len(table.heads) for line in table.lines)
        assert not any(line.measured for line in table.lines)
    table = made[2]
    assert table.heads[:4] == ["system", "variant", "Vox-O EER (%)", "Vox-O DCF 0.01"]
    assert table.lines[-1].cells == ["ERes2Net", "LMT", "0.83", "0.072", "0.94", "0.104", "1.79", "0.173"]
    lap = made[0].lines[-1].cells
    assert lap[:4] == ["WavLM LARGE", "LAP (h=16) + ASTP", "the paper's own", "315.5 + 2.3"]
    assert lap[4:] == ["0.37", "0.059", "0.029", "0.50", "0.055", "0.032", "1.01", "0.099", "0.061"]


def test_a_run_stands_below_the_rows_of_its_network():
    run = Run("mine", "eres2net", "cosine", 6_610_688, {"voxceleb1-o": {"eer": 1.012, "min_dcf_0.01": 0.0987}})
    lap1, lap2, three, four = tables.assemble([run])
    assert not any(line.measured for table in (lap1, lap2) for line in table.lines)
    below = [i for i, line in enumerate(three.lines) if line.measured]
    assert [three.lines[i - 1].cells[:2] for i in below] == [["ERes2Net", "Standard"], ["ERes2Net", "LMT"]]
    assert three.lines[below[0]].cells == ["mine", "measured; cosine", "1.01", "0.099", "", "", "", ""]
    assert four.lines[-1].cells == ["mine", "measured; cosine", "6.6", "1.01", "0.099"]


def test_other_networks_stand_at_the_end_of_comparisons():
    run = Run("mine", "campplus", "", None, {"voxceleb1-o": {"eer": 1.0}})
    made = tables.assemble([run])
    assert [table.lines[-1].measured for table in made] == [True, False, False, True]
    assert [sum(line.measured for line in table.lines) for table in made] == [1, 0, 0, 1]
    assert tables.assemble([run], ["lap-table2"])[0].lines[-1].measured is False


def test_runs_on_other_protocols_leave_no_empty_line():
    run = Run("mine", "eres2net", "", None, {"librispeech-mini": {"eer": 1.0}})
    other = Run("other", "campplus", "", None, {"librispeech-mini": {"eer": 1.0}})
    assert not any(line.measured for table in tables.assemble([run, other]) for line in table.lines)


def test_markdown_and_latex():
    run = Run("my_net|2", "eres2net", "50% cosine", None, {"voxceleb1-o": {"eer": 1.0}})
    (table,) = tables.assemble([run], ["eres2net-table4"])
    text = tables.markdown([table])
    assert "| ERes2Net | the paper's own | 4.64 | 0.83 | 0.072 |" in text
    assert r"| **my_net\|2** | **measured; 50% cosine** |  | **1.00** |  |" in text
    text = tables.latex([table])
    assert r"\begin{tabular}{llrrr}" in text
    assert r"system & variant & params (M) & Vox-O EER (\%) & Vox-O DCF 0.01 \\" in text
    assert r"\textbf{my\_net|2} & \textbf{measured; 50\% cosine} &  & \textbf{1.00} &  \\" in text
