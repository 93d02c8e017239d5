"""docs/models.md says what the networks are now."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_table_of_networks_is_fresh():
    spec = importlib.util.spec_from_file_location("make_models", DOCS / "make_models.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (DOCS / "models.md").read_text(encoding="utf-8") == script.page(), "run `make docs`"
