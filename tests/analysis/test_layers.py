import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

from samevoice.analysis import layers
from samevoice.analysis.layers import Usage
from samevoice.analysis.picture import Drawing, png
from samevoice.analysis.textgrid import Interval, Tier

torch = pytest.importorskip("torch")

TINY = {
    "conv_dim": (8,) * 7,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 16,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def system(name: str, **words):
    from samevoice.models import create

    torch.manual_seed(0)
    return create(name, front_end_config=TINY, **words).eval()


@pytest.fixture(scope="module")
def lap():
    return system("wavlm_base_plus_lap_astp", heads=2)


def test_winners_are_counted_per_frame(lap, speech):
    """Against the literal loop: which layer's scaled value is the largest, value by value."""
    samples = speech[:8000]
    (usage,) = layers.usages(lap, samples, "ours")
    pool = lap.head.layer_aggregation
    with torch.no_grad():
        states, _ = lap.front_end(torch.from_numpy(samples)[None])
        x = pool.in_weight(pool.in_norm(states[0].flatten(0, 1)).view_as(states[0]))  # (layers, frames, hidden)
        weights = pool.layer_usage(states).weights[0]  # (heads, layers, frames)
    expected = np.zeros(usage.shares.shape)
    for t in range(x.shape[1]):
        for value in range(24):
            scaled = x[:, t, value] * weights[value // 12, :, t]
            expected[int(scaled.argmax()), t] += 1 / 24
    np.testing.assert_allclose(usage.shares, expected, atol=1e-6)
    assert usage.dynamic
    assert usage.variation > 0


def test_a_static_sum_is_static(speech):
    network = system("wavlm_base_plus_superb_astp")
    network.head.layer_aggregation.layer_weights.data = torch.tensor([1.0, 2.0, 3.0, 2.0]).log()
    (usage,) = layers.usages(network, speech[:8000], "superb")
    np.testing.assert_allclose(usage.shares, np.tile([[1 / 8], [2 / 8], [3 / 8], [2 / 8]], usage.shares.shape[1]), 1e-6)
    assert not usage.dynamic
    assert usage.variation < 1e-6


def test_mhfa_has_keys_and_values(speech):
    network = system("wavlm_base_plus_mhfa", heads=2, channels=4)
    network.head.layer_pooling.key.layer_weights.data = torch.tensor([0.0, 0.0, 0.0, 9.0])
    keys, values = layers.usages(network, speech[:8000], "mhfa")
    assert keys.mean.argmax() == 3
    np.testing.assert_allclose(values.mean, 0.25, atol=1e-6)
    assert [usage.label for usage in (keys, values)] == ["mhfa: weights of the keys", "mhfa: weights of the values"]


@pytest.mark.parametrize("name", ["wavlm_base_plus_dbe", "wavlm_base_plus_lap_softmax_sum_astp"])
def test_shares_of_a_frame_add_up_to_one(name, speech):
    words = {"channels": 8} if name.endswith("dbe") else {"heads": 2}
    (usage,) = layers.usages(system(name, **words), speech[:8000], "x")
    np.testing.assert_allclose(usage.shares.sum(0), 1, atol=1e-6)


def test_frames_lie_where_their_samples_do(lap, speech):
    usage = layers.usages(lap, speech[:8000], "x")[0]
    assert usage.shares.shape == (4, 24)
    assert (usage.first, usage.hop) == (0.0025, 0.02)  # 400 samples every 320: the middle one of the first is 200


def test_too_short_and_too_long(lap):
    with pytest.raises(ValueError, match="too short"):
        layers.usages(lap, np.zeros(399, np.float32), "x")
    with pytest.raises(ValueError, match="too long"):
        layers.usages(lap, np.zeros(61 * 16000, np.float32), "x")


def test_models_that_weigh_no_layers_are_refused(tmp_path):
    from samevoice.hub import HubError

    with pytest.raises(ValueError, match="such as wavlm_base_plus_lap_astp"):
        layers.load("lap_astp")
    with pytest.raises(ValueError, match="doesn't weigh the layers"):
        layers.load("nexttdnn_light_c128_b3")
    with pytest.raises(HubError, match="neither"):
        layers.load("nothing")


def usage_of(*frames: list[float]) -> Usage:
    return Usage("x", np.array(frames, np.float32).T, 0.0, 0.1)


def test_levels_by_label():
    usage = usage_of([1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0.5, 0.5])
    intervals = [Interval(0, 0.1, "s"), Interval(0.1, 0.2, "a"), Interval(0.2, 0.4, "s"), Interval(0.4, 0.5, "late")]
    rows = layers.levels_by_label(usage, Tier("phones", [*intervals, Interval(0, 0.4, "")]))
    assert rows == [
        {"label": "a", "count": 1, "seconds": 0.1, "layer": 2.0},
        {"label": "s", "count": 2, "seconds": 0.3, "layer": pytest.approx((0 * 0.1 + 1.25 * 0.2) / 0.3, abs=1e-3)},
    ]


def test_variation_is_total_variation():
    assert usage_of([1, 0], [0, 1]).variation == pytest.approx(0.5)
    assert usage_of([0.3, 0.7], [0.3, 0.7]).variation == pytest.approx(0)
    assert layers.equal_weights(usage_of([1, 0], [0, 1])).mean.tolist() == [0.5, 0.5]


def test_drawing():
    usage = usage_of([1, 0], [0, 1])
    tier = Tier("anna - words", [Interval(0, 0.15, "<you>"), Interval(0.15, 0.2, "there")])
    svg = layers.draw([layers.equal_weights(usage), usage], 0.2, [tier], "a & b")
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<you>" in texts
    assert "a & b (full colour: 100.0% of a frame)" in texts
    assert "words" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 2


def test_matrix_pictures_are_png():
    picture = png(np.array([[0.0, 1.0], [0.5, 2.0]]), "#0a0b0c")
    start = picture.index(b"IDAT")
    (length,) = struct.unpack(">I", picture[start - 4 : start])
    lines = np.frombuffer(zlib.decompress(picture[start + 4 : start + 4 + length]), np.uint8).reshape(2, 9)
    assert lines[:, 0].tolist() == [0, 0]
    pixels = lines[:, 1:].reshape(2, 2, 4)
    assert pixels[..., 3].tolist() == [[0, 255], [128, 255]]
    assert pixels[0, 0, :3].tolist() == [10, 11, 12]
    (crc,) = struct.unpack(">I", picture[start + 4 + length : start + 8 + length])
    assert crc == zlib.crc32(picture[start : start + 4 + length])


def test_pictures_read_on_light_and_dark_pages():
    assert "prefers-color-scheme:dark" in Drawing(1, 1, "x").svg()
