from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
import trainings
from accelerate.utils import DistributedType

from samevoice.training import sharding
from samevoice.training.errors import TrainingError
from samevoice.training.recipe import validated


def asked(kind=DistributedType.FSDP, version=2, efficient=False, **words):
    plugin = SimpleNamespace(fsdp_version=version, cpu_ram_efficient_loading=efficient, mixed_precision_policy="bf16")
    accelerator = SimpleNamespace(distributed_type=kind, state=SimpleNamespace(fsdp_plugin=plugin))
    recipe = validated(trainings.recipe("voices", {"a": words}), "recipe")
    return sharding.on(accelerator, recipe), plugin  # pyright: ignore[reportArgumentType]


def test_without_it(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert asked(averaging="ema")[0] is False


def test_with_it_precision_is_autocasts(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    on, plugin = asked()
    assert on is True
    assert plugin.mixed_precision_policy is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": DistributedType.MULTI_CPU}, "FSDP is for GPUs"),
        ({"version": 1}, "fsdp_version: 2"),
        ({"efficient": True}, "fsdp_cpu_ram_efficient_loading: false"),
        ({"averaging": "ema"}, "phase a: .*use: average-last"),
        ({"averaging": "swa"}, "phase a: .*launch without FSDP"),
        ({"optimiser": "muon"}, "phase a: .*optimiser: adamw"),
    ],
)
def test_what_is_refused(words, message, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match=message):
        asked(**words)


@pytest.mark.usefixtures("one_after_another")
def test_on_a_processor_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="FSDP is for GPUs, and here is none"):
        trainings.train(trainings.recipe("voices", {"a": {}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
