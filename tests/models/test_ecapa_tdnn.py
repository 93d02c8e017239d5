import examples
import pytest
import reference
import torch
from reference import fixture_names

from samevoice.hub import from_reference
from samevoice.models import create
from samevoice.models.ecapa_tdnn import Res2Convolutions, SpeechBrainRes2Convolutions, SqueezeExcitation


@pytest.mark.parametrize("fixture", fixture_names("3dspeaker_ecapa"))
def test_matches_3d_speaker(fixture):
    examples.check_fixture("3d-speaker", "ecapa_tdnn", fixture)


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_ecapa"))
def test_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", "ecapa_tdnn", fixture)


def test_parameter_counts_are_the_published_ones():
    assert examples.parameters("ecapa_tdnn") == 6_190_720  # 6.19M
    assert examples.parameters("ecapa_tdnn", channels=1024) == 14_657_088  # 14.66M
    assert examples.parameters("ecapa_tdnn", mels=768) == 7_952_013 - 13  # 7.95M with the weights of 13 layers
    three_d_speaker = {"channels": 1024, "mfa_channels": 3072, "details": "speechbrain"}
    assert examples.parameters("ecapa_tdnn", **three_d_speaker) == 20_767_552


NARROW = {"mels": 24, "channels": 16, "mfa_channels": 40, "embedding_dim": 12}
WESPEAKER = {".conv1.": ".se_res2block.0.", ".res2.": ".se_res2block.1.", ".conv2.": ".se_res2block.2."}


def wespeaker_names(state):
    renamed = {}
    for name, value in state.items():
        for ours, theirs in {**WESPEAKER, ".se.": ".se_res2block.3."}.items():
            name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("global_context", [True, False])
def test_the_shapes_tell_every_width(global_context):
    state = create("ecapa_tdnn", **NARROW, global_context=global_context).state_dict()
    assert "layer3.se_res2block.1.convs.2.weight" in wespeaker_names(state)
    network = from_reference("wespeaker", "ecapa_tdnn", wespeaker_names(state))
    assert network(torch.randn(2, 30, 24)).shape == (2, 12)
    assert (network.pool.context is not None) == global_context


@pytest.mark.parametrize("fixture", fixture_names("3dspeaker_ecapa"))
def test_3d_speakers_narrow_form_is_told_by_its_shapes(fixture):
    narrower = {1024: 16, 3072: 48, 9216: 144, 6144: 96, 192: 24}
    shapes = {
        name: [2 if "res2net" in name and size == 128 else narrower.get(size, size) for size in shape]
        for name, shape in reference.description(fixture)["state"].items()
    }
    network = from_reference("3d-speaker", "ecapa_tdnn", {name: torch.ones(shape) for name, shape in shapes.items()})
    assert network.embedding_dim == 24


def test_unknown_details_and_widths_are_refused():
    with pytest.raises(ValueError, match="details is 'kaldi'"):
        create("ecapa_tdnn", details="kaldi")
    with pytest.raises(ValueError, match="channels is 100"):
        create("ecapa_tdnn", channels=100)


@pytest.mark.parametrize("details", ["wespeaker", "speechbrain"])
def test_padding_is_not_seen(details):
    torch.manual_seed(0)
    network = create("ecapa_tdnn", **NARROW, details=details)
    x = torch.randn(3, 50, 24)
    examples.settled(network, x)
    lengths = torch.tensor([50, 31, 12])
    with torch.inference_mode():
        alone = torch.cat([network(row[None, :length]) for row, length in zip(x, lengths.tolist(), strict=True)])
        torch.testing.assert_close(network(x, lengths), alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize(("block", "through"), [(Res2Convolutions, 7), (SpeechBrainRes2Convolutions, 0)])
def test_one_part_passes_through_and_the_others_build_on_the_one_before(block, through):
    torch.manual_seed(0)
    layer = block(16, dilation=2).eval()
    x = torch.randn(1, 16, 20)
    parts = layer(x).chunk(8, 1)
    torch.testing.assert_close(parts[through], x.chunk(8, 1)[through])
    moved = x.clone()
    convolved = [i for i in range(8) if i != through]
    moved[:, 2 * convolved[3] : 2 * convolved[3] + 2] += 1
    changed = [i for i, (a, b) in enumerate(zip(parts, layer(moved).chunk(8, 1), strict=True)) if not torch.equal(a, b)]
    assert changed == convolved[3:]


def test_squeeze_excitation_scales_whole_channels():
    torch.manual_seed(0)
    layer = SqueezeExcitation(16)
    x = torch.rand(2, 16, 9) + 0.5
    scale = layer(x) / x
    torch.testing.assert_close(scale, scale[..., :1].expand_as(scale))
    assert 0 < scale.min() < scale.max() < 1


def test_pinned():
    examples.check_pinned("ecapa_tdnn", [0.435167, -0.265367, -0.417727, -0.513853])
    speechbrain = {"channels": 64, "mfa_channels": 192, "details": "speechbrain"}
    examples.check_pinned("ecapa_tdnn", [0.0781028, -0.0333769, -0.427414, 0.259626], **speechbrain)
