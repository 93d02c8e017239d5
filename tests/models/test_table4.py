"""The 2-D rows of the ERes2Net paper's Table 4 that have no public implementation."""

import examples
import pytest
import torch
import torch.nn.functional as F

from samevoice.models import create
from samevoice.models.res2net_mwa import Memory
from samevoice.models.resnet34_fpm import FeaturePyramid, upsample_to
from samevoice.models.resnet34_skdfe import Fusion, SelfDistillation, feature_loss, label_loss


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet34_fpm", 5.85), ("res2net_mwa", 5.50), ("res2net_26w8s", 9.30), ("resnet34_skdfe", 5.98)],
)
def test_parameter_counts_are_the_papers(name, millions):
    assert round(examples.parameters(name) / 1e6, 2) == millions


def test_upsampling_repeats_points_and_cuts_what_is_odd():
    coarse = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    fine = upsample_to(coarse, torch.empty(1, 1, 3, 4))
    assert fine[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]


def test_the_pyramid_carries_the_coarse_down_and_never_the_fine_up():
    pyramid = FeaturePyramid((2, 3, 4), 5)
    maps = [torch.randn(1, channels, 8 >> i, 12 >> i) for i, channels in enumerate((2, 3, 4))]
    before = pyramid(maps)
    assert [level.shape[1:] for level in before] == [(5, 8, 12), (5, 4, 6), (5, 2, 3)]
    coarser = pyramid([maps[0], maps[1], maps[2] + 1])
    assert all((a - b).abs().max() > 0 for a, b in zip(before, coarser, strict=True))
    finer = pyramid([maps[0] + 1, maps[1], maps[2]])
    assert (before[0] - finer[0]).abs().max() > 0
    torch.testing.assert_close(before[1:], finer[1:])


def test_a_frame_recalls_the_value_whose_key_it_matches():
    memory = Memory(2, 3)
    memory.keys.data = torch.tensor([[100.0, 0], [0, 100], [-100, -100]])
    memory.values.data = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    memory.gate.weight.data = torch.eye(2)[..., None]
    memory.gate.bias.data.zero_()
    frames = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])[None]
    recalled = torch.tensor([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]])[None]
    torch.testing.assert_close(memory(frames), torch.tanh(frames + recalled))


def test_res2net_26w8s_has_eight_groups_of_26_for_every_64():
    first = create("res2net_26w8s").layer1[0]
    assert (first.scale, len(first.convs), first.convs[0].weight.shape[0]) == (8, 7, 13)  # 32 planes, half of 64


def distillation(mels: int = 16) -> SelfDistillation:
    torch.manual_seed(0)
    return SelfDistillation(create("resnet34_skdfe", channels=8, mels=mels, embedding_dim=6, blocks=(1, 1, 1, 1)))


@pytest.mark.parametrize(("mels", "frames"), [(16, 64), (40, 53)])
def test_the_student_is_the_network_alone(mels, frames):
    training = distillation(mels).eval()
    x = torch.randn(2, frames, mels)
    step = training(x)
    torch.testing.assert_close(step.embedding, training.network(x))
    assert step.teacher_embedding.shape == (2, 6)
    assert (step.teacher_embedding - step.embedding).abs().max() > 1e-3
    student = training.network.stage_maps(x)
    teacher, _ = training.teacher(student)
    assert [x.shape for x in teacher] == [x.shape for x in student]
    assert "teacher" not in " ".join(training.network.state_dict())


def test_gradients_of_the_whole_loss_reach_student_and_teacher():
    training = distillation()
    classifier = torch.nn.Linear(6, 5)
    step = training(torch.randn(4, 64, 16))
    logits, teacher_logits = classifier(step.embedding), classifier(step.teacher_embedding)
    labels = torch.arange(4)
    loss = F.cross_entropy(logits, labels) + F.cross_entropy(teacher_logits, labels)
    (loss + label_loss(logits, teacher_logits) + step.feature_loss).backward()
    assert not [key for key, p in training.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not [key for key, p in training.named_parameters() if p.ndim > 1 and not p.grad.any()]


def test_distillation_moves_the_student_only():
    training = distillation()
    step = training(torch.randn(4, 64, 16))
    (step.feature_loss + label_loss(step.embedding, step.teacher_embedding)).backward()
    assert all(parameter.grad is None for parameter in training.teacher.parameters())
    assert training.network.layer4[0].conv1.weight.grad.any()


def test_feature_loss_compares_where_not_how_much():
    maps = [torch.rand(2, 3, 4, 5), torch.rand(2, 6, 2, 3)]
    assert feature_loss(maps, [7 * x for x in maps]) < 1e-12
    left, right = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    left[..., 0], right[..., 1] = 1, 1
    assert feature_loss([left], [right]) == 2  # two unit vectors at a right angle


def test_label_loss_is_the_softened_divergence():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    by_hand = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(label_loss(student, teacher, temperature=2), by_hand)


def test_a_fusion_ignores_a_map_whose_weight_is_negative():
    fusion = Fusion(3, 2).eval()
    fusion.weights.data = torch.tensor([1.0, -1.0])
    x, y = torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)
    torch.testing.assert_close(fusion(x, y), fusion(x, 100 * y))


def test_pinned():
    examples.check_pinned("resnet34_fpm", [3.21216, 1.56663, 3.40424, -3.17144], channels=8)
    examples.check_pinned("res2net_mwa", [0.452875, 1.10159, -5.07399, -2.448], channels=8)
    examples.check_pinned("res2net_26w8s", [3.85823, 1.70058, -3.30987, -3.7322], channels=8)
    examples.check_pinned("resnet34_skdfe", [4.4455, 1.62495, 1.36553, 1.63219], channels=8, mels=80)
