"""Checkpoints: folders that are whole or not there, with all that a run needs to go on bit for bit.

checkpoints/step-00001234/ holds state.json (where the run was, and what it had measured), recipe.yaml, and what
accelerate saves: model.safetensors (network and loss), the optimiser, the scaler and each process's random state;
average.safetensors beside it where weights are averaged.
"""

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import samevoice
from samevoice.training import averaging
from samevoice.training.errors import TrainingError

STATE, RECIPE, MODEL, AVERAGE = "state.json", "recipe.yaml", "model.safetensors", "average.safetensors"


@dataclass
class Window:
    """Sums since the last line of the log, over all processes; the loss is their mean."""

    loss: float = 0.0
    correct: int = 0
    utterances: int = 0
    steps: int = 0


@dataclass
class State:
    """Where a run is. epoch, batch and step: how many are done in the phase; total: steps of the whole run.

    batch: pieces of this epoch, of one process. seconds: of training until now. eer: measured with these very weights.
    """

    phase: str
    epoch: int = 0
    batch: int = 0
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    eer: float | None = None
    window: Window = field(default_factory=Window)


def save(
    folder: Path,
    accelerator: Accelerator,
    state: State,
    recipe: str,
    objective: nn.Module,
    average: AveragedModel | None,
) -> Path:
    """Write a checkpoint below the run's folder; all processes call it. Raises TrainingError if the disk won't.

    objective: the network and loss, whole, where accelerate has shards of them.
    """
    start = "-start" if state.step == 0 and state.total else ""  # of a phase; sorted behind the end of the one before
    place = folder / "checkpoints" / f"step-{state.total:08}{start}"
    partial = place.with_name(f".{place.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if not (partial / MODEL).exists():  # FSDP has a file of its own
                _write(objective, partial / MODEL)
            if average is not None:
                _write(average, partial / AVERAGE)
            (partial / RECIPE).write_text(recipe, encoding="utf-8")
            about = {**asdict(state), "samevoice": samevoice.__version__, "torch": torch.__version__}
            about["files"] = {path.name: path.stat().st_size for path in partial.iterdir() if path.is_file()}
            (partial / STATE).write_text(json.dumps(about), encoding="utf-8")
            _on_disk(partial)
            if place.exists():
                place.replace(place.with_name(f".{place.name}.old"))
            partial.replace(place)
            shutil.rmtree(place.with_name(f".{place.name}.old"), ignore_errors=True)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"{place}: can't be written ({error}); is the disk full? The checkpoints before it are whole: make room "
            "and run the same command again"
        ) from None
    accelerator.wait_for_everyone()
    return place


def saved(folder: Path) -> list[Path]:
    """The checkpoints of a run, the last one last."""
    return sorted((folder / "checkpoints").glob("step-*"))


def tidy(folder: Path) -> None:
    """Remove what a run that was killed left of checkpoints that it was writing, replacing or deleting."""
    for old in (folder / "checkpoints").glob(".step-*.old"):
        place = old.with_name(old.name[1:].removesuffix(".old"))
        if not place.exists():
            old.replace(place)
    for rest in (folder / "checkpoints").glob(".step-*"):
        shutil.rmtree(rest, ignore_errors=True)


def read_state(place: Path) -> State:
    """Raises TrainingError for a folder that is no checkpoint."""
    try:
        values = json.loads((place / STATE).read_text(encoding="utf-8"))
        known = {name: values[name] for name in State.__dataclass_fields__}
        return State(**{**known, "window": Window(**values["window"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(place, error) from None


def load(place: Path, accelerator: Accelerator, average: AveragedModel | None) -> None:
    """Put back all that `save` wrote. Raises TrainingError for a checkpoint that is no longer whole."""
    try:
        for name, size in json.loads((place / STATE).read_text(encoding="utf-8"))["files"].items():
            if (found := (place / name).stat().st_size) != size:
                raise ValueError(f"{name} has {found} bytes in place of {size}")
        accelerator.load_state(str(place))
        if average is not None:
            average.load_state_dict(safetensors.torch.load_file(place / AVERAGE))
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise _damaged(place, error) from None


def prune(folder: Path, keep_best: int, average_last: int = 0) -> None:
    """Delete all but the last checkpoint, the best of each phase, and the last few ends of epochs, if wanted."""
    states = _states(folder)
    kept = set(list(states)[-1:])
    for phase in {state.phase for state in states.values()}:
        kept |= set(_best(states, phase)[:keep_best])
    if average_last:
        kept |= set(_ends(states, list(states.values())[-1].phase)[-average_last:])
    for place in set(states) - kept:
        gone = place.with_name(f".{place.name}.partial")  # not a checkpoint any more, even if this is interrupted
        place.replace(gone)
        shutil.rmtree(gone, ignore_errors=True)


def best(folder: Path, phase: str) -> list[Path]:
    """The checkpoints of a phase whose error rate was measured, the best first."""
    return _best(_states(folder), phase)


def ends(folder: Path, phase: str) -> list[Path]:
    """The checkpoints of a phase at the ends of its epochs, the last one last."""
    return _ends(_states(folder), phase)


def network_weights(places: Sequence[Path]) -> dict[str, Tensor]:
    """The network's weights of a checkpoint, or their mean over several: the averaged ones where there are any."""
    name, prefix = (AVERAGE, "module.") if (places[-1] / AVERAGE).exists() else (MODEL, "network.")
    weights = averaging.average([place / name for place in places])
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _write(module: nn.Module, path: Path) -> None:
    weights = {name: value.contiguous() for name, value in module.state_dict().items()}
    safetensors.torch.save_file(weights, path)


def _states(folder: Path) -> dict[Path, State]:
    return {place: read_state(place) for place in saved(folder)}


def _best(states: dict[Path, State], phase: str) -> list[Path]:
    mine = [(state.eer, -state.total, place) for place, state in states.items() if state.phase == phase]
    return [place for *_, place in sorted(found for found in mine if found[0] is not None)]


def _ends(states: dict[Path, State], phase: str) -> list[Path]:
    """Not the phase's start: its weights are those of the phase before."""
    return [place for place, state in states.items() if state.phase == phase and state.step and not state.batch]


def _damaged(place: Path, error: Exception) -> TrainingError:
    said = str(error).partition("\n")[0]
    return TrainingError(f"{place}: not a whole checkpoint ({said}); delete it to go on from the one before")


def _on_disk(folder: Path) -> None:
    """Through the system's buffers: a rename may otherwise survive a power cut that the content does not."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
