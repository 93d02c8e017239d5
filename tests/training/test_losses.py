"""Losses against the public implementation's values, their formulas written out, and finite differences."""

import doctest
import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F

from samevoice.training import losses
from samevoice.training.losses import AAMSoftmax, AMSoftmax, Softmax, SphereFace2, create

FIXTURE = reference.FOLDER / "lap_aam_subcenter_intertopk.npz"
ALL = {
    "softmax": {},
    "am-softmax": {"scale": 4.0},
    "aam-softmax": {"scale": 4.0, "sub_centres": 3, "top_k": 2},
    "sphereface2": {"scale": 4.0},
}


def batch(dim: int = 6, classes: int = 7, size: int = 9, dtype: torch.dtype = torch.float64):
    random = torch.Generator().manual_seed(0)
    embeddings = torch.randn(size, dim, generator=random, dtype=dtype)
    return embeddings, torch.randint(classes, (size,), generator=random)


def made(name: str, margin: float = 0.2, penalty: float = 0.1, dtype: torch.dtype = torch.float64):
    torch.manual_seed(1)
    loss = create(name, 6, 7, **ALL[name]).to(dtype)
    loss.margin, loss.penalty = margin, penalty
    return loss


@pytest.mark.skipif(not FIXTURE.exists(), reason="no reference outputs beside the checkout")
def test_aam_softmax_is_laps_in_value_and_gradient():
    stored, weights = np.load(FIXTURE), reference.rebuild()
    centres = torch.from_numpy(weights.tensor("aam_softmax.weight", (3, 192, 50)))
    labels = torch.from_numpy(weights._stream("loss_labels").randint(0, 50, size=32)).long()
    for margin, top_k, value, gradient in zip(
        *(stored[key] for key in ("margin", "topk", "loss", "grad")), strict=True
    ):
        loss = AAMSoftmax(192, 50, scale=30, sub_centres=3, top_k=int(top_k))
        loss.weight.data = centres.permute(2, 0, 1).reshape(150, 192)
        loss.margin, loss.penalty = float(margin), 0.06 * float(margin) / 0.3
        embeddings = torch.from_numpy(weights.inputs("loss_embeddings", (32, 192))).requires_grad_()
        ours = loss(embeddings, labels).loss
        ours.backward()
        assert ours.item() == pytest.approx(value, rel=1e-5)
        assert embeddings.grad is not None
        reference.assert_close(embeddings.grad.numpy(), gradient)


