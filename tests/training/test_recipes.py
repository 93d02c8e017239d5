"""The recipes that come with samevoice: a row of the papers' tables each, and their schedules derived by hand."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from samevoice.evaluation import published
from samevoice.models import create
from samevoice.training import plan
from samevoice.training.recipe import FOLDERS, Phase, load

NAMES = sorted({file.stem for folder in FOLDERS for file in folder.glob("*.yaml")})
PUBLISHED = [name for name in NAMES if "mini" not in name]

FRONT_ENDS = {
    "wav2vec2_base": ("wav2vec 2.0 BASE", "facebook/wav2vec2-base"),
    "hubert_base": ("HuBERT BASE", "facebook/hubert-base-ls960"),
    "wavlm_base": ("WavLM BASE", "microsoft/wavlm-base"),
    "wavlm_base_plus": ("WavLM BASE+", "microsoft/wavlm-base-plus"),
    "wavlm_large": ("WavLM LARGE", "microsoft/wavlm-large"),
}
TABLE_3 = {"Res2Net": "res2net", "Res2Net + LFF": "res2net_lff", "Res2Net + GFF": "res2net_gff", "ERes2Net": "eres2net"}
# A table's words for a system -> the recipe's name before the front end, the network's after it
TABLE_1 = {
    "x-vector": ("xvector", "xvector"),
    "ECAPA-TDNN (C=512)": ("ecapa_tdnn", "ecapa_tdnn"),
    "MHFA": ("mhfa", "mhfa"),
    "MHFA (64 heads)": ("mhfa", "mhfa"),
    "DBE (C=512)": ("dbe", "dbe"),
    "LAP (h=12) + ASTP": ("lap", "lap_astp"),
    "LAP (h=16) + ASTP": ("lap", "lap_astp"),
}
TABLE_2 = {
    "SUPERB": ("frozen_superb", "superb_astp"),
    "LAP (Softmax-Sum)": ("frozen_lap_softmax_sum", "lap_softmax_sum_astp"),
    "LAP (Sigmoid-Max)": ("frozen_lap", "lap_astp"),
}


def rows() -> list[tuple[str, str, published.Row]]:
    """(recipe, network, row) of every row that is trained; Table 1's on filter banks are other papers' systems."""
    found = [(TABLE_3[row.system], TABLE_3[row.system], row) for row in published.tables()["eres2net-table3"].rows]
    for table, systems in (("lap-table1", TABLE_1), ("lap-table2", TABLE_2)):
        for row in published.tables()[table].rows:
            if row.frontend != "Fbank-80":
                front_end = next(short for short, (printed, _) in FRONT_ENDS.items() if printed == row.frontend)
                recipe, network = systems[row.system]
                found.append((f"{recipe}_{front_end}", f"{front_end}_{network}", row))
    return found


def test_every_row_that_is_trained_has_a_recipe_and_every_recipe_a_row():
    assert len(rows()) == 8 + 13 + 15
    assert {recipe for recipe, _, _ in rows()} == set(PUBLISHED)
    assert "mini" in NAMES


@pytest.mark.parametrize(("recipe", "network", "row"), rows(), ids=[f"{r}-{row.variant}" for r, _, row in rows()])
def test_a_recipe_trains_the_row_s_network_and_cites_its_figures(recipe, network, row):
    found = load(recipe)
    assert found.name == recipe
    assert found.network.name == network
    assert found.network.config == {}
    errors = ", ".join(f"{row.results[f'voxceleb1-{part}']['eer']:.2f}" for part in "oeh")
    assert f"{errors} %" in found.source
    assert f"{row.system}." in found.source
    assert row.frontend in found.source


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_s_network_builds_and_has_the_parts_that_it_names(name):
    found = load(name)
    with torch.device("meta"):
        network = create(found.network.name, **found.network.config)
    for phase in found.phases.values():
        for part in phase.frozen:
            network.get_submodule(part)
    front_end = network.config.get("front_end")
    assert found.network.front_end == (FRONT_ENDS[front_end][1] if front_end else None)
    assert network.input_kind == ("waveform" if front_end else "fbank")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_only_what_its_base_does_not(name):
    path = next(folder / f"{name}.yaml" for folder in FOLDERS if (folder / f"{name}.yaml").exists())
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if base := values.pop("extends", None):
        before = load(Path(base).stem).model_dump(mode="json")
        for key, value in values.items():
            if isinstance(value, dict):
                for word, inner in value.items():
                    assert before[key].get(word) != inner, f"{key}.{word} is {base}'s"
            else:
                assert before[key] != value, f"{key} is {base}'s"


# Where the papers say it, or the authors' code


@pytest.mark.parametrize("name", ["res2net", "res2net_lff", "res2net_gff", "eres2net"])
def test_eres2net_s_settings(name):
    recipe = load(name)
    standard, large = recipe.phases.values()
    assert list(recipe.phases) == ["standard", "large-margin"]
    assert (standard.epochs, standard.seconds, standard.batch) == (70, 3, 256)
    assert (large.epochs, large.seconds, large.batch) == (6, 6, 128)
    assert {standard.optimiser, large.optimiser} == {"sgd"}
    assert {standard.weight_decay, large.weight_decay} == {1e-4}
    assert recipe.loss.words() == {"scale": 32, "sub_centres": 1, "top_k": 0}
    assert classes(standard) == 17_982
    assert classes(large) == 5_994
    assert standard.augmentation.probability == large.augmentation.probability == 0.8
    assert recipe.features.subtract_mean
    assert recipe.precision == "fp32"


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "_base" in name or "_large" in name])
def test_lap_s_settings(name):
    recipe = load(name)
    frozen, *later = recipe.phases.values()
    assert list(recipe.phases) == (["frozen"] if "frozen" in name else ["frozen", "joint", "large-margin"])
    assert recipe.loss.words() == {"scale": 30, "sub_centres": 3, "top_k": 5}
    assert (frozen.epochs, frozen.seconds, frozen.batch, frozen.weight_decay) == (40, 2, 512, 5e-5)
    assert frozen.frozen == ["front_end"]
    assert frozen.augmentation.drawn_speeds == (1, 1, 1, 0.9, 1.1)
    assert classes(frozen) == 17_982
    assert not any(phase.parts for phase in recipe.phases.values())  # one decay for all, the loss's centres too
    for phase, (epochs, seconds) in zip(later, [(10, 2), (3, 6)], strict=False):
        assert (phase.epochs, phase.seconds, phase.batch, phase.weight_decay) == (epochs, seconds, 512, 1e-5)
        assert phase.frozen == []
        assert classes(phase) == 5_994
    for phase in recipe.phases.values():
        assert phase.optimiser == "adam"
        assert phase.augmentation.probability == 0.6


def test_mini_needs_nothing_but_speakers():
    recipe = load("mini")
    assert recipe.data.banks is None
    assert recipe.network.front_end is None
    assert recipe.network.start is None
    assert recipe.precision == "fp32"
    assert recipe.validation is not None
    assert recipe.validation.held_out
    assert all(phase.seconds <= 3 for phase in recipe.phases.values())
    network = create(recipe.network.name, **recipe.network.config)
    assert sum(parameter.numel() for parameter in network.parameters()) < 3e6


def classes(phase: Phase) -> int:
    return phase.augmentation.speakers(5994)


# The schedules, derived by hand: (step or epoch, value) from the formulas, at points where the cosines and powers are
# easy to look up. 1,200 and 2,136 steps an epoch make all of them whole steps (VoxCeleb2's own are 4,265 and 2,132).


def rates(recipe: str, name: str, steps_per_epoch: int, steps: list[int]) -> list[float]:
    phase = load(recipe).phases[name]
    schedule = plan.schedule(phase, phase.learning_rate, steps_per_epoch)
    return [schedule.at(step) for step in steps]


def margins(recipe: str, name: str, epochs: list[float]) -> list[tuple[float, float]]:
    schedule = plan.margin(load(recipe).phases[name])
    return [schedule.at(epoch) for epoch in epochs]


def test_eres2net_s_learning_rate_by_hand():
    # 3D-Speaker, speakerlab/process/scheduler.py. Up: 5e-5 + 0.19995 n / 6000. Down, over 78,000 steps:
    # 5e-5 + 0.099975 (1 + cos(pi (n - 6000) / 78000)), here at 0, 30, 45, 60, 90, 120, 150 and 180 degrees.
    expected = {
        0: 0.00005,
        1_200: 0.04004,
        3_000: 0.100025,
        4_800: 0.16001,
        6_000: 0.2,
        19_000: 0.1866058897,
        25_500: 0.1707180004,
        32_000: 0.1500125,
        45_000: 0.100025,
        58_000: 0.0500375,
        71_000: 0.0134441103,
        84_000: 0.00005,
    }
    assert rates("eres2net", "standard", 1_200, list(expected)) == pytest.approx(list(expected.values()), rel=1e-8)


def test_eres2net_s_margin_by_hand():
    # The same file: 0.3 (1 - 0.001^((epoch - 20) / 30)), with its 0.001 / 1.000001
    expected = {
        0: 0.0,
        10: 0.0,
        20: 0.0,
        21: 0.0617015375,
        22.5: 0.1312976165,
        25: 0.2051316860,
        30: 0.2700000100,
        35: 0.2905131718,
        40: 0.2970000020,
        45: 0.2990513175,
        49: 0.2996223227,
        50: 0.3,
        69.9: 0.3,
    }
    found = margins("eres2net", "standard", list(expected))
    assert [margin for margin, _ in found] == pytest.approx(list(expected.values()), abs=1e-9)
    assert {penalty for _, penalty in found} == {0.0}


def test_eres2net_s_large_margin_by_hand():
    # Section 4.2: 1e-4 to 2.5e-5 in 6 epochs, by a cosine: 2.5e-5 + 3.75e-5 (1 + cos(pi n / 7200))
    expected = {
        0: 1e-4,
        1_200: 9.497595265e-5,
        1_800: 8.901650429e-5,
        2_400: 8.125e-5,
        3_000: 7.220571419e-5,
        3_600: 6.25e-5,
        4_200: 5.279428581e-5,
        4_800: 4.375e-5,
        5_400: 3.598349571e-5,
        6_000: 3.002404736e-5,
        7_200: 2.5e-5,
    }
    found = rates("eres2net", "large-margin", 1_200, list(expected))
    assert found == pytest.approx(list(expected.values()), rel=1e-8)
    assert margins("eres2net", "large-margin", [0, 0.01, 0.5, 1, 2, 3, 4, 5, 5.5, 5.99]) == [(0.5, 0.0)] * 10


def test_lap_s_learning_rate_by_hand():
    # Section 3: 1e-5 to 1e-3 in the first 15 % of 40 epochs and back. One-cycle: half a cosine up over the first
    # 12,816 steps (the last of which has the peak), at 0, 36, 72, 108, 144 and 180 degrees, and half a cosine down
    # over the other 72,624, at 15, 30, 60, 90, 135, 150 and 180 degrees.
    expected = {
        0: 1e-5,
        2_563: 1.0453658778e-4,
        5_126: 3.5203658778e-4,
        7_689: 6.5796341222e-4,
        10_252: 9.0546341222e-4,
        12_815: 1e-3,
        12_815 + 6_052: 9.8313328401e-4,
        12_815 + 12_104: 9.3368257487e-4,
        12_815 + 24_208: 7.525e-4,
        12_815 + 36_312: 5.05e-4,
        12_815 + 54_468: 1.5498214331e-4,
        12_815 + 60_520: 7.631742513e-5,
        12_815 + 72_624: 1e-5,
    }
    assert 12_815 + 72_624 == 40 * 2_136 - 1  # the last step
    found = rates("lap_wavlm_large", "frozen", 2_136, list(expected))
    assert found == pytest.approx(list(expected.values()), rel=1e-8)


def test_lap_s_margin_and_penalty_by_hand():
    # The code's log scale: p runs from 0.005 to 1 in 20 epochs, the margin is 0.3 (1 - ln p / ln 0.005), the penalty
    # 0.06 / 0.3 of it: a fifth
    expected = {
        0: 0.0,
        0.25: 0.0707310488,
        0.5: 0.1012161394,
        1: 0.1355150678,
        2: 0.1721159162,
        4: 0.2099920687,
        5: 0.2223486069,
        8: 0.2485410940,
        10: 0.2610351971,
        15: 0.2838052287,
        19: 0.2971105824,
        20: 0.3,
        39.9: 0.3,
    }
    found = margins("lap_wavlm_large", "frozen", list(expected))
    assert [margin for margin, _ in found] == pytest.approx(list(expected.values()), abs=1e-9)
    assert [penalty for _, penalty in found] == pytest.approx([value / 5 for value in expected.values()], abs=1e-9)


def test_lap_s_joint_fine_tuning_by_hand():
    # 5e-5 "gradually reduced to 5e-6 over 10 epochs": 5e-6 + 2.25e-5 (1 + cos(18 degrees x epoch))
    expected = [
        5e-5,
        4.889877162e-5,
        4.570288237e-5,
        4.072516818e-5,
        3.445288237e-5,
        2.75e-5,
        2.054711763e-5,
        1.427483182e-5,
        9.29711763e-6,
        6.10122838e-6,
        5e-6,
    ]
    found = rates("lap_wavlm_large", "joint", 2_136, [epoch * 2_136 for epoch in range(11)])
    assert found == pytest.approx(expected, rel=1e-8)
    for margin, penalty in margins("lap_wavlm_large", "joint", list(range(10))):
        assert (margin, penalty) == pytest.approx((0.3, 0.06))


def test_lap_s_large_margin_by_hand():
    found = rates(
        "lap_wavlm_large", "large-margin", 2_136, [0, 1, 500, 1_000, 2_136, 3_000, 4_272, 5_000, 6_000, 6_407]
    )
    assert found == [5e-6] * 10
    assert (
        margins("lap_wavlm_large", "large-margin", [0, 0.1, 0.5, 1, 1.5, 2, 2.2, 2.5, 2.9, 2.99]) == [(0.5, 0.0)] * 10
    )


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "eres2net"])
def test_the_other_rows_have_the_same_phases(name):
    base = "lap_wavlm_large" if "_base" in name or "_large" in name else "eres2net"
    for phase, settings in load(name).phases.items():
        assert settings == load(base).phases[phase]


# docs/training.md

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith("extends")])
def test_the_recipes_in_the_docs_load(tmp_path, block):
    path = tmp_path / "recipe.yaml"
    path.write_text(block, encoding="utf-8")
    load(path)


def test_the_docs_list_every_recipe_with_the_published_figures():
    for recipe, _, row in rows():
        line = next(line for line in DOCS.splitlines() if line.startswith(f"| `{recipe}` "))
        assert " / ".join(f"{row.results[f'voxceleb1-{part}']['eer']:.2f}" for part in "oeh") in line
        assert row.system in line


def test_the_manifests_in_the_docs_are_whole():
    service, job = yaml.safe_load_all(next(block for block in BLOCKS if "kind: Job" in block))
    pod = job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert f"--nnodes={job['spec']['completions']}" in container["command"]
    assert f"--master-addr={job['metadata']['name']}-0.{pod['subdomain']}" in container["command"]
    fsdp = yaml.safe_load(next(block for block in BLOCKS if "fsdp_config" in block))
    layer = fsdp["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"]
    with torch.device("meta"):
        network = create("wavlm_large_lap_astp")
    assert layer in {type(module).__name__ for module in network.modules()}
