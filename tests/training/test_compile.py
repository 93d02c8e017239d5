"""A network that is compiled for its steps trains as it would without."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
import trainings  # noqa: E402
from trainings import curve, reached, records, wait_for, weights, written  # noqa: E402

from samevoice.data import manifest  # noqa: E402

CALM = {"optimiser": "sgd", "learning_rate": 1e-4, "clip": 1.0}  # so that rounding does not grow from step to step
PHASES = {
    "short": {**CALM, "averaging": "ema", "ema_decay": 0.5, "epochs": 1, "accumulate": 2, "seconds": 0.3},
    "long": {"averaging": "none", "frozen": ["frame.0"], "accumulate": 1, "seconds": 0.5},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Recordings of different lengths."""
    path = trainings.voices(tmp_path_factory.mktemp("compile") / "voices")
    rows = manifest.read(path).to_pylist()
    manifest.write(path, [{**row, "duration": 1 - 0.02 * number} for number, row in enumerate(rows)])
    return path


def recipe(corpus, compiled):
    words = {"network": trainings.XVECTOR, "validation": {"held_out": 2}, "checkpoint_minutes": 1e-9}
    return trainings.recipe(corpus, PHASES, compile=compiled, **words)


@pytest.mark.usefixtures("one_after_another")
def test_each_length_of_crops_is_compiled_once(corpus, tmp_path, monkeypatch):
    compiled, graphs = torch.compile, []

    def counted(graph, inputs):
        graphs.append(next(tuple(x.shape) for x in inputs if isinstance(x, torch.Tensor) and x.ndim == 3))
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f, **words: compiled(f, backend=counted, **words))
    for name in ("plain", "compiled"):
        trainings.train(recipe(corpus, name == "compiled"), tmp_path / name)
    assert graphs == [(2, 28, 16), (4, 48, 16)]
    assert curve(tmp_path / "compiled") == curve(tmp_path / "plain")
    for checkpoint in (*tmp_path.glob("plain/checkpoints/*/*.safetensors"), tmp_path / "plain/model/model.safetensors"):
        found = weights(tmp_path / "compiled" / checkpoint.relative_to(tmp_path / "plain"))
        expected = weights(checkpoint)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.slow
def test_compiled_killed_and_continued(corpus, tmp_path):
    plain, compiled = (written(tmp_path / f"{c}.yaml", recipe(corpus, c)) for c in (False, True))
    for file, name in ((plain, "plain"), (compiled, "whole")):
        finish(file, tmp_path / name)
    for step in (1, 4, 7):
        process = started(compiled, tmp_path / "run")
        wait_for(lambda step=step: reached(tmp_path / "run", step), process)
        process.kill()
        process.join()
        assert not (tmp_path / "run/model").exists()
    finish(compiled, tmp_path / "run")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    run, whole = (tmp_path / name / "model/model.safetensors" for name in ("run", "whole"))
    assert run.read_bytes() == whole.read_bytes()
    for a, b in zip(records(tmp_path / "run"), records(tmp_path / "plain"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def started(file, folder):
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(folder.parent / "inductor")}
    return trainings.command("train", file, "--run", folder, output=folder.with_suffix(".txt"), environment=kept)


def finish(file, folder):
    process = started(file, folder)
    process.join()
    assert process.exitcode == 0, folder.with_suffix(".txt").read_text()
