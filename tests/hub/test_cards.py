import dataclasses

import pytest
import yaml

from samevoice.audio.fbank import FbankSettings
from samevoice.hub import HubError, cards, graphs
from samevoice.hub.cards import Calibration, OperatingPoint, Source, read_card, write_card
from samevoice.hub.conventions import convention
from samevoice.hub.fetch import _FETCHERS


@pytest.mark.parametrize("name", cards.names())
def test_every_shipped_card_can_be_used(name):
    card = cards.find(name)
    assert card.name == name
    assert card.licence
    assert card.trained_on
    assert card.sources
    for source in card.sources:
        assert source.kind in {*_FETCHERS, "package"}
        assert source.id or source.kind == "package"
        assert source.file
        assert source.sha256 is None or len(source.sha256) == 64
    assert (card.graph is None) == (card.convention is None)
    assert card.graph is not None or all(source.file.endswith(".onnx") for source in card.sources)
    for row in card.error_rates:
        assert row.get("kind") in ("published", "measured")


@pytest.mark.parametrize("name", [name for name in cards.names() if cards.find(name).graph])
def test_every_shipped_graph_wants_the_weights_of_its_cards_network(name):
    torch = pytest.importorskip("torch")
    from samevoice.models import create

    card = cards.find(name)
    assert convention(card.convention, card.architecture) is not None
    with torch.device("meta"):
        state = create(card.architecture, **card.config).state_dict()
    wanted = {key: list(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert graphs.parameters(card.graph) == wanted


def test_default_and_hub_ids_are_names_too():
    card = cards.find("default")
    assert card.name == cards.DEFAULT
    for source in card.sources:
        assert cards.find(source.id).name == card.name


@pytest.mark.parametrize(
    ("name", "hint"),
    [("campplus-zh-em", "did you mean campplus-zh-en"), ("qqqq", "`samevoice models list` has them all")],
)
def test_unknown_names_get_the_nearest(name, hint):
    with pytest.raises(HubError, match=f"no model called '{name}'; {hint}"):
        cards.find(name)


FULL = cards.Card(
    name="full",
    architecture="campplus",
    config={"embedding_dim": 192, "blocks": (1, 2)},
    features=FbankSettings(mels=40, subtract_mean=False),
    licence="MIT",
    trained_on="Stimmen, 声音",
    sources=(Source("pypi", "a/b.pt", "x==1", sha256="0" * 64), Source("file", "/c.pt")),
    convention="3d-speaker",
    graph="campplus-192",
    calibration=Calibration(12.5, -4.0, "trials", {"1%": OperatingPoint(0.4, 0.01, 0.02)}),
    error_rates=({"kind": "published", "eer": 0.65, "where": "its page"},),
    notes="n",
)


def test_a_card_is_read_as_it_was_written(tmp_path):
    write_card(FULL, tmp_path / "card.yaml")
    expected = dataclasses.replace(FULL, config={"embedding_dim": 192, "blocks": [1, 2]})
    assert read_card(tmp_path / "card.yaml") == expected
    assert "声音" in (tmp_path / "card.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", cards.names())
def test_shipped_cards_can_be_written_again(name, tmp_path):
    write_card(cards.find(name), tmp_path / "card.yaml")
    assert read_card(tmp_path / "card.yaml") == cards.find(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(licens="MIT"),
        lambda values: values.pop("licence"),
        lambda values: values["features"].update(windows="povey"),
        lambda values: values["sources"][0].update(sha="0"),
        lambda values: values["calibration"].update(slop=1),
        lambda values: values["calibration"]["operating_points"]["1%"].update(misses=1),
        lambda values: values.update(features="fbank"),
        lambda values: values.update(sources=["pypi"]),
    ],
)
def test_misspelt_and_missing_keys_are_refused(change, tmp_path):
    path = tmp_path / "card.yaml"
    write_card(FULL, path)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(HubError, match=r"card\.yaml: not a model card: "):
        read_card(path)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"a: [", b"\xff\xfe\x00", b"name: x\n"])
def test_what_is_no_card_is_told(content, tmp_path):
    (tmp_path / "card.yaml").write_bytes(content)
    with pytest.raises(HubError, match="not a model card"):
        read_card(tmp_path / "card.yaml")


def test_a_missing_card_is_told(tmp_path):
    with pytest.raises(HubError, match="not a model card.*No such file"):
        read_card(tmp_path / "card.yaml")


def test_llr_is_linear_in_the_cosine():
    assert Calibration(10, -5, "").llr(0.7) == pytest.approx(2)
