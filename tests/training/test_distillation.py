import logging

import numpy as np
import pyarrow as pa
import pytest
import soundfile

torch = pytest.importorskip("torch")
from samevoice.audio import read  # noqa: E402
from samevoice.audio.fbank import FbankSettings  # noqa: E402
from samevoice.data import manifest  # noqa: E402
from samevoice.data.augment import LAP, Augmentation  # noqa: E402
from samevoice.data.augment.plan import Plan  # noqa: E402
from samevoice.data.augment.waveform import change_speed  # noqa: E402
from samevoice.data.features import Features, write  # noqa: E402
from samevoice.runtime import Verifier  # noqa: E402
from samevoice.training.distillation import DistillationLoss, targets, targets_of  # noqa: E402

RATE = 16000


def embeddings(rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def table(tmp_path_factory, speech) -> pa.Table:
    """Three utterances, of which one is silent and one a stretch of a longer file."""
    folder = tmp_path_factory.mktemp("distillation")
    soundfile.write(folder / "whole.wav", speech[: 2 * RATE], RATE)
    soundfile.write(folder / "long.wav", speech, RATE)
    soundfile.write(folder / "silent.wav", np.zeros(2 * RATE), RATE)
    rows = [
        {"utterance": name, "speaker": name, "path": str(folder / f"{name}.wav"), "offset": 0.0, "duration": 2.0}
        for name in ("whole", "long", "silent")
    ]
    rows[1]["offset"] = 3.0
    return manifest.validate(pa.Table.from_pylist([row | {"rate": RATE} for row in rows]))


def test_the_loss_by_hand():
    student, teacher = embeddings(5, 8, 0), embeddings(5, 8, 1)
    a, b = (x.numpy().astype(np.float64) for x in (student, teacher))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    first = np.mean([1 - a[i] @ b[i] for i in range(5)])
    second = np.mean([(a[i] @ a[j] - b[i] @ b[j]) ** 2 for i in range(5) for j in range(5) if i != j])
    for embedding, similarity in ((1.0, 5.0), (0.5, 0.0), (0.0, 2.0)):
        loss = DistillationLoss(8, 8, embedding, similarity)(student, teacher)
        assert loss.item() == pytest.approx(embedding * first + similarity * second, rel=1e-5)


def test_a_copy_of_the_teacher_costs_nothing_and_one_turned_round_only_the_first_term():
    teacher = embeddings(6, 8, 0)
    turned = teacher @ torch.linalg.qr(embeddings(8, 8, 1))[0]
    assert DistillationLoss(8, 8)(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert DistillationLoss(8, 8, 0.0, 1.0)(turned, teacher).item() == pytest.approx(0, abs=1e-6)
    assert DistillationLoss(8, 8, 1.0, 0.0)(turned, teacher).item() > 0.3


def test_rows_without_a_target_do_not_count():
    student, teacher = embeddings(6, 8, 0).requires_grad_(), embeddings(6, 8, 1)
    teacher[[1, 4]] = 0
    loss = DistillationLoss(8, 8)
    kept = [0, 2, 3, 5]
    value = loss(student, teacher)
    assert value.item() == pytest.approx(loss(student[kept], teacher[kept]).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient[[1, 4]].abs().max() == 0
    assert gradient[kept].abs().amax(1).min() > 0


@pytest.mark.parametrize("known", [0, 1])
def test_batches_without_pairs_are_finite(known):
    student, teacher = embeddings(3, 8, 0).requires_grad_(), torch.zeros(3, 6)
    teacher[:known] = embeddings(known, 6, 1)
    loss = DistillationLoss(8, 6)
    value = loss(student, teacher)
    value.backward()
    assert (value.item() == 0) == (known == 0)
    assert student.grad.isfinite().all()
    assert loss.projection.weight.grad is not None  # a parameter without one stops DDP


def test_another_size_is_projected_and_learns():
    torch.manual_seed(0)
    student, teacher = torch.nn.Parameter(embeddings(16, 6, 0)), embeddings(16, 10, 1)
    loss = DistillationLoss(6, 10)
    assert not list(DistillationLoss(10, 10).parameters())
    optimiser = torch.optim.Adam([student, *loss.parameters()], lr=0.05)
    before = loss(student, teacher).item()
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimiser.step()
    assert value.item() < 0.5 * before


def test_float32_within_autocast():
    student, teacher = embeddings(8, 64, 0), embeddings(8, 32, 1)
    torch.manual_seed(0)
    loss = DistillationLoss(64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(student, teacher)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(student, teacher))


def test_targets_are_the_teachers_embeddings_at_each_speed(table, tiny_model, tiny, tmp_path, caplog, monkeypatch):
    counted = []
    with caplog.at_level(logging.WARNING):
        made = targets(
            table, LAP, tiny_model, tmp_path / "c.sqlite", lambda items, total: counted.append(total) or items
        )
    assert counted == [9]
    assert caplog.text.count(f"no target: {table['path'][2].as_py()} at speed") == 3  # the silent one at each of three
    assert made.dim == 16
    found = made.of([0, 1, 2, 1, 0], [Plan(1.0), Plan(1.0), Plan(0.9), Plan(1.1), Plan(0.9)])
    assert found.dtype == torch.float32
    assert found[2].abs().max() == 0
    for place, (row, speed) in [(0, (0, 1.0)), (1, (1, 1.0)), (3, (1, 1.1)), (4, (0, 0.9))]:
        first = round(table["offset"][row].as_py() * RATE)
        whole = torch.from_numpy(read(table["path"][row].as_py())[first : first + 2 * RATE])[None]
        expected = tiny.embed((change_speed(whole, speed, int(2 * RATE / speed))[0].numpy(), RATE))
        assert found[place].numpy() @ expected / np.linalg.norm(expected) == pytest.approx(1, abs=2e-3)
    monkeypatch.setattr(Verifier, "embed_each", lambda *_: pytest.fail("embedded again"))
    again = targets(table, LAP, tiny_model, tmp_path / "c.sqlite")
    assert torch.equal(again.of([0, 1], [Plan(1.1)] * 2), made.of([0, 1], [Plan(1.1)] * 2))


def test_what_can_have_no_targets_is_refused(table, tiny_model, tmp_path):
    cache = tmp_path / "cache.sqlite"
    with pytest.raises(ValueError, match="41 speeds.*data.views"):
        targets(table, Augmentation(speed_range=(0.8, 1.2)), tiny_model, cache)
    with pytest.raises(ValueError, match="shards"):
        targets(table.append_column("shard", pa.array(["0.tar"] * 3)), Augmentation(), tiny_model, cache)
    with pytest.raises(ValueError, match="refused all of 1 utterances"):
        targets(table.slice(2), Augmentation(), tiny_model, cache)


def test_targets_of_features_are_those_of_their_rows(table, tiny_model, tmp_path):
    fast = Augmentation(speeds=(1.1,))
    write(table.slice(0, 2), tmp_path / "with", FbankSettings(), fast, None, 2, 4.0, teacher=tiny_model, jobs=0)
    features = Features(tmp_path / "with")
    found = targets_of(features).of([3, 0], [Plan(), Plan()])
    assert np.array_equal(found.numpy(), features.teacher[[3, 0]])
    write(table.slice(0, 2), tmp_path / "without", FbankSettings(), fast, None, 2, 4.0, jobs=0)
    with pytest.raises(ValueError, match="without a teacher"):
        targets_of(Features(tmp_path / "without"))
