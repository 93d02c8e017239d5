"""The training loop: phases, steps, validation and checkpoints, on one process or many (accelerate).

A run's folder has recipe.yaml, log.jsonl, tensorboard/, checkpoints/, held_out.csv if speakers are set aside, and, when
it is finished, model/. The same call goes on where an earlier one ended, however that one ended.
"""

import copy
import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, gather_object, set_seed
from rich.console import Console
from torch import Tensor

from samevoice.data.features import Features
from samevoice.data.loader import Batch
from samevoice.data.prepare import Track
from samevoice.files import replacing
from samevoice.training import averaging, checkpoint, losses, memory, network, optimisers, sharding, watching
from samevoice.training import data as corpora
from samevoice.training.checkpoint import State, Window
from samevoice.training.distillation import DistillationLoss, Targets, targets, targets_of
from samevoice.training.errors import TrainingError
from samevoice.training.model import write_model
from samevoice.training.objective import Objective
from samevoice.training.plan import PhasePlan, plan
from samevoice.training.recipe import Recipe, dump, load
from samevoice.training.validation import Validation

log = logging.getLogger(__name__)
BATCHES_FOR_BATCH_NORM = 100  # that an average's statistics are measured on


class Stopped(Exception):  # noqa: N818
    """The user or the cluster asked for an end; a checkpoint has been written."""


def train(
    recipe: Recipe,
    folder: Path,
    console: Console,
    track: Track = lambda items, total, what: items,
) -> Path:
    """Run the recipe in this folder, from its last checkpoint if there is one, and return the model's folder.

    console: what the main process shows itself on. Ctrl-C or SIGTERM ends it with a checkpoint, as Stopped.
    Raises TrainingError for what is the user's to mend: data or weights that aren't there, a folder of another
    recipe, a loss that is no number, a full disk, a worker that died. The last checkpoint is whole in any case.
    """
    if not torch.cuda.is_available():
        memory.keep_freed()
    with _explained():
        return Trainer(recipe, folder, console, track).run()


