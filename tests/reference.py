"""The public implementations' outputs kept beside the checkout; tests that need them skip when they are absent."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
FOLDER = SHARED / "reference"


def fixture_names(*prefixes: str) -> list:
    """Names of the stored networks that start so, or one parameter that skips."""
    found = sorted(
        p.stem for p in FOLDER.glob("*.npz") if p.stem.startswith(prefixes) and p.with_suffix(".json").exists()
    )
    return found or [pytest.param("absent", marks=pytest.mark.skip(reason="no reference outputs beside the checkout"))]


def description(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def state_dict(name: str) -> dict[str, np.ndarray]:
    weights = rebuild()
    return {key: weights.tensor(key, tuple(shape)) for key, shape in description(name)["state"].items()}


def cases(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(input, expected output) pairs."""
    outputs = np.load(FOLDER / f"{name}.npz")
    return [(rebuild().inputs(key, tuple(shape)), outputs[key]) for key, shape in description(name)["inputs"].items()]


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-4) -> None:
    """The largest difference is under `tolerance` of the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def rebuild():
    spec = importlib.util.spec_from_file_location("reference_weights", FOLDER / "reference_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
