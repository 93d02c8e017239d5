import pytest


@pytest.fixture
def one_after_another(monkeypatch):
    """accelerate keeps one state for each process: trainings in it begin without what another one set, or wrote last.

    The export at the end takes seconds, and is left out.
    """
    state = pytest.importorskip("accelerate.state")
    for part in (state.AcceleratorState, state.GradientState, state.PartialState):
        part._reset_state()
    monkeypatch.setattr("samevoice.hub.export.export", lambda network, path: None)
    yield
    for part in (state.AcceleratorState, state.GradientState, state.PartialState):
        part._reset_state()