class Trainer:
    """One process's side of a run."""

    def __init__(self, recipe: Recipe, folder: Path, console: Console, track: Track):
        self.recipe, self.folder, self.track = recipe, folder, track
        for tracker in recipe.trackers:
            if find_spec(tracker) is None:
                raise TrainingError(f"trackers: {tracker} is not installed; pip install {tracker}, or name another")
        if recipe.precision == "fp16" and not torch.cuda.is_available():  # accelerate would silently train in fp32
            raise TrainingError("precision fp16 is for GPUs; a processor trains with precision=bf16 or fp32")
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(recipe.precision, recipe.precision),
            cpu=not torch.cuda.is_available(),
            log_with=list(recipe.trackers) or None,
            project_config=ProjectConfiguration(str(folder), str(folder / "tensorboard")),
        )
        self.sharded = sharding.on(self.accelerator, recipe)
        self.main = self.accelerator.is_main_process
        if not self.main:
            console, self.track = Console(quiet=True), lambda items, total, what: items
        self.console = console
        self.stopping = False
        set_seed(recipe.seed)
        if self.main:
            _claim(folder, recipe)
        self.accelerator.wait_for_everyone()
        self.network = network.build(recipe.network)
        self.settings = network.features(recipe, self.network)
        with self.accelerator.main_process_first():
            self.corpus, self.validation = self._data()
        torch.manual_seed(recipe.seed + self.accelerator.process_index)  # dropout differs between processes
        self.plans = [self._plan(name) for name in recipe.phases]
        self.log = watching.Log(folder / watching.LOG)
        self.loss: losses.ClassificationLoss | None = None

    def run(self) -> Path:
        model = self.folder / "model"
        if model.exists():
            self.console.print(f"{model}: this run is finished", markup=False, highlight=False, soft_wrap=True)
            return model
        if self.main:
            checkpoint.tidy(self.folder)
        self.accelerator.wait_for_everyone()
        place = next(iter(reversed(checkpoint.saved(self.folder))), None)
        state = checkpoint.read_state(place) if place else State(self.plans[0].name)
        before = self.log.rewind(state.total) if self.main else []
        phases = [watching.PhasePlan(plan.name, plan.phase.epochs, plan.steps) for plan in self.plans]
        with self._trackers(state.total), _signals(self), watching.Watching(self.console, phases, before) as self.watch:
            if place:
                self.watch.note(f"going on from {place}")
            for number, plan in enumerate(self.plans):
                if number < [plan.name for plan in self.plans].index(state.phase):
                    self._make_loss(plan)  # so that the centres are those of the phase that goes on
                    continue
                if state.phase != plan.name:
                    state = State(plan.name, total=state.total, seconds=state.seconds)
                _Phase(self, plan, state, place).run()
                place = None
        if self.main:
            write_model(self.network, self.settings, self.recipe, model)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return model

    def _data(self) -> tuple[corpora.Corpus, Validation | None]:
        corpus = corpora.read(self.recipe.data, self.folder, self.track)
        validation, held = corpora.validation(self.recipe, corpus.table, self.settings, self.folder)
        if self.recipe.data.views:
            corpus = corpora.with_views(corpus, self.recipe, self.settings, self.folder, self.track)
        return corpus.without(held) if held else corpus, validation

    def _plan(self, name: str) -> PhasePlan:
        phase = self.recipe.phases[name]
        world = self.accelerator.num_processes
        batches = corpora.batches(self.corpus, self.recipe, phase, self.accelerator.process_index, world)
        return plan(self.recipe, name, len(batches) // phase.accumulate)

    @contextmanager
    def _trackers(self, step: int):
        """They hold lines back: what they have is to be written also where the run is stopped."""
        if self.recipe.trackers:
            try:
                self.accelerator.init_trackers(self.recipe.name, init_kwargs={"tensorboard": {"purge_step": step}})
            except Exception as error:  # each has errors of its own: no key, no server
                said = str(error).partition("\n")[0]
                raise TrainingError(f"trackers: {', '.join(self.recipe.trackers)}: can't be started ({said})") from None
        try:
            yield
        finally:
            for tracker in self.accelerator.trackers:
                tracker.finish()

    def _make_loss(self, plan: PhasePlan) -> losses.ClassificationLoss:
        """The classification of a phase: the last one's centres, or the first of them where there are fewer voices."""
        classes = corpora.classes(self.corpus, plan.phase)
        if self.loss is None or self.loss.classes < classes:
            dim = self.network.embedding_dim
            self.loss = losses.create(self.recipe.loss.name, dim, classes, **self.recipe.loss.words())
        elif self.loss.classes > classes:
            self.loss.keep_classes(classes)
        return self.loss

    def record(self, record: dict[str, Any]) -> None:
        """A line of the log, to wherever it is wanted."""
        values = {
            key: value
            for key, value in record.items()
            if isinstance(value, int | float) and key not in ("step", "time")
        }
        values |= {f"lr/{part}": rate for part, rate in record.get("lr", {}).items()}
        self.accelerator.log(values, step=record["step"])
        if self.main:
            self.log.append(record)
            (self.watch.step if record["kind"] == "step" else self.watch.validation)(record)


class _Phase:
    """One phase of a run."""

    def __init__(self, trainer: Trainer, plan: PhasePlan, state: State, place: Path | None):
        self.trainer, self.plan, self.phase, self.state = trainer, plan, plan.phase, state
        self.accelerator, self.folder, self.recipe = trainer.accelerator, trainer.folder, trainer.recipe
        accelerator, phase = self.accelerator, self.phase
        network.freeze(trainer.network, phase.frozen, phase.checkpointing)
        self.loader = corpora.loader(
            trainer.corpus,
            self.recipe,
            phase,
            trainer.settings,
            accelerator.device,
            accelerator.process_index,
            accelerator.num_processes,
        )
        self.targets = self._targets()
        self.whole = self._objective()
        self.objective = self.whole
        if trainer.sharded:
            sharding.make_alike(self.whole)
            # Shards are made in place: later phases, validation and the model's folder take the network that is whole
            self.objective = copy.deepcopy(self.whole)
        if self.recipe.compile:
            self.objective.compile_network()
        self.optimiser = optimisers.create(phase.optimiser, self._groups(), trainer.sharded)
        self.average = None
        if phase.averaging != "none":
            self.average = averaging.create(phase.averaging, self.objective.network, phase.ema_decay)
            self.average.to(accelerator.device)
        accelerator.free_memory()
        self.model, self.optimiser = accelerator.prepare(self.objective, self.optimiser)
        self.schedules = {
            group["name"]: plan.schedule(self._own(group["name"]).get("rate")) for group in self.optimiser.param_groups
        }
        self.fresh = place is None
        self.unread: list[Tensor] = []  # of each step (3,): loss, utterances told right, utterances
        self.started = time.monotonic() - state.seconds
        self.saved = time.monotonic()
        if place:
            checkpoint.load(place, accelerator, self.average)

    def run(self) -> None:
        state = self.state
        if state.step == 0 and state.total and self.fresh:
            self._save()  # what the phase before ended with
        while state.step < self.plan.steps:
            self._epoch()
            self._end_of_epoch()
            if self._agreed(self.trainer.stopping):
                self._stop()
        self._finish()

    def _epoch(self) -> None:
        """The steps of an epoch, from where the run is in it on.

        There is no checkpoint between the last of them and the epoch's end: going on from there, a run would have to
        know what of the end had happened already.
        """
        state = self.state
        self.loader.batches.resume(self.plan.first_epoch + state.epoch, state.batch)
        steps = min(len(self.loader) // self.phase.accumulate, self.plan.steps - state.step)
        for left, batches in zip(reversed(range(steps)), self._pieces(), strict=False):
            self._step(batches)
            line = state.step % self.recipe.log_every == 0 or state.step == self.plan.steps
            if line:
                self._log()
            if left and line and self._agreed(time.monotonic() - self.saved > 60 * self.recipe.checkpoint_minutes):
                self._save()
            if left and self._stop_now(line):
                self._save()
                self._stop()
        state.epoch, state.batch = state.epoch + 1, 0

    def _pieces(self) -> Iterator[list[Batch]]:
        """Those of each step."""
        pieces: list[Batch] = []
        for batch in self.loader:
            pieces.append(batch)
            if len(pieces) == self.phase.accumulate:
                yield pieces
                pieces = []

    def _step(self, batches: list[Batch]) -> None:
        state, loss = self.state, self.objective.loss
        loss.margin, loss.penalty = self.plan.margin(state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedules[group["name"]].at(state.step)
        total = torch.zeros((), device=self.accelerator.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.accelerator.device)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            teacher = self.targets.of(batch.rows, batch.plans).to(self.accelerator.device) if self.targets else None
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():  # which prepare does not see to with FSDP
                    output = self.model(batch.inputs, batch.labels, teacher)
                self.accelerator.backward(output.loss / len(batches))
            total = total + output.loss.detach() / len(batches)
            correct = correct + output.correct
        if self.phase.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.phase.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None and self.phase.averaging == "ema":
            self.average.update_parameters(self.objective.network)
        state.step, state.total, state.batch = state.step + 1, state.total + 1, state.batch + len(batches)
        state.eer = None
        utterances = torch.tensor(sum(len(batch.rows) for batch in batches), device=total.device)
        self.unread.append(torch.stack([total.double(), correct.double(), utterances.double()]))

    def _settle(self) -> None:
        """Add what the steps since the last time gave, on all processes: each step would keep a GPU waiting."""
        window, world = self.state.window, self.accelerator.num_processes
        if self.unread:
            for loss, correct, utterances in self._sum(torch.stack(self.unread)).tolist():
                window.loss, window.correct = window.loss + loss / world, window.correct + int(correct)
                window.utterances, window.steps = window.utterances + int(utterances), window.steps + 1
        self.unread.clear()
        if not math.isfinite(window.loss):
            raise self._diverged("the loss is no longer a number")

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"phase {self.plan.name}, step {self.state.total} of the run: {what}. The last "
            "checkpoint is from before; lower the learning rate, clip the gradient (clip: 1.0), or use bf16 or "
            "fp32 in place of fp16"
        )

    def _log(self) -> None:
        self._settle()
        state, window = self.state, self.state.window
        now = time.monotonic() - self.started
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
        record = {
            "kind": "step",
            "phase": self.plan.name,
            "epoch": state.epoch,
            "step": state.total,
            "loss": window.loss / window.steps,
            "accuracy": window.correct / window.utterances if self.phase.margin_weight else None,
            "margin": self.objective.loss.margin,
            "penalty": self.objective.loss.penalty,
            "lr": {group["name"]: group["lr"] for group in self.optimiser.param_groups},
            "utterances_per_s": window.utterances / max(now - state.seconds, 1e-9),
            "gpu_gib": memory,
            "time": now,
        }
        state.window, state.seconds = Window(), now
        self.trainer.record(record)

    def _end_of_epoch(self) -> None:
        if self.average is not None and self.phase.averaging == "swa":
            self.average.update_parameters(self.objective.network)
        validation = self.recipe.validation
        last = self.state.step == self.plan.steps
        if validation is not None and (last or self.state.epoch % validation.every == 0):
            self._validate()
        self._save()

    def _validate(self) -> None:
        validation = self.trainer.validation
        assert validation is not None
        ema = self.average is not None and self.phase.averaging == "ema"
        found = validation.run(
            self.average.module if ema and self.average is not None else self._gathered().network,
            self.accelerator.device,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            gather_object if self.accelerator.num_processes > 1 else None,
        )
        self.state.eer = found["eer"]
        where = {"phase": self.plan.name, "epoch": self.state.epoch - 1, "step": self.state.total}
        self.trainer.record({"kind": "validation", **where, **found, "time": time.monotonic() - self.started})

    def _save(self) -> None:
        self._settle()
        whole = self._gathered()
        weights = [value for value in whole.state_dict().values() if value.is_floating_point()]
        if not self._agreed(all(bool(value.isfinite().all()) for value in weights), all_of_them=True):
            raise self._diverged("the weights are no longer numbers")  # the loss would be in the next step
        checkpoint.save(self.folder, self.accelerator, self.state, dump(self.recipe), whole, self.average)
        self.saved = time.monotonic()
        if self.accelerator.is_main_process:
            averaged = self.phase.average if self.phase.use == "average-last" else 0
            checkpoint.prune(self.folder, max(self.recipe.keep_best, self._best_wanted()), averaged)
        self.accelerator.wait_for_everyone()

    def _best_wanted(self) -> int:
        return {"best": 1, "average-best": self.phase.average}.get(self.phase.use, 0)

    def _finish(self) -> None:
        """The network with the weights that the phase ends with; the wrappers are taken off again."""
        network, phase = self._gathered().network, self.phase
        if phase.use in ("best", "average-best"):
            places = checkpoint.best(self.folder, self.plan.name)[: self._best_wanted()]
            network.load_state_dict(checkpoint.network_weights(places))
        elif phase.use == "average-last":
            places = checkpoint.ends(self.folder, self.plan.name)[-phase.average :]
            network.load_state_dict(checkpoint.network_weights(places))
        elif self.average is not None:
            network.load_state_dict(self.average.module.state_dict())
        if phase.use.startswith("average") or phase.averaging == "swa":
            self.loader.batches.resume(self.plan.first_epoch)
            some = (batch.inputs for batch in islice(self.loader, BATCHES_FOR_BATCH_NORM))
            averaging.renew_batch_norm(network, some)
        self.accelerator.free_memory()

    def _gathered(self) -> Objective:
        """What is trained, with all its weights; every process must ask."""
        if self.trainer.sharded:
            self.whole.load_state_dict(sharding.gathered(self.model))
        return self.whole

    def _stop_now(self, line: bool) -> bool:
        """Whether any process was asked to stop; with several, asked at each line of the log only."""
        return (line or self.accelerator.num_processes == 1) and self._agreed(self.trainer.stopping)

    def _stop(self) -> NoReturn:
        raise Stopped(f"stopped after {self.state.total} steps; the same command goes on from there")

    def _agreed(self, mine: bool, all_of_them: bool = False) -> bool:
        """Whether any process says so, or all of them do; every process gets the same answer."""
        world = self.accelerator.num_processes
        if world == 1:
            return mine
        return bool(self._sum(torch.tensor(float(mine))) >= (world if all_of_them else 1))

    def _sum(self, mine: Tensor) -> Tensor:
        """Over all processes."""
        return cast(Tensor, self.accelerator.reduce(mine.to(self.accelerator.device), "sum"))

    def _objective(self) -> Objective:
        trainer, phase = self.trainer, self.phase
        distillation = None
        if phase.distillation and self.targets:
            words = phase.distillation.embedding, phase.distillation.similarity
            distillation = DistillationLoss(trainer.network.embedding_dim, self.targets.dim, *words)
        made = Objective(trainer.network, trainer._make_loss(self.plan), distillation, phase.margin_weight)
        made.to(self.accelerator.device)
        if not trainer.sharded:  # FSDP wants memory in its usual order
            network.lay_out(made)
        if self.accelerator.num_processes > 1:
            network.synchronised(made)
        return made

    def _targets(self) -> Targets | None:
        if not self.phase.distillation:
            return None
        source = self.trainer.corpus.source
        if isinstance(source, Features):
            return targets_of(source)
        with self.accelerator.main_process_first():
            return targets(
                self.trainer.corpus.table,
                self.phase.augmentation,
                self.phase.distillation.teacher,
                self.folder / "teacher.sqlite",
                lambda items, total: self.trainer.track(items, total, "the teacher"),
            )

    def _groups(self) -> list[dict[str, Any]]:
        default = {"lr": self.phase.learning_rate.peak, "weight_decay": self.phase.weight_decay}
        own = {name: {k: v for k, v in self._own(name).items() if k != "rate"} for name in self.phase.parts}
        groups = optimisers.parts(self.objective.network, self.objective.loss, default, own)
        if self.objective.distillation is not None and (extra := list(self.objective.distillation.parameters())):
            groups.append({"name": "distillation", "params": extra, **default})
        return groups

    def _own(self, name: str) -> dict[str, Any]:
        """What a part has of its own: {"rate": LearningRate, "lr": float, "weight_decay": float}, or less."""
        part = self.phase.parts.get(name)
        if part is None:
            return {}
        rate = {"rate": part.learning_rate, "lr": part.learning_rate.peak} if part.learning_rate else {}
        return {**rate, **({} if part.weight_decay is None else {"weight_decay": part.weight_decay})}


def _claim(folder: Path, recipe: Recipe) -> None:
    """The folder is this recipe's and no other's, once there is something to lose; what changes no weight is free."""
    path = folder / "recipe.yaml"
    free = {"workers", "log_every", "checkpoint_minutes", "keep_best", "trackers", "compile"}
    begun = path.exists() and ((folder / "model").exists() or checkpoint.saved(folder))
    if begun and load(path).model_dump(exclude=free) != recipe.model_dump(exclude=free):
        raise TrainingError(
            f"{folder}: is the run of another recipe, or of this one before it was changed; name another folder with "
            "--run, or begin again with --restart"
        )
    with replacing(path) as temporary:
        temporary.write_text(dump(recipe), encoding="utf-8")


@contextmanager
def _signals(trainer: Trainer):
    """Ctrl-C and SIGTERM end the run after the step that is under way; a second Ctrl-C ends it at once."""

    def stop(number, frame):
        if trainer.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        trainer.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _explained():
    """What torch raises for want of memory, or for a worker that died, as a TrainingError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory ({str(error).splitlines()[0]}): take each batch in pieces (accumulate: 2, 4, ...)"
        ) from None
    except RuntimeError as error:
        if "Caught AudioError" in str(error):  # in a worker, whose traceback comes as text
            raise TrainingError(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        if "DataLoader worker" not in str(error) or str(error).startswith("Caught "):
            raise
        raise TrainingError(
            f"a process that reads recordings died ({str(error).splitlines()[0]}), perhaps for want of memory; the "
            "same command goes on from the last checkpoint, and fewer workers need less (workers=1)"
        ) from None
