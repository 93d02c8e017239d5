import pytest

torch = pytest.importorskip("torch")
import trainings  # noqa: E402

from samevoice.models import create  # noqa: E402
from samevoice.training.dry_run import dry_run  # noqa: E402
from samevoice.training.recipe import validated  # noqa: E402

MIB = 2**20


def costs(network=trainings.ERES2NET, speakers=20, phases=None, **words):
    values = trainings.recipe("nowhere", phases or {"a": {}}, network=network, **words)
    return list(dry_run(validated(values, "recipe"), speakers=speakers, utterances=200))


def parameters(network):
    made = create(network["name"], **network["config"])
    return sum(p.numel() for p in made.parameters()), made.embedding_dim


@pytest.mark.parametrize("network", [trainings.ERES2NET, trainings.XVECTOR, trainings.WAVLM])
def test_parameters_are_the_networks_and_the_losss(network):
    own, dim = parameters(network)
    (cost,) = costs(network)
    assert cost.parameters == cost.trained == own + 20 * dim
    assert cost.state_gib * 2**30 == 4 * 4 * cost.parameters  # weight, gradient and Adam's two moments, float32


def test_muon_remembers_one_value_of_a_matrixs_and_two_of_others():
    (cost,) = costs(trainings.ERES2NET, phases={"a": {"optimiser": "muon"}})
    made = create(**create_words(trainings.ERES2NET))
    matrices = sum(p.numel() for p in made.parameters() if p.ndim > 1)
    assert cost.state_gib * 2**30 == 4 * (4 * cost.parameters - matrices)


def test_speeds_make_classes_and_frozen_parts_take_less():
    phases = {
        "a": {"frozen": ["front_end"], "augmentation": {"speeds": [1.0, 0.9, 1.1]}},
        "b": {"frozen": [], "augmentation": "none", "optimiser": "sgd"},
    }
    own, dim = parameters(trainings.WAVLM)
    front_end = sum(p.numel() for p in create(**create_words(trainings.WAVLM)).front_end.parameters())
    frozen, joint = costs(trainings.WAVLM, phases=phases)
    assert frozen.parameters == own + 3 * 20 * dim
    assert frozen.trained == frozen.parameters - front_end
    assert joint.trained == joint.parameters == own + 20 * dim
    assert frozen.state_gib * 2**30 == 4 * (4 * frozen.trained + front_end)
    assert joint.state_gib * 2**30 == 4 * 3 * joint.parameters
    assert frozen.activation_mib < joint.activation_mib / 2


def create_words(network):
    return {"name": network["name"], **network["config"]}


def test_activations_grow_with_the_crops():
    (one,), (two,), (four,) = (costs(phases={"a": {"seconds": seconds}}) for seconds in (1, 2, 4))
    assert two.activation_mib / one.activation_mib == pytest.approx(2, rel=0.05)
    assert four.activation_mib / one.activation_mib == pytest.approx(4, rel=0.05)
    assert one.parameters == four.parameters
    assert four.batch_gib == pytest.approx(four.state_gib + four.activation_mib * MIB / 2**30 * 4)


def test_what_a_linear_layer_keeps():
    """By hand: features -> (frames, mels) input and one number a class; nothing of the weights."""
    (few,), (many,) = (costs(speakers=speakers, loss={"name": "softmax"}) for speakers in (20, 200_020))
    grown = (many.activation_mib - few.activation_mib) * MIB
    assert grown == pytest.approx(4 * 200_000, rel=0.01)  # the logits' softmax, for each utterance


def test_pieces_take_less_at_once():
    (whole,), (pieces,) = costs(), costs(phases={"a": {"accumulate": 4}})
    assert pieces.batch_gib - pieces.state_gib == pytest.approx((whole.batch_gib - whole.state_gib) / 4)


def test_distillation_needs_no_teacher():
    (cost,) = costs(phases={"a": {"distillation": {"teacher": "nowhere"}, "margin_weight": 0}})
    own, dim = parameters(trainings.ERES2NET)
    assert cost.trained == own
    assert cost.parameters == own + 20 * dim


def test_bf16_keeps_less():
    (whole,), (half,) = costs(), costs(precision="bf16")
    assert half.activation_mib < 0.75 * whole.activation_mib
    assert half.parameters == whole.parameters
    assert half.state_gib == whole.state_gib


def test_too_few_utterances_for_a_batch():
    with pytest.raises(ValueError, match="phase a: there are fewer utterances than one batch of 500"):
        costs(phases={"a": {"batch": 500}})
