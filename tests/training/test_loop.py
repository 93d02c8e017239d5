import errno
import math
import os
import signal

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
import safetensors.torch  # noqa: E402
import trainings  # noqa: E402
from trainings import curve, records, written  # noqa: E402

from samevoice.data import manifest  # noqa: E402
from samevoice.training import checkpoint, loop, losses  # noqa: E402
from samevoice.training.errors import TrainingError  # noqa: E402
from samevoice.training.margins import MarginSchedule  # noqa: E402
from samevoice.training.recipe import RecipeError, validated  # noqa: E402
from samevoice.training.schedules import Schedule  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_after_another")
EPOCH = trainings.SPEAKERS * trainings.EACH // trainings.PHASE["batch"]  # steps


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return trainings.voices(tmp_path_factory.mktemp("loop") / "voices")


def weights(place):
    return safetensors.torch.load_file(place)


def final(folder):
    return weights(folder / "model/model.safetensors")


def network_of(place, name="model.safetensors", prefix="network."):
    return {k.removeprefix(prefix): v for k, v in weights(place / name).items() if k.startswith(prefix)}


def moved(before, after):
    """Names of the tensors that are not bit for bit the same."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def by_hand(places, name="model.safetensors", prefix="network."):
    every = [network_of(place, name, prefix) for place in places]
    return {k: sum(state[k].double() for state in every) / len(every) for k in every[0]}


def assert_near(found, expected, but=()):
    for name, value in expected.items():
        if not name.endswith(("num_batches_tracked", *but)):
            torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-6, atol=1e-7, msg=name)


STATISTICS = ("running_mean", "running_var")


def test_margin_penalty_and_rates_of_each_step(corpus, tmp_path):
    rates = {"initial": 1e-5, "peak": 1e-3, "final": 1e-4}
    phases = {
        "a": {
            "epochs": 2,
            "schedule": "cosine",
            "learning_rate": rates,
            "warm_up": 1,
            "margin": {"shape": "linear", "final": 0.2, "start": 0.5, "end": 1.5, "penalty": 0.06},
            "parts": {"network.layer1": {"learning_rate": 5e-4, "weight_decay": 0.1}, "loss": {"learning_rate": rates}},
        },
        "b": {"epochs": 1, "learning_rate": 2e-3, "warm_up": 0, "margin": {"final": 0.3}, "parts": {}},
    }
    values = trainings.recipe(corpus, phases, loss={"top_k": 2})
    trainings.train(values, tmp_path / "run")
    found = records(tmp_path / "run")
    assert [(r["phase"], r["epoch"], r["step"]) for r in found] == [
        *(("a", step // EPOCH, step + 1) for step in range(2 * EPOCH)),
        *(("b", 0, 2 * EPOCH + step + 1) for step in range(EPOCH)),
    ]
    margin = MarginSchedule("linear", 0, 0.2, 0.5, 1.5, 0.06)
    own = Schedule("cosine", 2 * EPOCH, 5e-4, 5e-4, 5e-4, EPOCH)
    default = Schedule("cosine", 2 * EPOCH, 1e-3, 1e-4, 1e-5, EPOCH)
    for step, record in enumerate(found[: 2 * EPOCH]):
        assert (record["margin"], record["penalty"]) == margin.at(step / EPOCH)
        assert record["lr"]["network.layer1"] == own.at(step)
        assert record["lr"]["network"] == record["lr"]["loss"] == default.at(step)
    assert found[0]["lr"]["network"] == 1e-5
    for step, record in enumerate(found[2 * EPOCH :]):
        assert (record["margin"], record["penalty"]) == (0.3, 0)
        assert record["lr"] == dict.fromkeys(("network", "loss"), Schedule("cosine", EPOCH, 2e-3, 2e-3).at(step))


def test_a_parts_learning_rate_is_applied(corpus, tmp_path):
    phases = {"a": {"epochs": 0.2, "parts": {"network.layer1": {"learning_rate": 1e-12}}}}
    values = trainings.recipe(corpus, phases)
    with_part = trainings.train(values, tmp_path / "run")
    del with_part
    start = trainings.start_of(values)
    after = final(tmp_path / "run")
    for name in start:
        if start[name].is_floating_point() and not name.endswith(STATISTICS):
            assert ((after[name] - start[name]).abs().max() < 1e-9) == name.startswith("layer1."), name


def test_frozen_parts_stay_bit_for_bit_and_the_others_move(corpus, tmp_path):
    phases = {"a": {"epochs": 0.5, "frozen": ["layer1", "bn1"], "weight_decay": 0.1}, "b": {"frozen": ["layer2"]}}
    values = trainings.recipe(corpus, phases, keep_best=9, validation={"held_out": 2})
    trainings.train(values, tmp_path / "run")
    start, (first, *_) = trainings.start_of(values), checkpoint.saved(tmp_path / "run")
    middle, end = network_of(first), final(tmp_path / "run")
    parts = {name.partition(".")[0] for name in start}
    assert {name.partition(".")[0] for name in moved(start, middle)} == parts - {"layer1", "bn1"}
    assert {name.partition(".")[0] for name in moved(middle, end)} == parts - {"layer2"}


def test_classes_of_other_speeds_go_when_speeds_do(corpus, tmp_path):
    phases = {"a": {"epochs": 0.5, "augmentation": {"speeds": [1.0, 0.9, 1.1]}}, "b": {"augmentation": "none"}}
    trainings.train(trainings.recipe(corpus, phases, keep_best=9, validation={"held_out": 2}), tmp_path / "run")
    first, *_, last = checkpoint.saved(tmp_path / "run")
    speakers = trainings.SPEAKERS - 2
    before, after = (weights(place / "model.safetensors") for place in (first, last))
    assert len(before["loss.weight"]) == 3 * speakers
    assert len(after["loss.weight"]) == speakers


def test_a_phase_begins_with_the_centres_of_the_one_before(corpus, tmp_path):
    phases = {
        "a": {"epochs": 1, "augmentation": {"speeds": [1.0, 0.9]}},
        "b": {"epochs": 0.1, "augmentation": "none", "learning_rate": 1e-12},
    }
    trainings.train(trainings.recipe(corpus, phases, keep_best=9, validation={"held_out": 2}), tmp_path / "run")
    first, *_, last = checkpoint.saved(tmp_path / "run")
    before, after = (weights(place / "model.safetensors")["loss.weight"] for place in (first, last))
    torch.testing.assert_close(after, before[: len(after)], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("use", "averaging"),
    [("last", "none"), ("best", "none"), ("best", "ema"), ("average-last", "none"), ("average-best", "ema")],
)
def test_the_weights_that_a_phase_ends_with(use, averaging, corpus, tmp_path, monkeypatch):
    rates = iter([0.4, 0.1, 0.3, 0.2])
    ran = loop.Validation.run
    monkeypatch.setattr(loop.Validation, "run", lambda *a, **k: {**ran(*a, **k), "eer": next(rates)})
    deleted = []
    monkeypatch.setattr(checkpoint, "prune", lambda *arguments: deleted.append(arguments))
    phase = {"epochs": 4, "use": use, "average": 2, "averaging": averaging, "ema_decay": 0.5}
    values = trainings.recipe(corpus, {"a": phase}, validation={"held_out": 2})
    trainings.train(values, tmp_path / "run")
    places = checkpoint.saved(tmp_path / "run")
    assert len(places) == 4
    chosen = {
        "last": places[3:],
        "best": [places[1]],
        "average-last": places[2:],
        "average-best": [places[1], places[3]],
    }[use]
    names = ("average.safetensors", "module.") if averaging == "ema" else ("model.safetensors", "network.")
    assert_near(final(tmp_path / "run"), by_hand(chosen, *names), STATISTICS if len(chosen) > 1 else ())


def test_ema_follows_every_step(corpus, tmp_path, monkeypatch):
    seen = []
    step = loop._Phase._step

    def watched(phase, batches):
        step(phase, batches)
        seen.append({k: v.clone() for k, v in phase.objective.network.state_dict().items()})

    monkeypatch.setattr(loop._Phase, "_step", watched)
    trainings.train(
        trainings.recipe(corpus, {"a": {"epochs": 0.7, "averaging": "ema", "ema_decay": 0.5}}), tmp_path / "run"
    )
    first, *others = seen
    expected = {name: value.double() for name, value in first.items()}
    for state in others:
        expected = {name: 0.5 * value + 0.5 * state[name].double() for name, value in expected.items()}
    assert_near(final(tmp_path / "run"), expected)


def test_swa_is_the_mean_of_the_ends_of_epochs(corpus, tmp_path):
    values = trainings.recipe(corpus, {"a": {"epochs": 3, "averaging": "swa"}}, keep_best=9, validation={"held_out": 2})
    trainings.train(values, tmp_path / "run")
    places = checkpoint.saved(tmp_path / "run")
    assert len(places) == 3
    ended = final(tmp_path / "run")
    assert_near(ended, by_hand(places), STATISTICS)
    last = network_of(places[-1])
    assert any(not torch.equal(ended[k], last[k]) for k in ended if k.endswith("running_var"))


def test_swa_and_other_weights_contradict_each_other(corpus):
    with pytest.raises(RecipeError, match="averaging swa ends with the average of all epochs, so use can't be best"):
        validated(
            trainings.recipe(corpus, {"a": {"averaging": "swa", "use": "best"}}, validation={"held_out": 2}), "recipe"
        )


def test_the_best_are_kept_and_the_last(corpus, tmp_path, monkeypatch):
    rates = iter([0.4, 0.1, 0.3, 0.2, 0.5])
    monkeypatch.setattr(loop.Validation, "run", lambda *a, **k: {"eer": next(rates), "trials": 1})
    values = trainings.recipe(corpus, {"a": {"epochs": 5}}, keep_best=2, validation={"held_out": 2})
    trainings.train(values, tmp_path / "run")
    assert [checkpoint.read_state(p).epoch for p in checkpoint.saved(tmp_path / "run")] == [2, 4, 5]


def test_two_pieces_of_a_batch_give_the_step_of_the_whole(corpus, tmp_path):
    """As far as the network has no BatchNorm in use: here all that have one are frozen."""
    phase = {"epochs": 1, "frozen": frozen_norms()}
    ended = []
    for pieces in (1, 2):
        trainings.train(
            trainings.recipe(corpus, {"a": {**phase, "accumulate": pieces}}, network=trainings.XVECTOR),
            tmp_path / f"{pieces}",
        )
        ended.append((records(tmp_path / f"{pieces}"), final(tmp_path / f"{pieces}")))
    (whole, one), (pieces, two) = ended
    assert [r["step"] for r in whole] == [r["step"] for r in pieces]
    for a, b in zip(whole, pieces, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["accuracy"] == b["accuracy"]
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)


def frozen_norms():
    from samevoice.models import create

    network = create(trainings.XVECTOR["name"], **trainings.XVECTOR["config"])
    return [n for n, m in network.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def test_a_full_disk_while_saving(corpus, tmp_path, monkeypatch):
    values = trainings.recipe(corpus, {"a": {"epochs": 3}}, validation={"held_out": 2})
    save, calls = safetensors.torch.save_file, []

    def full(*arguments, **words):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(*arguments, **words)

    monkeypatch.setattr("accelerate.accelerator.Accelerator.save", lambda self, obj, f, **words: full(obj, f))
    monkeypatch.setattr("accelerate.utils.other.safe_save_file", full)
    with pytest.raises(TrainingError, match=r"checkpoints/step-00000010.*No space left.*make room"):
        trainings.train(values, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000005"]
    monkeypatch.undo()
    monkeypatch.setattr("samevoice.hub.export.export", lambda network, path: None)
    trainings.train(values, tmp_path / "run")
    trainings.train(values, tmp_path / "whole")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert moved(final(tmp_path / "run"), final(tmp_path / "whole")) == set()


def test_a_loss_that_is_no_number(corpus, tmp_path, monkeypatch):
    forward = losses.AAMSoftmax.loss

    def broken(loss, *arguments):
        calls.append(1)
        return forward(loss, *arguments) * (math.nan if len(calls) == EPOCH + 3 else 1.0)

    calls: list[int] = []
    monkeypatch.setattr(losses.AAMSoftmax, "loss", broken)
    with pytest.raises(TrainingError, match=r"phase a, step \d+ of the run: the loss is no longer a number"):
        trainings.train(trainings.recipe(corpus, {"a": {"epochs": 3}}, checkpoint_minutes=1e-9), tmp_path / "run")
    (place,) = checkpoint.saved(tmp_path / "run")
    assert checkpoint.read_state(place).total == EPOCH + 2
    assert all(value.isfinite().all() for value in weights(place / "model.safetensors").values())
    assert all(math.isfinite(record["loss"]) for record in records(tmp_path / "run"))


def test_weights_that_are_no_numbers_after_a_good_loss(corpus, tmp_path, monkeypatch):
    step = loop._Phase._step

    def broken(phase, batches):
        step(phase, batches)
        if phase.state.step == 4:
            next(iter(phase.objective.network.parameters())).data[0] = math.nan

    monkeypatch.setattr(loop._Phase, "_step", broken)
    with pytest.raises(TrainingError, match="the weights are no longer numbers"):
        trainings.train(trainings.recipe(corpus, {"a": {}}, checkpoint_minutes=1e-9), tmp_path / "run")
    (place,) = checkpoint.saved(tmp_path / "run")
    assert checkpoint.read_state(place).total == 3


def test_a_worker_that_dies(corpus, tmp_path):
    file = written(tmp_path / "recipe.yaml", trainings.recipe(corpus, {"a": {}}, workers=1))
    process = trainings.command(
        "train", file, "--run", tmp_path / "run", output=tmp_path / "told", first=die_at_the_seventh
    )
    process.join()
    assert process.exitcode == 2
    told = (tmp_path / "told").read_text()
    assert "error: a process that reads recordings died" in told
    assert "workers=1" in told
    assert "Traceback" not in told


def die_at_the_seventh():
    from samevoice.data.loader import Files

    crop, here = Files.crop, os.getpid()

    def dying(files, row, length, key):
        if os.getpid() != here and row == 7:
            os._exit(9)
        return crop(files, row, length, key)

    Files.crop = dying  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("workers", [0, 1])
def test_recordings_that_cannot_be_read(workers, corpus, tmp_path, command):
    rows = [{**row, "path": str(tmp_path / "gone.wav")} for row in manifest.read(corpus).to_pylist()]
    manifest.write(tmp_path / "gone.parquet", rows)
    file = written(tmp_path / "recipe.yaml", trainings.recipe(tmp_path / "gone.parquet", {"a": {}}, workers=workers))
    ended = command("train", file, "--run", tmp_path / "run")
    assert ended.status == 2
    assert f"error: {tmp_path / 'gone.wav'}: " in ended.err
    assert "Traceback" not in ended.err


def test_a_tracker_that_does_not_start_is_told(corpus, tmp_path, monkeypatch):
    def start(accelerator, *_, **__):
        raise RuntimeError("No API key configured.\nSee the manual.")

    monkeypatch.setattr(loop.Accelerator, "init_trackers", start)
    with pytest.raises(TrainingError, match=r"trackers: tensorboard: can't be started \(No API key configured\.\)$"):
        trainings.train(trainings.recipe(corpus, {"a": {}}, trackers=["tensorboard"]), tmp_path / "run")


def test_half_precision_on_a_processor(corpus, tmp_path, command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = written(tmp_path / "recipe.yaml", trainings.recipe(corpus, {"a": {}}, precision="fp16"))
    ended = command("train", file, "--run", tmp_path / "run")
    assert ended.status == 2
    assert ended.err.strip() == "error: precision fp16 is for GPUs; a processor trains with precision=bf16 or fp32"
    assert not (tmp_path / "run").exists()
    assert command("train", file, "--run", tmp_path / "run", "precision=bf16").status == 0
    assert records(tmp_path / "run")


def test_signal_handlers_and_the_log_after_an_error(corpus, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(loop._Phase, "_step", lambda *a: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        trainings.train(trainings.recipe(corpus, {"a": {}}), tmp_path / "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_tensorboard_has_what_the_log_has(corpus, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = trainings.recipe(corpus, {"a": {}}, trackers=["tensorboard"], validation={"held_out": 2})
    trainings.train(values, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard/tiny")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(r["step"], pytest.approx(r["loss"])) for r in records(tmp_path / "run")]
    (rates,) = [events.Scalars("eer")]
    assert [event.step for event in rates] == [r["step"] for r in records(tmp_path / "run", "validation")]
    assert events.Scalars("lr/network")[0].value == pytest.approx(1e-3)


def test_a_tracker_that_is_not_installed_is_told(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="mlflow is not installed; pip install mlflow"):
        trainings.train(trainings.recipe(corpus, {"a": {}}, trackers=["mlflow"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
