"""Recipes as files: what is refused and with which words, inheritance, changes, and that nothing is undocumented."""

import ast
import inspect
from pathlib import Path

import pytest
import yaml

from samevoice.training import recipe
from samevoice.training.recipe import RecipeError, load

STANDARD = {
    "epochs": 10,
    "batch": 64,
    "seconds": 2,
    "optimiser": "sgd",
    "learning_rate": {"initial": 0.001, "peak": 0.1, "final": 0.01},
    "schedule": "cosine",
    "augmentation": {"base": "lap", "probability": 0},
    "margin": {"shape": "linear", "final": 0.3, "start": 2, "end": 5},
}
PLAIN = {
    "name": "plain",
    "network": {"name": "eres2net", "config": {"channels": 8}},
    "data": {"train": "speakers"},
    "validation": {"held_out": 0.1},
    "loss": {"top_k": 5},
    "phases": {"standard": STANDARD, "large-margin": {"epochs": 2, "margin": {"final": 0.5}}},
}


@pytest.fixture
def plain(tmp_path) -> Path:
    return write(tmp_path / "plain.yaml", PLAIN)


def write(path: Path, values) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def refusal(path: Path, *changes: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(path, changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seeds=1", "no setting seeds; did you mean seed?"),
        ("network.nam=eres2net", "no setting network.nam; did you mean name?"),
        ("network.name=eres2nett", "'eres2nett'; did you mean eres2net"),
        ("network.config.chanels=3", "network eres2net has no word 'chanels'; did you mean channels?"),
        ("features.windw=povey", "no setting features.windw; did you mean window?"),
        ("features.window=hann", "features.window can't be 'hann'; did you mean hamming?"),
        ("data.trian=x", "no setting data.trian; did you mean train?"),
        ("data.views={cuont: 2}", "no setting data.views.cuont; did you mean count?"),
        ("data.views={count: 2, augmentation: wlid}", "'wlid'; did you mean 'wild'?"),
        ("validation.helt_out=4", "no setting validation.helt_out; did you mean held_out?"),
        ("loss.scal=3", "no setting loss.scal; did you mean scale?"),
        ("loss.name=aam", "loss.name can't be 'aam'; did you mean aam-softmax?"),
        ("phases.standrd.epochs=3", "no phase 'standrd'; did you mean standard?"),
        ("phases.standard.epoch=3", "no setting phases.standard.epoch; did you mean epochs?"),
        ("phases.standard.optimiser=adm", "phases.standard.optimiser can't be 'adm'; did you mean adam?"),
        ("phases.standard.schedule=cosin", "phases.standard.schedule can't be 'cosin'; did you mean cosine?"),
        ("phases.standard.learning_rate.peek=1", "no setting phases.standard.learning_rate.peek; did you mean peak?"),
        ("phases.standard.margin.shap=log", "no setting phases.standard.margin.shap; did you mean shape?"),
        ("phases.standard.margin.shape=expo", "margin.shape can't be 'expo'; did you mean exponential?"),
        ("phases.standard.parts={loss: {weight_deca: 0}}", "parts.loss.weight_deca; did you mean weight_decay?"),
        ("phases.standard.distillation={techer: x}", "distillation.techer; did you mean teacher?"),
        ("phases.standard.augmentation=lapp", "'lapp'; did you mean 'lap'?"),
        ("phases.standard.augmentation.probabilty=1", "'probabilty'; did you mean 'probability'?"),
        ("precision=bf32", "precision can't be 'bf32'"),
        ("trackers=tensorbord", "trackers.0 can't be 'tensorbord'; did you mean tensorboard?"),
    ],
)
def test_a_misspelt_word_names_its_place_and_the_nearest_valid_one(plain, change, words):
    message = refusal(plain, change)
    assert words in message
    assert change.split("=")[0] in message or message.startswith(f"{plain}: ")


def test_a_misspelt_word_in_the_file_itself_is_refused_too(tmp_path):
    phases = {"standard": {**STANDARD, "learning_rates": 0.1}}
    path = write(tmp_path / "odd.yaml", {**PLAIN, "phases": phases})
    assert refusal(path) == f"{path}: there is no setting phases.standard.learning_rates; did you mean learning_rate?"


