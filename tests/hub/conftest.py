import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samevoice.audio.fbank import FbankSettings
from samevoice.hub.cards import Card, Source


@dataclass(frozen=True)
class Published:
    """A tiny network as WeSpeaker would publish it: its checkpoint, and the folder that has its weight-less graph."""

    network: Any
    checkpoint: Path
    graphs: Path

    def card(self, *sources: Source, **changes: Any) -> Card:
        words: dict[str, Any] = {
            "name": "tiny-xvector",
            "architecture": "xvector",
            "config": self.network.config,
            "features": FbankSettings(),
            "licence": "Apache-2.0",
            "trained_on": "nothing",
            "sources": sources or (Source("file", str(self.checkpoint)),),
            "convention": "wespeaker",
            "graph": "tiny-xvector",
        }
        return Card(**{**words, **changes})

    def assert_same(self, path: Path) -> None:
        """The ONNX file gives the embeddings that the torch network gives."""
        import torch

        from samevoice.runtime.session import Session

        for batch, frames in ((1, 60), (3, 201)):
            given = np.random.default_rng(frames).standard_normal((batch, frames, 80)).astype(np.float32)
            with torch.inference_mode():
                expected = self.network(torch.from_numpy(given)).numpy()
            np.testing.assert_allclose(Session(path)(given), expected, atol=1e-4 * np.abs(expected).max())


def settle(network: Any) -> Any:
    """Evaluation mode, with BatchNorm statistics that a training could have left."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def wespeaker_names(state: dict[str, Any]) -> dict[str, Any]:
    """Our x-vector's parameters under WeSpeaker's names."""
    names = {}
    for ours, value in state.items():
        theirs = re.sub(r"^frame\.(\d)\.conv\.", lambda m: f"frame_{int(m[1]) + 1}.conv_1d.", ours)
        names[re.sub(r"^frame\.(\d)\.", lambda m: f"frame_{int(m[1]) + 1}.", theirs)] = value
    return names


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Published:
    torch = pytest.importorskip("torch", reason="writes a graph and a checkpoint with torch")
    pytest.importorskip("onnxscript")
    from samevoice.hub import export, graphs
    from samevoice.models import create

    torch.manual_seed(0)
    network = settle(create("xvector", channels=8, stats_channels=12, embedding_dim=6))
    folder = tmp_path_factory.mktemp("published")
    torch.save(wespeaker_names(network.state_dict()), folder / "avg_model.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "FOLDER", folder)
        export.export_graph(network, "tiny-xvector")
    return Published(network, folder / "avg_model.pt", folder)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SAMEVOICE_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)