def at_angles(loss, degrees: list[float]) -> torch.Tensor:
    """The loss, for label 0, of the embedding (1, 0) with centres at these angles from it."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    loss.double().weight.data = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor(
        [[2.0]], dtype=torch.float64
    )
    return loss(torch.tensor([[5.0, 0.0]], dtype=torch.float64), torch.tensor([0])).loss


def test_aam_softmax_at_known_angles():
    loss = AAMSoftmax(2, 4, scale=2.0, top_k=2)
    loss.margin, loss.penalty = math.radians(30), math.radians(10)
    # target 60 -> 90 degrees; of the wrong ones the two nearest, 70 and 100, come 10 degrees nearer; 150 stays
    logits = [2 * math.cos(math.radians(angle)) for angle in (90, 60, 90, 150)]
    expected = math.log(sum(map(math.exp, logits))) - logits[0]
    assert at_angles(loss, [60, 70, 100, 150]).item() == pytest.approx(expected, rel=1e-12)


def test_aam_softmax_of_a_target_that_cannot_be_turned_further():
    loss = AAMSoftmax(2, 2, scale=1.0)
    loss.margin = math.radians(30)
    target = math.cos(math.radians(170)) - math.radians(30) * math.sin(math.radians(30))
    expected = math.log(1 + math.exp(math.cos(math.radians(70)) - target))
    assert at_angles(loss, [170, 70]).item() == pytest.approx(expected, rel=1e-12)
    just_under, just_over = at_angles(loss, [149.99, 70]).item(), at_angles(loss, [150.01, 70]).item()
    assert just_under < just_over, "a wider angle never costs less"


def test_the_nearest_sub_centre_stands_for_its_class():
    loss = AAMSoftmax(2, 2, scale=1.0, sub_centres=2)
    value = at_angles(loss, [80, 20, 90, 130])  # class 0: 80 and 20 degrees; class 1: 90 and 130
    assert value.item() == pytest.approx(math.log(1 + math.exp(0 - math.cos(math.radians(20)))), rel=1e-12)


def test_am_softmax_at_known_angles():
    loss = AMSoftmax(2, 2, scale=3.0)
    loss.margin = 0.2
    assert at_angles(loss, [60, 90]).item() == pytest.approx(math.log(1 + math.exp(-3 * 0.3)), rel=1e-12)


def test_sphereface2_at_known_angles():
    loss = SphereFace2(2, 3, scale=2.0, lambda_=0.7, t=3)
    loss.margin = 0.2
    loss.bias.data.fill_(0.5)
    # (cos + 1) / 2 is 3/4, 1/2 and 1/4, so g is 2 (27, 8 and 1) / 64 - 1
    target, other, far = (2 * n / 64 - 1 for n in (27, 8, 1))
    expected = 0.7 * math.log(1 + math.exp(-2 * (target - 0.2) - 0.5))
    expected += 0.3 * (math.log(1 + math.exp(2 * (other + 0.2) + 0.5)) + math.log(1 + math.exp(2 * (far + 0.2) + 0.5)))
    assert at_angles(loss, [60, 90, 120]).item() == pytest.approx(expected, rel=1e-12)


def test_softmax_is_a_linear_layer_and_knows_no_margin():
    embeddings, labels = batch()
    loss = made("softmax", margin=0.4, penalty=0.3)
    assert isinstance(loss, Softmax)
    loss.bias.data.normal_()
    expected = F.cross_entropy(embeddings @ loss.weight.T + loss.bias, labels)
    assert loss(embeddings, labels).loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["am-softmax", "aam-softmax"])
def test_without_a_margin_it_is_normalised_softmax(name):
    embeddings, labels = batch()
    loss = made(name, margin=0, penalty=0)
    cosines = F.normalize(embeddings) @ F.normalize(loss.weight).T
    cosines = cosines.reshape(len(labels), 7, loss.sub_centres).amax(2)
    expected = F.cross_entropy(4 * cosines, labels)
    assert loss(embeddings, labels).loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name):
    embeddings, labels = batch()
    loss = made(name)
    inputs = (embeddings.requires_grad_(), *loss.parameters())
    names = [key for key, _ in loss.named_parameters()]

    def value(embeddings, *parameters):
        return torch.func.functional_call(loss, dict(zip(names, parameters, strict=True)), (embeddings, labels)).loss

    assert torch.autograd.gradcheck(value, inputs)


@pytest.mark.parametrize("name", ["am-softmax", "aam-softmax", "sphereface2"])
def test_margin_and_penalty_make_it_harder(name):
    embeddings, labels = batch()
    plain, with_margin = made(name, 0, 0)(embeddings, labels), made(name, 0.2, 0)(embeddings, labels)
    assert with_margin.loss > plain.loss
    assert with_margin.correct == plain.correct
    harder = made(name, 0.2, 0.1)(embeddings, labels)
    assert (harder.loss > with_margin.loss) == (name == "aam-softmax")


@pytest.mark.parametrize("name", ["am-softmax", "aam-softmax", "sphereface2"])
def test_the_length_of_embeddings_and_centres_is_nothing(name):
    embeddings, labels = batch()
    loss = made(name)
    before = loss(embeddings, labels).loss.item()
    loss.weight.data *= torch.linspace(0.1, 10, len(loss.weight), dtype=torch.float64)[:, None]
    assert loss(embeddings * 30, labels).loss.item() == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_correct_counts_the_nearest_classes_without_margin(name):
    loss = made(name, margin=1.5)
    loss.weight.data = torch.eye(7, 6, dtype=torch.float64).repeat_interleave(loss.sub_centres, 0)
    embeddings = torch.eye(6, dtype=torch.float64) + 0.1
    correct = loss(embeddings, torch.tensor([0, 1, 2, 3, 0, 6])).correct
    assert correct.item() == 4
    assert correct.shape == ()
    assert not correct.is_floating_point()


@pytest.mark.parametrize("name", ["am-softmax", "aam-softmax", "sphereface2"])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float32])
def test_gradients_are_finite_where_the_cosine_is_one(name, precision):
    loss = made(name, margin=0.5, penalty=0.06, dtype=torch.float32)
    # each embedding lies along its centre or against it, and along a wrong one
    targets = loss.weight.detach()[:: loss.sub_centres]
    embeddings = torch.cat([targets, -targets, 1e3 * targets, targets.roll(1, 0)]).requires_grad_()
    labels = torch.arange(7).repeat(4)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        value = loss(embeddings.to(precision), labels).loss
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    for gradient in (embeddings.grad, loss.weight.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
    assert loss.weight.grad is not None
    assert loss.weight.grad.norm() < 100


@pytest.mark.parametrize("angle", [0.0, 1e-4, 5e-4, 2e-3, 0.1])
def test_the_gradient_near_the_centre_is_no_larger_than_the_angles_own(angle):
    """Of cos(theta + m) over theta it is at most 1, however steep cos(theta) makes it look."""
    loss = AAMSoftmax(2, 2, scale=1.0)
    loss.margin = 0.5
    loss.weight.data = torch.eye(2)
    embeddings = torch.tensor([[math.cos(angle), math.sin(angle)]], requires_grad=True)
    loss(embeddings, torch.tensor([0])).loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.norm() < 2


def test_margins_are_not_rounded_by_autocast():
    """A tenth of a degree between two centres decides, which bfloat16 can't see."""
    loss = AAMSoftmax(2, 2, scale=1.0)
    angles = torch.deg2rad(torch.tensor([1.0, 1.1]))
    loss.weight.data = torch.stack([angles.cos(), angles.sin()], 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0])).correct == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_loss_is_never_less_than_single_precision(dtype):
    embeddings, labels = batch(dtype=dtype)
    value = made("aam-softmax", dtype=dtype)(embeddings, labels).loss
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("name", ALL)
def test_keep_classes(name):
    embeddings, labels = batch(classes=3)
    loss = made(name)
    loss.weight.requires_grad_(False)
    small = create(name, 6, 3, **ALL[name]).double()
    small.margin, small.penalty = 0.2, 0.1
    small.load_state_dict({k: v[: 3 * loss.sub_centres] if v.ndim == 2 else v[:3] if v.ndim else v
                           for k, v in loss.state_dict().items()})  # fmt: skip
    loss.keep_classes(3)
    assert loss.classes == 3
    assert not loss.weight.requires_grad
    assert loss(embeddings, labels).loss == small(embeddings, labels).loss
    with pytest.raises(ValueError, match="labels from 0 to 3, but there are 3 classes"):
        loss(embeddings[:2], torch.tensor([0, 3]))
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=f"can't keep {wrong} classes of 3"):
            loss.keep_classes(wrong)


