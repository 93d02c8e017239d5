"""One model in ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime

from samevoice.hub.errors import HubError

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session:
    """Filter banks (batch, frames, mels), or waveforms (batch, samples), to embeddings (batch, dim), all float32.

    Safe to call from threads.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 0):
        """device: "cpu" or "cuda"; ValueError if this ONNX Runtime lacks it. HubError if the file is no model.

        threads: 0 for ONNX Runtime's choice, one for each core.
        """
        if device not in _PROVIDERS:
            raise ValueError(f"unknown device {device!r}; valid: {', '.join(_PROVIDERS)}")
        if _PROVIDERS[device] not in onnxruntime.get_available_providers():
            raise ValueError(f"this ONNX Runtime has no {device}; install onnxruntime-gpu in place of onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[_PROVIDERS[device]])
        except Exception as error:  # onnxruntime raises classes of its own, one for each of its status codes
            raise HubError(f"{path}: not an ONNX model that ONNX Runtime can load: {error}") from None
        self._input = self._session.get_inputs()[0].name

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run(None, {self._input: features})[0])
