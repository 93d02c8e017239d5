import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "make_results.py"
ENTRY = {
    "condition": "first 3 s, clean", "scoring": "cosine", "recordings": 89, "refused": 2, "too_short": 1011,
    "targets": 356, "nontargets": 3560, "eer": 0.0123, "eer_hull": 0.0119, "min_dcf_0.01": 0.13951,
    "min_dcf_0.05": 0.0751, "act_dcf_0.01": 0.2, "min_cllr": 0.0351, "cllr": 0.0494,
    "intervals": {"eer": [0.0056, 0.0144]},
    "breakdown": {"gender": [{"group": "f", "targets": 1, "nontargets": 2, "eer": 0.5, "interval": None}]},
}  # fmt: skip
REPORT = {"model": "mine", "protocol": "librispeech-mini", "date": "2026-11-24", "machine": "a box", "entries": [ENTRY]}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("make_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_put_between_its_marks(script):
    text = f"# Title\n\nAbove.\n\n{script.START}\nold table\n\n{script.END}\nBelow.\n"
    once = script.page(text, [REPORT])
    assert once.startswith(f"# Title\n\nAbove.\n\n{script.START}\nmine on librispeech-mini, ")
    assert once.endswith(f"\n\n{script.END}\nBelow.\n")
    assert "old table" not in once
    assert script.page(once, [REPORT]) == once


def test_the_table_tells_all_that_counts(script):
    made = script.page(script.START + script.END, [REPORT, REPORT | {"model": "other"}])
    head, _, *lines = [line.strip("| ").split(" | ") for line in made.splitlines() if line.startswith("|")]
    assert [line[0] for line in lines] == ["mine (cosine)", "other (cosine)"]
    cells = dict(zip(head, lines[0], strict=True))
    assert cells["condition"] == "librispeech-mini: first 3 s, clean"
    assert cells["trials"] == "356 + 3,560"
    assert cells["recordings left out"] == "2 refused, 1,011 too short"
    assert cells["EER %"] == "1.23 [0.56, 1.44]"
    assert cells["minDCF 0.01"] == "0.140"
    assert "2026-11-24" in made
    assert "a box" in made
    assert "Published rows" not in made


@pytest.mark.parametrize("text", ["# Title\n", "{START}the rest\n", "{END}{START}"])
def test_a_page_without_marks_is_left_alone(script, text):
    with pytest.raises(ValueError, match="needs the lines '<!-- conditions"):
        script.page(text.format(START=script.START, END=script.END), [REPORT])


def test_the_page_of_the_docs_has_the_marks_and_what_to_run(script):
    text = script.PAGE.read_text(encoding="utf-8")
    assert json.dumps(ENTRY["condition"])[1:-1] in text
    assert "| recordings left out |" in script.page(text, [REPORT])
    assert "python docs/make_results.py " in text


def test_without_reports_nothing_is_written():
    before = SCRIPT.with_name("results.md").read_bytes()
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 1
    assert "REPORT_FOLDER" in done.stderr
    assert SCRIPT.with_name("results.md").read_bytes() == before