def test_every_mistake_gets_a_line(plain):
    lines = refusal(plain, "seeds=1", "loss.scal=3").splitlines()
    assert len(lines) == 2
    assert "seeds" in lines[0] + lines[1]
    assert "loss.scal" in lines[0] + lines[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["validation.protocol=voxceleb1-o"], "give one of protocol, trials and held_out, not protocol and held_out"),
        (["validation={}"], "give one of protocol, trials and held_out, not none"),
        (["validation={trials: list.txt}"], "trials need data"),
        (["network.front_end=microsoft/wavlm-base"], "eres2net has no self-supervised front end"),
        (["loss={name: am-softmax, top_k: 5}"], "sub_centres and top_k belong to aam-softmax"),
        (["loss={name: softmax}"], "has a margin, which softmax does not know"),
        (["loss.top_k=0", "phases.standard.margin.penalty=0.06"], "has a penalty, but the loss's top_k is 0"),
        (["phases.standard.batch=7", "phases.standard.accumulate=2"], "a batch of 7 can't be taken in 2 equal pieces"),
        (["phases.standard.warm_up=10"], "warm_up of 10 epochs leaves nothing of 10"),
        (["phases.standard.epochs=4"], "the margin grows until epoch 5, but there are 4"),
        (["phases.standard.margin.start=5"], "must end after it starts"),
        (["phases.standard.margin={initial: 0.1, final: 0.3}"], "a constant margin is its final one, 0.3"),
        (["phases.standard.margin_weight=0"], "nothing to learn"),
        (["phases.standard.use=best", "validation=null"], "no validation to say which"),
        (["phases.standard.use=average-best", "validation=null"], "no validation to say which"),
        (["data.views.count=2"], "changes speeds, which views have fixed"),
        (["phases.standard.augmentation=lap"], "banks (music, noise, rir, speech), but there is no data.banks"),
        (
            ["phases.standard.schedule=exponential", "phases.standard.learning_rate.final=0"],
            "an exponential schedule never falls to 0",
        ),
        (
            ["phases.standard.schedule=exponential", "phases.standard.parts={loss: {learning_rate: {peak: 1}}}"],
            "an exponential schedule never falls to 0",
        ),
        (["phases.standard.batch=0"], "phases.standard.batch"),
        (["phases.standard.batch=2.5"], "phases.standard.batch"),
        (["phases.standard.epochs=many"], "phases.standard.epochs"),
        (["phases.standard.learning_rate=fast"], "phases.standard.learning_rate"),
        (["phases={}"], "phases"),
        (["phases=3"], "phases must have names"),
        (["phases.standard=3"], "phase standard must be settings, not 3"),
    ],
)
def test_values_that_contradict_each_other_or_do_not_fit_are_refused(plain, changes, words):
    message = refusal(plain, *changes)
    assert words in message
    assert message.startswith(str(plain))


def test_the_unchanged_recipe_is_fine_and_so_are_the_neighbours_of_what_is_refused(plain):
    load(plain)
    load(plain, ["phases.standard.epochs=5"])
    load(plain, ["phases.standard.warm_up=0.9"])
    load(plain, ["phases.standard.margin={initial: 0.3, final: 0.3}"])
    load(plain, ["phases.standard.margin_weight=0", "phases.standard.distillation={}"])
    load(plain, ["phases.standard.augmentation=lap", "data.banks=banks"])
    load(plain, ["loss={name: softmax}", "phases={only: {epochs: 1, batch: 2, seconds: 1, optimiser: adam, "
                 "schedule: linear, learning_rate: 0.1}}"])  # fmt: skip


def test_a_missing_value_is_named(tmp_path):
    phases = {"standard": {key: value for key, value in STANDARD.items() if key != "batch"}}
    path = write(tmp_path / "short.yaml", {"phases": phases, "network": {"name": "xvector"}})
    message = refusal(path)
    for line in ("name is missing", "data is missing", "phases.standard.batch is missing"):
        assert f"{path}: {line}" in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "word", "a: [1\n", b"\xff\xfe\x00"])
