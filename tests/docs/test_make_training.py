import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pydantic")
SCRIPT = Path(__file__).parents[2] / "docs" / "make_training.py"
spec = importlib.util.spec_from_file_location("make_training", SCRIPT)
make_training = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_training)

COST = {"phase": "large-margin", "steps": 51186, "parameters": 7.8e6, "trained": 7.7e6, "state_gib": 0.09,
        "activation_mib": 671.4, "batch_gib": 83.9, "gflop": 60.0}  # fmt: skip


def test_hours_are_operations_over_speed():
    cells = make_training.row("eres2net", COST)
    assert cells[:2] == ["`eres2net`, large-margin", "51,186"]
    assert cells[5] == "128: 84"
    # 60e9 x 6 epochs x 1,092,009 utterances / 1e14 a second / 3600
    assert cells[7] == "1.1"


def test_the_table_goes_between_its_marks():
    text = f"before\n{make_training.START}old\n{make_training.END}after\n"
    page = make_training.page(text, {"eres2net": [COST]})
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert "`eres2net`, large-margin" in page
    with pytest.raises(ValueError, match="needs the lines"):
        make_training.page("no marks", {})


def test_the_page_has_every_cost_that_is_kept():
    import json

    text = make_training.PAGE.read_text(encoding="utf-8")
    costs = json.loads(make_training.COSTS.read_text(encoding="utf-8"))
    assert text == make_training.page(text, costs)
