import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs"
ENTRY = {
    "condition": "first 3 s, clean", "eer": 0.0123, "min_dcf_0.01": 0.13951, "min_cllr": 0.0351, "cllr": 0.0494,
    "intervals": {"eer": [0.0056, 0.0144]},
}  # fmt: skip
OURS = {"model": "ours", "protocol": "p", "date": "2026-11-27", "machine": "a box", "entries": [ENTRY]}
THEIRS = OURS | {"model": "theirs", "entries": [{**ENTRY, "eer": 0.5, "cllr": None}]}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # as when it is run
    spec = importlib.util.spec_from_file_location("make_eres2net_mini", FOLDER / "make_eres2net_mini.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("make_results", None)


def test_systems_stand_side_by_side(script):
    other = OURS | {"protocol": "q", "entries": [{**ENTRY, "condition": "full, clean"}]}
    lines = script.tables([OURS, other, THEIRS]).splitlines()
    assert lines[0] == "| EER %, with its 95 % interval | ours | theirs |"
    assert lines[2] == "| p: first 3 s, clean | 1.23 [0.56, 1.44] | 50.00 [0.56, 1.44] |"
    assert lines[3] == "| q: full, clean | 1.23 [0.56, 1.44] |  |"
    assert lines[7] == "| p: first 3 s, clean | 0.140 / 0.035 / 0.049 | 0.140 / 0.035 / - |"
    assert lines[-1] == "Measured: 2026-11-27, a box."


def test_the_page_of_the_docs_has_the_marks(script):
    text = script.PAGE.read_text(encoding="utf-8")
    assert "| p: first 3 s, clean |" in script.between(text, script.tables([OURS]))
