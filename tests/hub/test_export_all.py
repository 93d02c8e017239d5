"""Every architecture passes the exporter's own gate (small networks; the full-size ones are the same code)."""

import pytest
from models.examples import narrow

from samevoice.hub.export import TOLERANCE, export
from samevoice.models import names


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_onnx_equals_torch(name, tmp_path):
    network, _ = narrow(name)
    assert export(network.eval(), tmp_path / "model.onnx") <= TOLERANCE
