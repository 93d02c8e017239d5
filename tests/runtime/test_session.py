from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from samevoice.hub import HubError
from samevoice.runtime.session import Session


def test_devices(tiny_model):
    import onnxruntime

    with pytest.raises(ValueError, match="unknown device 'gpu'; valid: cpu, cuda"):
        Session(tiny_model / "model.onnx", "gpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ValueError, match="has no cuda; install onnxruntime-gpu"):
            Session(tiny_model / "model.onnx", "cuda")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_is_no_model_is_told(content, tmp_path):
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(HubError, match=r"a\.onnx: not an ONNX model"):
        Session(tmp_path / "a.onnx")


def test_threads_may_share_it(tiny_model):
    session = Session(tiny_model / "model.onnx")
    given = np.random.default_rng(0).standard_normal((16, 1, 90, 80)).astype(np.float32)
    expected = [session(one) for one in given]
    with ThreadPoolExecutor(4) as threads:
        for found, alone in zip(threads.map(session, given), expected, strict=True):
            np.testing.assert_array_equal(found, alone)
