import json
import xml.etree.ElementTree as ET

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TINY = {
    "conv_dim": [8] * 7,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 16,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
ALIGNMENT = """"ooTextFile" "TextGrid" 0 3 <exists> 2
"IntervalTier" "words" 0 3 2  0 1 ""  1 3 "all"
"IntervalTier" "phones" 0 3 3  0 1 ""  1 2 "ɔ"  2 3 "l"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained model's folder, as `load_network` reads it: a tiny WavLM with LAP."""
    safetensors = pytest.importorskip("safetensors.torch")
    from samevoice.audio.fbank import FbankSettings
    from samevoice.hub import cards
    from samevoice.models import create

    torch.manual_seed(0)
    network = create("wavlm_base_plus_lap_astp", front_end_config=TINY, heads=2)
    place = tmp_path_factory.mktemp("analyze") / "mine"
    place.mkdir()
    safetensors.save_file(network.state_dict(), place / "model.safetensors")
    card = cards.Card(
        name="mine",
        architecture=network.architecture,
        config=network.config,
        features=FbankSettings(),
        licence="none",
        trained_on="nothing",
    )
    cards.write_card(card, place / "card.yaml")
    return place


@pytest.fixture
def recording(samples):
    return samples / "carlo-flora-it" / "vm-newuser.flac"


def test_layers(command, folder, recording, tmp_path):
    (tmp_path / "a.TextGrid").write_text(ALIGNMENT)
    arguments = ("analyze", "layers", folder, recording, "--alignment", tmp_path / "a.TextGrid")
    ended = command(*arguments, "-o", tmp_path / "a.svg", "--json")
    assert ended.status == 0, ended.err
    told = json.loads(ended.out)
    static, ours = told["usages"]
    assert static["layers"] == [0.25] * 4
    assert static["variation"] == 0
    assert ours["label"] == "mine: share of latent values won"
    assert sum(ours["layers"]) == pytest.approx(1, abs=1e-5)
    assert ours["variation"] > 0
    assert {row["label"] for row in told["by_label"]} == {"ɔ", "l"}
    texts = [e.text for e in ET.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"all", "ɔ", "l"} <= set(texts)
    shown = command(*arguments, "-o", tmp_path / "a.svg")
    assert "mine: share of latent values won: most of layers" in shown.out
    assert "from the highest layers used" in shown.out


def test_layers_of_a_part(command, folder, recording, tmp_path):
    (tmp_path / "a.TextGrid").write_text(ALIGNMENT)
    arguments = ("analyze", "layers", folder, recording, "--alignment", tmp_path / "a.TextGrid", "--json")
    ended = command(*arguments, "--start", "1.25", "--end", "1.75", "-o", tmp_path / "a.svg")
    told = json.loads(ended.out)
    assert told["seconds"] == 0.5
    assert [row["label"] for row in told["by_label"]] == ["ɔ"]


def test_layers_against_another_model(command, folder, recording, tmp_path):
    arguments = ("analyze", "layers", folder, recording, "--against", folder, "--json", "-o", tmp_path / "a.svg")
    first, second = json.loads(command(*arguments).out)["usages"]
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "{recording}"), "neither a model's folder nor"),
        (("lap_astp", "{recording}"), "name a whole system"),
        (("{folder}", "nowhere.wav"), "nowhere.wav"),
        (("{folder}", "{recording}", "--start", "900"), "nothing of it is between"),
        (("{folder}", "{recording}", "--start", "2", "--end", "1"), "nothing of it is between"),
        (("{folder}", "{recording}", "--alignment", "{recording}"), "not text"),
        (("{folder}", "{recording}", "-o", "a.pdf"), "must end in .svg"),
        (("{folder}", "{recording}", "--end", "0.01"), "too short"),
    ],
)
def test_layers_bad_input(command, folder, recording, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    given = [argument.format(folder=folder, recording=recording) for argument in arguments]
    ended = command("analyze", "layers", *given, "--json")
    assert ended.status == 2
    assert message in json.loads(ended.out)["error"]
    assert not list(tmp_path.iterdir())


QUICK = ("--batch", 2, "--seconds", 0.3, "--steps", 1, "--threads", 1, "--speakers", 5, "--utterances", 10)


def test_efficiency(command, tmp_path):
    arguments = ("analyze", "efficiency", "xvector", *QUICK, "-o", tmp_path / "a.svg")
    told = json.loads(command(*arguments, "--json").out)
    assert told["setting"]["batch"] == 2
    (system,) = told["systems"]
    assert system["name"] == "xvector"
    assert system["epoch_hours"] == pytest.approx(5 * system["step_seconds"] / 3600)
    assert "xvector" in (tmp_path / "a.svg").read_text()


def test_efficiency_without_published_error_rates(command, tmp_path):
    ended = command("analyze", "efficiency", "nexttdnn_light_c128_b3", *QUICK, "-o", tmp_path / "a.svg")
    assert ended.status == 0
    assert "nexttdnn_light_c128_b3" in ended.out
    assert "no picture" in ended.out
    assert not (tmp_path / "a.svg").exists()


def test_efficiency_bad_input(command, tmp_path):
    ended = command("analyze", "efficiency", "eres2nett", "-o", tmp_path / "a.svg")
    assert ended.status == 2
    assert "did you mean" in ended.err


def test_table(command, tmp_path):
    from samevoice.evaluation.protocols import Condition

    entries = [{"condition": Condition().name, "scoring": "cosine", "eer": 0.0123}]
    report = {"model": "mine", "architecture": "eres2net", "protocol": "voxceleb1-o", "entries": entries}
    (tmp_path / "report.json").write_text(json.dumps(report))
    shown = command("analyze", "table", tmp_path, "--table", 4)
    assert shown.status == 0
    assert "| **mine** | **measured; cosine** |  | **1.23** |" in shown.out
    assert "Table 3" not in shown.out
    ended = command("analyze", "table", tmp_path, "-o", tmp_path / "all.tex", "--json")
    assert [len(table["heads"]) for table in json.loads(ended.out)["tables"]] == [13, 6, 8, 5]
    assert (tmp_path / "all.tex").read_text().count(r"\begin{tabular}") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.json",), "nowhere.json"),
        (("a.json",), "is not a report"),
        (("-o", "a.csv"), "written as .md or .tex"),
    ],
)
def test_table_bad_input(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    ended = command("analyze", "table", *arguments)
    assert ended.status == 2
    assert message in ended.err
