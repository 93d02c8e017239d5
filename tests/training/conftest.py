import pytest


@pytest.fixture
def one_after_another(monkeypatch, request):
    """accelerate keeps one state for each process: trainings in it begin without what another one set.

    The export at the end takes seconds, and is left out, unless a test also has the fixture `exported`.
    """
    state = pytest.importorskip("accelerate.state")
    if "exported" not in request.fixturenames:
        monkeypatch.setattr("samevoice.hub.export.export", lambda network, path: None)
    for _ in _with_fresh(state):
        yield


@pytest.fixture
def exported():
    """The models of this test get their ONNX file."""


def _with_fresh(state):
    for last in (False, True):
        for part in (state.AcceleratorState, state.GradientState, state.PartialState):
            part._reset_state()
        if not last:
            yield
