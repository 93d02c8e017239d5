"""Networks to ONNX, through a gate: the file is written only if ONNX Runtime gives the embeddings that torch gives."""

import copy
import gzip
import json
import logging
import tempfile
import warnings
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samevoice.files import replacing
from samevoice.hub import graphs
from samevoice.hub.errors import HubError

if TYPE_CHECKING:
    from torch import Tensor

    from samevoice.models.base import SpeakerNetwork

TOLERANCE = 1e-4  # of the largest value of an embedding
GATE = ((1, 150), (1, 200), (2, 357), (3, 998))  # (batch, frames) that the gate tries


def export(network: "SpeakerNetwork", path: Path, half: bool = False) -> float:
    """Write the network as one ONNX file, batch and length free, weights inside; returns the gate's largest difference.

    half: keep matrices and kernels as float16, in half the bytes; what is computed stays float32, and the gate compares
    with the network whose weights are rounded so.

    The input is called "input" and the output "speaker_embedding" (inside WavLM, something is called "embedding").
    The gate runs torch and ONNX Runtime on made-up input of several lengths and batch sizes; HubError, and no file, if
    any embedding differs by more than 1e-4 of its largest value.
    """
    if half:
        network = _rounded(network)
    with replacing(Path(path)) as temporary:
        _write(network, temporary)
        if half:
            _keep_half(temporary, _matrices(network))
        return _gate(network, temporary)


def export_graph(network: "SpeakerNetwork", name: str) -> None:
    """Write the network without its weights to hub/graphs, for `graphs.fill`. The gate is run on the filled graph."""
    import onnx

    model = _program(network).model_proto
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "weights", "offset": "0", "length": str(size)}.items():
            tensor.external_data.add(key=key, value=value)
    _strip(model)
    with replacing(graphs.FOLDER / f"{name}.onnx.gz") as temporary:
        temporary.write_bytes(gzip.compress(model.SerializeToString(), mtime=0))
    with replacing(graphs.FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(shapes, indent=0) + "\n")
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        filled = Path(folder) / "filled.onnx"
        graphs.fill(name, weights, filled)
        _gate(network, filled)


def example(network: "SpeakerNetwork", batch: int, frames: int) -> "Tensor":
    """A made-up input of this network's kind, normally distributed; a waveform gets 320 samples for each frame."""
    import torch

    if network.input_kind == "fbank":
        shape = (batch, frames, network.config["mels"])
    elif network.input_kind == "hidden":
        shape = (batch, network.config["layers"], frames, network.config["hidden"])
    else:
        shape = (batch, frames * 320)
    return torch.randn(shape, generator=torch.Generator().manual_seed(frames))


def _program(network: "SpeakerNetwork"):
    """The exporter's program, not optimised: its optimiser folds BatchNorms, so that weights lose their names, and
    drops additions as small as the 1e-8 under the root of statistics pooling. ONNX Runtime folds when it loads it.
    """
    import torch

    length_axis = 2 if network.input_kind == "hidden" else 1
    dynamic = {0: torch.export.Dim.DYNAMIC, length_axis: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # no torchvision: why not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes to its own authors
        program = torch.onnx.export(
            network.eval(),
            (example(network, 2, 200),),
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=(dynamic,),
            input_names=["input"],
            output_names=["speaker_embedding"],
        )
    assert program is not None  # it is with dynamo=True
    return program


def _write(network: "SpeakerNetwork", path: Path) -> None:
    import onnx

    model = _program(network).model_proto
    _strip(model)
    onnx.save(model, path)


def _matrices(network: "SpeakerNetwork") -> "dict[str, Tensor]":
    """Almost all of a network's bytes, and nothing whose smallest values count, as BatchNorm's variances do."""
    return {name: value for name, value in network.named_parameters() if value.ndim > 1}


def _rounded(network: "SpeakerNetwork") -> "SpeakerNetwork":
    network = copy.deepcopy(network)
    for name, value in _matrices(network).items():
        value.data = value.data.half().float()
        if not value.data.isfinite().all():
            raise HubError(f"{name} has values that float16 can't hold; export the network without --half")
    return network


def _keep_half(path: Path, names: Container[str]) -> None:
    """Turn these initializers into float16 and cast them where they are read; ONNX Runtime does so as it loads."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph, read_as = model.graph, {}
    for tensor in graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
            read_as[tensor.name] = f"{tensor.name}.float32"
    casts = [helper.make_node("Cast", [kept], [read], to=onnx.TensorProto.FLOAT) for kept, read in read_as.items()]
    nodes = [*casts, *graph.node]
    for node in graph.node:
        node.input[:] = [read_as.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def _strip(model) -> None:
    """Drop the exporter's notes (where each node came from): they are most of a graph's bytes."""
    del model.graph.value_info[:]
    for item in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        item.doc_string = ""
        del item.metadata_props[:]


def _gate(network: "SpeakerNetwork", path: Path) -> float:
    """The largest difference of ONNX Runtime's embeddings from torch's, relative to an embedding's largest value."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch, frames in GATE:
        given = example(network, batch, frames)
        with torch.inference_mode():
            expected = network.eval()(given).numpy()
        found = session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]
        difference = float((np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)).max())
        if not difference <= TOLERANCE:  # a NaN fails too
            where = f"{batch} x {frames} frames"
            raise HubError(f"ONNX and torch differ by {difference:.1e} of the embedding on {where}; not written")
        worst = max(worst, difference)
    return worst


def export_graphs() -> None:
    """Write the graph of every card that wants one, with random weights' names and shapes: `make graphs`."""
    from samevoice.hub import cards
    from samevoice.models import create

    wanted = {card.graph: card for card in map(cards.find, cards.names()) if card.graph}
    for graph, card in wanted.items():
        export_graph(create(card.architecture, **card.config), graph)
