import xml.etree.ElementTree as ET

import pytest

from samevoice.analysis import efficiency
from samevoice.analysis.efficiency import Cost, Setting

torch = pytest.importorskip("torch")
SMALL = Setting(batch=2, seconds=0.5, steps=2, utterances=101, speakers=3, threads=1)


def test_a_filter_bank_network_is_trained_and_counted():
    words = {"channels": 8, "depth": 1, "embedding_dim": 16}
    cost = efficiency.train_a_little("nexttdnn", SMALL, words)
    from samevoice.models import create

    assert cost.parameters == sum(p.numel() for p in create("nexttdnn", **words).parameters())
    assert cost.front_end_parameters == 0
    assert 0 < cost.fastest <= cost.step_seconds <= cost.slowest
    assert cost.epoch_hours == pytest.approx(51 * cost.step_seconds / 3600)
    assert cost.peak_mb > 50


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_front_ends_stay_as_they_are(frozen, monkeypatch):
    from samevoice import models

    made = []

    def create(name, **words):
        tiny = {"conv_dim": (8,) * 7, "hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
        tiny |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        torch.manual_seed(3)
        made.append(create_(name, front_end_config=tiny, heads=2, **words))
        made.append({key: value.clone() for key, value in made[0].state_dict().items()})
        return made[0]

    create_ = models.create
    monkeypatch.setattr(models, "create", create)
    setting = Setting(batch=2, seconds=0.5, steps=1, frozen=frozen, speakers=3)
    cost = efficiency.train_a_little("wavlm_base_plus_lap_astp", setting, {})
    network, before = made
    after = network.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert any(key.startswith("head.") for key in moved)
    assert any(key.startswith("front_end.") for key in moved) != frozen
    assert cost.front_end_parameters == sum(p.numel() for p in network.front_end.parameters())


def test_each_is_measured_in_a_process_of_its_own():
    (cost,) = efficiency.measure(["xvector"], SMALL, embedding_dim=16)
    assert cost.name == "xvector"
    assert cost.head_parameters == cost.parameters > 0


def test_unknown_names_are_refused_before_anything_is_measured():
    with pytest.raises(ValueError, match="did you mean eres2net"):
        next(efficiency.measure(["xvector", "eres2nett"], SMALL))
    with pytest.raises(ValueError, match="name a whole system"):
        next(efficiency.measure(["superb_xvector"], SMALL))


def cost(name: str, hours: float, head: int) -> Cost:
    return Cost(name, 10, 10 + head, 1.0, 1.0, 1.0, 1.0, hours)


def test_drawing():
    costs = [cost("a", 2.0, 1_000_000), cost("b", 4.0, 4_000_000), cost("no EER", 9.0, 1)]
    root = ET.fromstring(efficiency.draw(costs, {"a": 1.0, "b": 2.0}, "x"))
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 2
    radii = [float(circle.get("r")) for circle in circles]
    assert radii[1] == pytest.approx(2 * radii[0])  # areas tell parameters
    assert float(circles[0].get("cx")) < float(circles[1].get("cx"))
    assert float(circles[0].get("cy")) > float(circles[1].get("cy"))
    assert efficiency.draw(costs, {}, "x") is None
