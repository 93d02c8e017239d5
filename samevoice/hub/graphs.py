"""ONNX graphs without weights: with one, a published checkpoint becomes an ONNX model and needs no torch for it.

`graphs/NAME.onnx.gz` is the network of a card exported once, its BatchNorms not folded, so that each initializer has
the name of a parameter of our network (`hub/export.py` writes these files).
"""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samevoice.hub.errors import HubError

FOLDER = Path(__file__).parent / "graphs"


def fill(graph: str, weights: Mapping[str, np.ndarray], target: Path) -> None:
    """Write a complete ONNX file to `target`: the graph of that name with these weights (our parameter names).

    ONNX Runtime puts the weights in, folds the BatchNorms and writes the file.
    Raises HubError that lists every weight which is missing, unknown or of another shape.
    """
    import onnxruntime

    weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    model = gzip.decompress((FOLDER / f"{graph}.onnx.gz").read_bytes())
    expected = parameters(graph)
    problems = [f"missing {name} {shape}" for name, shape in expected.items() if name not in weights]
    problems += [f"unknown {name} {list(value.shape)}" for name, value in weights.items() if name not in expected]
    problems += [
        f"{name} is {list(weights[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and list(weights[name].shape) != shape
    ]
    if problems:
        raise HubError(f"these weights are not {graph}'s:\n  " + "\n  ".join(problems))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # portable folding only
    options.optimized_model_filepath = str(target)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weights[n], np.float32)) for n in expected]
    options.add_external_initializers(list(expected), values)
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, one for each of its status codes
        raise HubError(f"ONNX Runtime can't build {graph} from these weights: {error}") from None


def parameters(graph: str) -> dict[str, list[int]]:
    """Names and shapes of the weights that a graph wants."""
    return json.loads((FOLDER / f"{graph}.json").read_text())