def test_what_is_no_recipe_at_all_is_refused_by_name(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert str(path) in refusal(path)


# Inheritance


def test_a_phase_starts_from_the_one_before(plain):
    first, second = load(plain).phases.values()
    assert list(load(plain).phases) == ["standard", "large-margin"]
    assert (first.epochs, second.epochs) == (10, 2)
    assert second.learning_rate == first.learning_rate
    assert second.augmentation == first.augmentation
    assert (second.batch, second.optimiser) == (64, "sgd")
    # What it does name replaces the whole of it: no start, end or shape of the margin before
    assert second.margin == recipe.Margin(shape="constant", final=0.5)


def test_a_third_phase_starts_from_the_second(plain):
    more = {"standard": STANDARD, "b": {"epochs": 5, "batch": 32}, "c": {"seconds": 6}}
    third = load(write(plain, {**PLAIN, "phases": more}))
    assert third.phases["c"].batch == 32
    assert third.phases["c"].epochs == 5
    assert third.phases["standard"].batch == 64


def test_a_change_to_a_phase_reaches_the_phases_after_it(plain):
    phases = load(plain, ["phases.standard.batch=128"]).phases
    assert [phase.batch for phase in phases.values()] == [128, 128]
    phases = load(plain, ["phases.large-margin.batch=128"]).phases
    assert [phase.batch for phase in phases.values()] == [64, 128]


def test_extends_changes_only_what_the_file_says(plain, tmp_path):
    child = write(tmp_path / "child.yaml", {
        "extends": "plain.yaml", "name": "child", "network": {"name": "res2net"}, "validation": None,
        "phases": {"standard": {"batch": 32, "learning_rate": {"peak": 0.2}}},
    })  # fmt: skip
    base, changed = load(plain), load(child)
    assert (changed.name, changed.network.name, changed.validation) == ("child", "res2net", None)
    assert changed.network.config == {"channels": 8}
    first = changed.phases["standard"]
    assert (first.batch, first.learning_rate.peak, first.learning_rate.final) == (32, 0.2, 0.01)
    same = {"name", "network", "validation", "phases"}
    assert base.model_dump(exclude=same) == changed.model_dump(exclude=same)
    assert list(changed.phases) == list(base.phases)


def test_extends_goes_on_along_a_chain_and_looks_beside_the_file_first(plain, tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path / "child.yaml", {"extends": "plain.yaml", "seed": 1, "workers": 7})
    grandchild = write(tmp_path / "sub" / "grandchild.yaml", {"extends": "../child.yaml", "seed": 2})
    found = load(grandchild)
    assert (found.seed, found.workers, found.name) == (2, 7, "plain")


def test_extends_may_name_a_recipe_of_the_package(tmp_path):
    child = write(tmp_path / "mine.yaml", {"extends": "eres2net", "name": "mine"})
    assert load(child).phases == load("eres2net").phases


def test_a_short_form_keeps_its_meaning_when_one_of_its_settings_is_changed(plain, tmp_path):
    base = write(tmp_path / "base.yaml", {
        **PLAIN, "data": {"train": "speakers", "banks": "banks"},
        "phases": {"standard": {**STANDARD, "augmentation": "lap", "learning_rate": 0.5}},
    })  # fmt: skip
    child = write(tmp_path / "child.yaml", {
        "extends": "base.yaml",
        "phases": {"standard": {"augmentation": {"probability": 0.25}, "learning_rate": {"final": 0.1}}},
    })  # fmt: skip
    changes = ["phases.standard.augmentation.probability=0.25", "phases.standard.learning_rate.final=0.1"]
    for found in (load(child), load(base, changes)):
        phase = found.phases["standard"]
        assert phase.augmentation.probability == 0.25
        assert phase.augmentation.drawn_speeds == (1.0, 1.0, 1.0, 0.9, 1.1)
        assert phase.learning_rate == recipe.LearningRate(peak=0.5, initial=0.5, final=0.1)


def test_a_cycle_of_extends_is_refused(tmp_path):
    write(tmp_path / "a.yaml", {"extends": "b.yaml"})
    write(tmp_path / "b.yaml", {"extends": "c.yaml"})
    write(tmp_path / "c.yaml", {"extends": "a.yaml"})
    message = refusal(tmp_path / "a.yaml")
    assert "extends itself" in message
    assert "c.yaml" in message
    itself = write(tmp_path / "itself.yaml", {"extends": "itself.yaml"})
    assert "extends itself" in refusal(itself)


def test_a_base_that_is_not_there_is_named(tmp_path):
    child = write(tmp_path / "child.yaml", {"extends": "eres2nett", "name": "x"})
    assert "'eres2nett'; did you mean eres2net?" in refusal(child)
    child = write(tmp_path / "child.yaml", {"extends": "nowhere/base.yaml", "name": "x"})
    assert "nowhere/base.yaml" in refusal(child)


# Changes


def test_changes_are_yaml_by_path_and_the_last_one_counts(plain):
    found = load(
        plain,
        [
            "seed=1",
            "seed=3",
            "compile=true",
            "data.train=[a.parquet, b.csv]",
            "validation=null",
            "phases.standard.frozen=[layer1]",
            "phases.standard.parts.loss.weight_decay=0",
            "phases.standard.learning_rate=1e-3",  # YAML reads this one as a word
            "phases.large-margin.margin.final=0.4",
            "features.scale=32768",
            "name=a=b",
        ],
    )
    assert found.seed == 3
    assert found.compile is True
    assert found.data.train == ["a.parquet", "b.csv"]
    assert found.validation is None
    first, second = found.phases.values()
    assert first.frozen == ["layer1"]
    assert first.parts["loss"].weight_decay == 0
    assert first.parts["loss"].learning_rate is None
    assert first.learning_rate == recipe.LearningRate(peak=1e-3, initial=1e-3, final=1e-3)
    assert (second.margin.final, first.margin.final) == (0.4, 0.3)
    assert found.features.scale == 32768
    assert found.name == "a=b"


def test_trackers_may_be_named_with_commas(plain):
    assert load(plain, ["trackers=wandb,mlflow"]).trackers == ["wandb", "mlflow"]


@pytest.mark.parametrize("change", ["seed", "=3", "seed=[1", ""])
def test_a_change_that_cannot_be_read_is_shown(plain, change):
    assert repr(change) in refusal(plain, change)


def test_a_setting_inside_a_plain_value_is_refused(plain):
    assert "seed" in refusal(plain, "seed.x=1")


def test_a_recipe_cannot_be_changed_once_it_is_loaded(plain):
    found = load(plain)
    with pytest.raises(Exception, match="frozen"):
        found.seed = 3


# Names, paths, and what is written


def test_a_name_is_a_recipe_of_the_package_and_a_path_is_itself(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe.find("eres2net") == recipe.find("eres2net.yaml")
    assert recipe.find("eres2net").parent in recipe.FOLDERS
    assert recipe.find("plain.yaml") == Path("plain.yaml")
    assert load("plain.yaml") == load(plain)
    write(tmp_path / "eres2net.yaml", PLAIN)
    assert load("eres2net.yaml").name == "plain"  # a file that is there comes first
    assert load("eres2net").name == "eres2net"


def test_what_is_neither_a_name_nor_a_file_is_told_with_what_there_is(tmp_path):
    with pytest.raises(RecipeError, match="'eres2nt'; did you mean eres2net?"):
        recipe.find("eres2nt")
    with pytest.raises(RecipeError, match="no such file.*eres2net, "):
        recipe.find(tmp_path / "nothing.yaml")
    with pytest.raises(RecipeError, match="there are: .*mini"):
        recipe.find("qqq")


@pytest.mark.parametrize("name", ["plain", "eres2net", "lap_wavlm_large"])
def test_what_dump_writes_is_read_back_as_the_same_recipe(plain, tmp_path, name):
    changes = ["phases.standard.parts={loss: {learning_rate: 0.1}}", "data.train=[a, b]"] if name == "plain" else []
    before = load(plain if name == "plain" else name, changes)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.dump(before), encoding="utf-8")
    assert load(path) == before
    assert recipe.dump(load(path)) == recipe.dump(before)


def test_the_dump_hides_nothing(plain):
    values = yaml.safe_load(recipe.dump(load(plain)))
    assert set(values) == set(recipe.Recipe.model_fields)
    for phase in values["phases"].values():
        assert set(phase) == set(recipe.Phase.model_fields)
        assert phase["batch"] == 64


# Documentation


def sections() -> list[type[recipe.Section]]:
    return [kind for kind in vars(recipe).values() if inspect.isclass(kind) and issubclass(kind, recipe.Section)]


@pytest.mark.parametrize("kind", sections()[1:], ids=lambda kind: kind.__name__)
def test_every_setting_is_documented(kind):
    assert kind.__doc__
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    documented = {
        before.target.id
        for before, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }  # fmt: skip
    assert documented == set(kind.model_fields)
