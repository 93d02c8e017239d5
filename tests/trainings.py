"""Tiny trainings: made-up voices, recipes for them, and runs in processes of their own that start at once."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import yaml
from rich.console import Console

from samevoice.data import manifest

RATE = 16000
SPEAKERS, EACH = 6, 5
PRELOADED = multiprocessing.get_context("forkserver")  # a child has torch and the rest imported when it starts
PRELOADED.set_forkserver_preload(
    [
        *("samevoice.training.loop", "samevoice.cli.app", "samevoice.models.eres2net", "samevoice.models.xvector"),
        *("samevoice.models.waveform", "samevoice.models.lap", "transformers.models.wavlm.modeling_wavlm"),
        "torch._dynamo",
    ]
)
WAVLM = {
    "name": "wavlm_base_lap_astp",
    "config": {
        "front_end_config": {
            "conv_dim": [8] * 7,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 2,
        },
        "channels": 8,
        "heads": 2,
        "embedding_dim": 8,
    },
}
ERES2NET = {"name": "eres2net", "config": {"channels": 4, "mels": 16, "embedding_dim": 8}}
XVECTOR = {"name": "xvector", "config": {"channels": 16, "mels": 16, "embedding_dim": 8}}
PHASE = {
    "epochs": 2,
    "batch": 4,
    "seconds": 0.5,
    "optimiser": "adamw",
    "learning_rate": 1e-3,
    "schedule": "constant",
}


def voices(folder: Path, speakers: int = SPEAKERS, each: int = EACH, seconds: float = 1.0) -> Path:
    """Recordings folder/SPEAKER/NUMBER.wav of noise through a filter of each speaker's own, and their manifest."""
    random = np.random.default_rng(0)
    rows = []
    for speaker in range(speakers):
        own = random.standard_normal(24)
        (folder / f"s{speaker}").mkdir(parents=True)
        for number in range(each):
            path = folder / f"s{speaker}" / f"{number}.wav"
            loudness = 1 + np.sin(np.arange(int(RATE * seconds)) / 900 + number)
            noise = random.standard_normal(int(RATE * seconds)) * loudness
            soundfile.write(path, 0.02 * np.convolve(noise, own, "same"), RATE)
            name = f"s{speaker}/{number}"
            rows.append({"utterance": name, "speaker": f"s{speaker}", "path": str(path), "rate": RATE, "offset": 0.0})
            rows[-1]["duration"] = seconds
    manifest.write(folder / "voices.parquet", rows)
    return folder / "voices.parquet"


def recipe(train: Path | str | list[str], phases: dict[str, dict], **words: Any) -> dict[str, Any]:
    """A recipe's values; the first phase is on top of PHASE."""
    first, *_ = phases
    return {
        "name": "tiny",
        "network": ERES2NET,
        "data": {"train": str(train) if isinstance(train, Path) else train},
        "phases": {**phases, first: {**PHASE, **phases[first]}},
        "log_every": 1,
        "workers": 0,
        "trackers": [],
        **words,
    }


def written(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def train(values: dict[str, Any], folder: Path) -> Path:
    """Run a recipe in this process. Several in one need the fixture `one_after_another`."""
    from samevoice.training import loop
    from samevoice.training.recipe import validated

    return loop.train(validated(values, "recipe"), folder, Console(quiet=True))


def command(
    *arguments: Any, output: Path, first: Callable[[], object] = bool, environment: dict[str, str] | None = None
) -> Any:
    """`samevoice ARGUMENTS` in a process of its own, without the export at the end, which takes seconds.

    output: the file that what it prints is added to. first: called there before.
    """
    words = [str(argument) for argument in arguments]
    process = PRELOADED.Process(target=_command, args=(words, output, first, environment or {}))
    process.start()
    return process


def _command(arguments: list[str], output: Path, first: Callable[[], object], environment: dict[str, str]) -> None:
    from samevoice.cli import main

    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    multiprocessing.set_start_method("fork", force=True)  # as in a process that was started by hand
    os.environ.update(environment)
    sys.argv = ["samevoice", *arguments]
    first()
    with mock.patch("samevoice.hub.export.export"):
        main()


def start_of(values: dict[str, Any]) -> dict[str, Any]:
    """The weights that a run of this recipe starts from."""
    from accelerate.utils import set_seed

    from samevoice.training import network
    from samevoice.training.recipe import validated

    made = validated(values, "recipe")
    set_seed(made.seed)
    return network.build(made.network).state_dict()


def weights(path: Path) -> dict[str, Any]:
    import safetensors.torch

    return safetensors.torch.load_file(path)


def records(folder: Path, kind: str = "step") -> list[dict[str, Any]]:
    path = folder / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def curve(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    clocks = {"time", "utterances_per_s", "gpu_gib"}
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in clocks} for line in lines]


def reached(folder: Path, step: int) -> bool:
    """Whether there is a checkpoint of this step, or a later one: those before may be gone."""
    return any(int(path.name[5:13]) >= step for path in folder.glob("checkpoints/step-*"))


def wait_for(reached: Callable[[], bool], process: Any) -> None:
    """Until something can be seen, or the process has ended."""
    while process.is_alive() and not reached():
        process.join(0.001)