@pytest.mark.parametrize("label", [-1, -100, 7])
@pytest.mark.parametrize("name", ALL)
def test_labels_out_of_range(name, label):
    embeddings, labels = batch()
    labels[3] = label
    with pytest.raises(ValueError, match=r"labels from -?\d+ to \d, but there are 7 classes"):
        made(name)(embeddings, labels)


def test_more_hard_classes_than_there_are():
    loss = AAMSoftmax(2, 3, scale=1.0, top_k=5)
    loss.penalty = math.radians(10)
    logits = [math.cos(math.radians(angle)) for angle in (60, 70, 80)]
    expected = math.log(sum(map(math.exp, logits))) - logits[0]
    assert at_angles(loss, [60, 80, 90]).item() == pytest.approx(expected, rel=1e-12)


def test_a_power_that_is_not_whole():
    loss = SphereFace2(2, 2, t=2.5)
    opposite = torch.tensor([[-0.6, -0.8]], requires_grad=True)
    loss.weight.data = torch.tensor([[0.6, 0.8], [0.6000001, 0.8]])
    loss(opposite, torch.tensor([0])).loss.backward()
    assert opposite.grad is not None
    assert opposite.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_tens_of_thousands_of_classes(name):
    words = {"sub_centres": 3, "top_k": 5} if name == "aam-softmax" else {}
    loss = create(name, 16, 18_000, **words)
    loss.margin, loss.penalty = 0.2, 0.06
    loss(torch.randn(4, 16), torch.tensor([0, 5, 17_999, 3])).loss.backward()
    assert loss.weight.grad is not None
    assert loss.weight.grad.isfinite().all()


def test_words_and_names():
    loss = create("aam-softmax", 4, 5, scale=30.0, sub_centres=3, top_k=5)
    assert isinstance(loss, AAMSoftmax)
    assert (loss.scale, loss.sub_centres, loss.top_k, loss.classes) == (30.0, 3, 5, 5)
    assert (loss.margin, loss.penalty) == (0.0, 0.0)
    with pytest.raises(ValueError, match="unknown loss 'aam_softmax'; did you mean aam-softmax"):
        create("aam_softmax", 4, 5)
    with pytest.raises(ValueError, match="aam-softmax has no setting 'sub_centers'; did you mean sub_centres?"):
        create("aam-softmax", 4, 5, sub_centers=3)
    with pytest.raises(ValueError, match="am-softmax has no setting 'top_k'"):
        create("am-softmax", 4, 5, top_k=3)


def test_what_is_saved_is_the_parameters():
    """Margins come from the schedule: a resumed run sets them anew."""
    loss = made("sphereface2")
    assert set(loss.state_dict()) == {"weight", "bias"}


def test_examples():
    assert doctest.testmod(losses).failed == 0
