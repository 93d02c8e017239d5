"""What tests of several folders share: real speech, a tiny model, the default model, the command line."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

SAMPLES = Path(__file__).parents[1] / "samples"
TINY_CARD = """\
name: tiny
architecture: none
config: {}
features: {mels: 80, window: povey, scale: 1.0, subtract_mean: true}
licence: Apache-2.0
trained_on: nothing
calibration:
  slope: 10.0
  offset: -6.0
  data: made-up trials [of nobody]
  operating_points:
    5%: {threshold: 0.5, false_alarm: 0.05, miss: 0.01}
    0.1%: {threshold: 0.9, false_alarm: 0.001, miss: 0.25}
"""


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of 24 real recordings that the repository carries."""
    return SAMPLES


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Eight seconds of a clean woman's voice, float32 at 16 kHz."""
    from samevoice.audio import read

    return read(SAMPLES / "allison-smith-en" / "queue-periodic-announce.flac")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model's folder, calibrated, whose network is random: features -> tanh layer -> mean over frames -> 16."""
    onnx = pytest.importorskip("onnx", reason="the tiny model is written with onnx")
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {
        "hidden": random.standard_normal((80, 32)).astype(np.float32) / 9,
        "out": random.standard_normal((32, 16)).astype(np.float32) / 6,
        "frames_axis": np.array([1]),
    }
    nodes = [
        helper.make_node("MatMul", ["input", "hidden"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("ReduceMean", ["b", "frames_axis"], ["c"], keepdims=0),
        helper.make_node("MatMul", ["c", "out"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", "frames", 80])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(model, folder / "model.onnx")
    (folder / "card.yaml").write_text(TINY_CARD)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_model):
    """The tiny model's Verifier."""
    import samevoice

    return samevoice.load(tiny_model)


@pytest.fixture(scope="session")
def default(request):
    """The default model's Verifier from the cache, where setting up (`make test`) pulls it."""
    import samevoice
    from samevoice.hub import cards

    try:
        return samevoice.load(cards.DEFAULT, offline=True)
    except samevoice.HubError as error:
        pytest.skip(f"the default model can't be had here: {error}")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys):
    """`command("verify", a, b)` is `samevoice verify a b`, in this process."""
    from samevoice.cli import main, output

    def run(*arguments) -> Ended:
        monkeypatch.setattr(sys, "argv", ["samevoice", *map(str, arguments)])
        monkeypatch.setattr(output.stdout, "width", 300)
        monkeypatch.setattr(output.stderr, "width", 300)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Ended(end.value.code or 0, *capsys.readouterr())

    return run
