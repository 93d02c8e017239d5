import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
from samevoice.data.augment import Augmentation, Plan, Source
from samevoice.data.banks import BankError, Recording, build
from samevoice.data.preview import RecipeError, describe, preview, read_recipe


@pytest.fixture
def banks(tmp_path):
    generator = np.random.default_rng(0)
    soundfile.write(tmp_path / "hiss.wav", 0.1 * generator.standard_normal(50000), 16000)
    build("noise", [Recording(str(tmp_path / "hiss.wav"))], tmp_path / "banks")
    return tmp_path / "banks"


@pytest.fixture
def recipe(tmp_path, banks):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: eres2net\n"
        "augmentation: {probability: 1.0, kinds: [noise], speeds: [1.1], time_masks: 1}\n"
        "data: {banks: banks, seconds: 1.5}\n"
    )
    return path


def test_ten_examples_to_hear_and_a_picture(recipe, tmp_path):
    made = preview(recipe, tmp_path / "out")
    assert len(made) == 10
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [*(f"{number:02d}-noise.wav" for number in range(1, 11)), "examples.png"]
    assert len({example.utterance for example in made}) == 10
    for example in made:
        samples, rate = soundfile.read(example.path)
        assert (len(samples), rate) == (24000, 16000)
        assert 0 < np.abs(samples).max() <= 1
        assert "noise at" in example.text
        assert "1.1 times as fast" in example.text
    assert (tmp_path / "out" / "examples.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_the_filter_banks(recipe, tmp_path):
    from matplotlib.image import imread

    preview(recipe, tmp_path / "out", count=2)
    picture = imread(tmp_path / "out" / "examples.png")
    assert picture.shape[:2] == (320, 1000)
    assert len(np.unique(picture[40:120, 100:900, :3].reshape(-1, 3), axis=0)) > 100


def test_the_same_seed_gives_the_same_sound(recipe, tmp_path):
    sounds = []
    for number, seed in enumerate((5, 5, 6)):
        (example,) = preview(recipe, tmp_path / str(number), count=1, seed=seed)
        sounds.append(soundfile.read(example.path)[0])
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert (sounds[0] != sounds[2]).any()


def test_a_small_corpus_is_heard_again_otherwise(recipe, tmp_path, samples):
    from samevoice.data import manifest

    path = samples / "carlo-flora-it" / "vm-newuser.flac"
    row = {"utterance": "only", "speaker": "carlo", "path": str(path), "offset": 0.0, "rate": 8000}
    manifest.write(tmp_path / "m.parquet", [row | {"duration": soundfile.info(path).duration}])
    made = preview(recipe, tmp_path / "out", manifest=tmp_path / "m.parquet", count=3)
    assert [example.utterance for example in made] == ["only"] * 3
    assert len({soundfile.read(example.path)[0].tobytes() for example in made}) == 3


def test_what_a_recipe_lacks_is_told(tmp_path, banks):
    path = tmp_path / "bad.yaml"
    for content, message in (
        ("model: eres2net\n", r"bad\.yaml: has no block `augmentation:`"),
        ("augmentation: {probabilty: 1}\n", "did you mean 'probability'"),
        ("augmentation: [", "is not YAML"),
    ):
        path.write_text(content)
        with pytest.raises(RecipeError, match=message):
            preview(path, tmp_path / "out")
    path.write_text("augmentation: lap\n")
    with pytest.raises(BankError, match="no bank of music, rir, speech"):
        preview(path, tmp_path / "out", banks=banks)
    assert not (tmp_path / "out").exists()


def test_paths_are_relative_to_the_recipe(recipe, banks):
    settings, data = read_recipe(recipe)
    assert settings == Augmentation(probability=1.0, kinds=("noise",), speeds=(1.1,), time_masks=1)
    assert data == {"banks": banks, "seconds": 1.5}


def test_plans_in_words():
    talkers = tuple(Source("speech", item, 0, 0, 100, 13.0 + item) for item in range(3))
    plan = Plan(speed=0.9, kind="babble", sources=talkers, law="a", codec=("opus", 8.2), gain=-3.0, clipping=0.25)
    assert describe(plan) == (
        "3 talkers at 13, 14, 15 dB; 0.9 times as fast; -3 dB; clipped at 25%; telephone, G.711 a-law; opus at 8 kbit/s"
    )
    assert describe(Plan()) == "as recorded"
    assert describe(Plan(kind="reverb", rir=3)) == "room"
