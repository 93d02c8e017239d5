"""ONNX graphs without weights: with one, a published checkpoint becomes an ONNX model and needs no torch for it.

`graphs/NAME.onnx.gz` is the network of a card exported once, its BatchNorms not folded, so that each initializer has
the name of a parameter of our network (`hub/export.py` writes these files).
"""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samevoice.hub import state
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
    try:
        state.check(graph, expected, state.shapes(weights))
    except ValueError as error:
        raise HubError(str(error)) from None
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
