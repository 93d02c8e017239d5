"""Recipes: typed YAML files that say everything about how a model is trained.

A recipe may start from another (`extends:`), and each phase starts from the settings of the phase before: a file says
only what it changes. `samevoice train RECIPE --show` prints the whole.
"""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from samevoice.data.augment.settings import Augmentation, from_mapping
from samevoice.hub import cards

_HERE = Path(__file__).parents[1]
FOLDERS = (_HERE / "recipes", _HERE.parent / "recipes")  # in an installed package, and in a checkout

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class RecipeError(ValueError):
    """A recipe, or a change to one, that can't be used; the message says which setting, and the nearest valid one."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Network(Section):
    """What is trained."""

    name: str
    """A name of `samevoice.models.names()`: a network on filter banks, or a whole system on waveforms."""
    config: dict[str, Any] = {}
    """Changes to the architecture's own configuration words."""
    front_end: str | None = None
    """Hub id or folder that a self-supervised front end's weights are loaded from; none: they start at random."""
    start: str | None = None
    """A model's folder (card.yaml, model.safetensors) whose weights are the start; none: random weights."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        from samevoice.models.registry import words

        valid = words(self.name)
        for word in self.config:
            if word not in valid:
                raise ValueError(f"network {self.name} has no word {_nearest(word, valid)}")
        if self.front_end and "front_end" not in valid:
            raise ValueError(f"network {self.name} has no self-supervised front end, so front_end can't be given")
        return self


class Features(Section):
    """Filter banks, for networks that take them. The mels are the network's."""

    window: Literal["povey", "hamming"] = "povey"
    """Kaldi's and 3D-Speaker's window, or WeSpeaker's."""
    scale: Positive = 1.0
    """What samples in [-1, 1] are multiplied by: 1, or 32768."""
    subtract_mean: bool = True
    """Remove each filter's mean over the crop."""


class Views(Section):
    """Features computed once: so many augmented views of each utterance, kept on disk, of which crops are taken.

    For machines whose processor would otherwise spend its time on features and on the teacher.
    """

    count: Count
    """How many. The first is clean and at speed 1."""
    longest: Positive = 8.0
    """Seconds of an utterance that are kept at most."""
    folder: str | None = None
    """Where they are kept; none: in the run's folder. Several runs may share one."""
    augmentation: Any = "none"
    """Of the views: a name or settings, like a phase's; a phase's own is then masks only."""

    @field_validator("augmentation")
    @classmethod
    def _augmentation(cls, value: Any) -> Augmentation:
        return _augmentation(value)


class Data(Section):
    """What it is trained on."""

    train: str | list[str]
    """Manifests, CSV files, folders with a folder for each speaker, or one folder or address of shards."""
    banks: str | None = None
    """The folder of noise, music, speech and room banks, written by `samevoice prepare banks`."""
    per_speaker: Count | None = None
    """At most so many utterances of a speaker in an epoch, other ones each time."""
    shortest: NotNegative = 0.0
    """Seconds under which utterances are left out."""
    views: Views | None = None
    """Compute features once; none: from audio, anew in each epoch."""


class Validation(Section):
    """Trials whose equal error rate is measured while training. Give one of protocol, trials, held_out."""

    protocol: str | None = None
    """A named protocol of `samevoice evaluate`."""
    data: str | None = None
    """Where the protocol's data lies, or the recordings of `trials` (manifest, CSV or folder)."""
    trials: str | None = None
    """A trial list over the recordings of `data`."""
    held_out: NotNegative | None = None
    """Speakers of the training data set aside: how many, or which share if under 1."""
    every: Count = 1
    """Epochs between two validations; the end of a phase always has one."""
    seconds: Positive | None = None
    """Only the first seconds of each recording; none: all of it."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("protocol", "trials", "held_out") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of protocol, trials and held_out, not {' and '.join(given) or 'none'}")
        if self.trials and not self.data:
            raise ValueError("trials need data: the manifest, CSV or folder that their recordings are in")
        return self


class Loss(Section):
    """The classification of speakers. The margin is the phase's."""

    name: Literal["softmax", "am-softmax", "aam-softmax", "sphereface2"] = "aam-softmax"
    """Cross-entropy: of logits, or of cosines less a margin or with wider angles; or a binary one for each speaker."""
    scale: Positive = 32.0
    """What cosines are multiplied by."""
    sub_centres: Count = 1
    """Centres of each speaker, of which the nearest counts (aam-softmax)."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Inter-TopK: how many of the nearest wrong speakers get the margin's penalty (aam-softmax)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name != "aam-softmax" and (self.sub_centres > 1 or self.top_k):
            raise ValueError(f"sub_centres and top_k belong to aam-softmax; {self.name} has neither")
        return self

    def words(self) -> dict[str, Any]:
        """What `losses.create` takes."""
        named = {
            "softmax": (),
            "am-softmax": ("scale",),
            "aam-softmax": ("scale", "sub_centres", "top_k"),
            "sphereface2": ("scale",),
        }
        return {word: getattr(self, word) for word in named[self.name]}


class Margin(Section):
    """The loss's margin over a phase: `initial` until epoch `start`, `final` from epoch `end` on; constant: `final`."""

    shape: Literal["constant", "linear", "exponential", "log"] = "constant"
    """How it grows in between (margins.MarginSchedule)."""
    initial: NotNegative = 0.0
    """Radians, or for am-softmax and sphereface2 a cosine."""
    final: NotNegative = 0.0
    """Likewise."""
    start: NotNegative = 0.0
    """Epochs of the phase, parts of one too."""
    end: NotNegative = 0.0
    """Likewise."""
    penalty: NotNegative = 0.0
    """Inter-TopK's, at the final margin; it grows alongside."""

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.shape != "constant" and self.end <= self.start:
            raise ValueError(f"a margin that grows ({self.shape}) must end after it starts, not at {self.end:g}")
        if self.shape == "constant" and self.initial not in (0, self.final):
            raise ValueError(
                f"a constant margin is its final one, {self.final:g}; initial {self.initial:g} has no place"
            )
        return self


class LearningRate(Section):
    """Over a phase: from `initial` up to `peak` while it warms up, then down to `final`."""

    peak: Positive
    """The largest, after the warm-up."""
    final: NotNegative = 0.0
    """At the end of the phase."""
    initial: NotNegative = 0.0
    """In the first step, if there is a warm-up."""

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        if isinstance(value, str):  # YAML takes 1e-3, which has no point, for a word
            with suppress(ValueError):
                value = float(value)
        return {"peak": value, "final": value, "initial": value} if isinstance(value, int | float) else value


class Part(Section):
    """What one part of the model has of its own; the rest is the phase's."""

    learning_rate: LearningRate | None = None
    """By the phase's schedule."""
    weight_decay: NotNegative | None = None
    """As the phase's."""


class Distillation(Section):
    """Learning from a teacher's embeddings (see distillation.DistillationLoss)."""

    teacher: str = cards.DEFAULT
    """A card's name or a model's folder."""
    embedding: NotNegative = 1.0
    """Weight of the cosine distance to the teacher's embedding."""
    similarity: NotNegative = 5.0
    """Weight of the squared difference between the two matrices of similarities within a batch."""


class Phase(Section):
    """One stretch of training with one optimiser. What a phase does not name is as in the phase before."""

    epochs: Positive
    """How often all utterances are seen; a part of one is allowed."""
    batch: Count
    """Utterances in each step of the optimiser, over all processes together."""
    seconds: Positive
    """Length of the crops."""
    optimiser: Literal["sgd", "adam", "adamw", "muon"]
    """sgd has Nesterov's momentum 0.9; muon takes learning rates like adamw's."""
    learning_rate: LearningRate
    """A number, where it stays the same, or initial, peak and final."""
    schedule: Literal["cosine", "one-cycle", "exponential", "linear", "constant"]
    """How it falls from its peak (schedules.Schedule)."""
    warm_up: NotNegative = 0.0
    """A share of the phase if under 1, otherwise epochs."""
    weight_decay: NotNegative = 0.0
    """Of all that is trained, the loss's centres too; adam adds it to the gradient, adamw and muon do not."""
    parts: dict[str, Part] = {}
    """Settings of their own for parts of the model, by path: network.front_end, network.head, loss."""
    frozen: list[str] = []
    """Parts that are not trained: front_end, or front_end.convolutions (its convolutional encoder)."""
    accumulate: Count = 1
    """Each batch in so many pieces, one after the other, where memory is short."""
    clip: Positive | None = None
    """The gradient's largest norm."""
    augmentation: Any = "none"
    """none, lap, 3d-speaker, wild, or settings (docs/data.md)."""
    margin: Margin = Margin()
    """The loss's."""
    margin_weight: NotNegative = 1.0
    """Weight of the classification loss; 0 for distillation alone."""
    distillation: Distillation | None = None
    """Beside the classification, or alone; none: no teacher."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Average the weights of all steps (exponentially) or of all epochs (evenly); what is validated and kept."""
    ema_decay: Share = 0.999
    """How much of the average is left after a step (averaging: ema)."""
    checkpointing: bool = False
    """Compute a self-supervised front end's layers twice rather than keep their activations."""
    use: Literal["last", "best", "average-last", "average-best"] = "last"
    """Which weights the phase ends with; best: by validation."""
    average: Count = 5
    """How many checkpoints average-last and average-best take."""

    @field_validator("augmentation")
    @classmethod
    def _augmentation(cls, value: Any) -> Augmentation:
        return _augmentation(value)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"a batch of {self.batch} can't be taken in {self.accumulate} equal pieces")
        if self.warm_up >= 1 and self.warm_up >= self.epochs:
            raise ValueError(f"warm_up of {self.warm_up:g} epochs leaves nothing of {self.epochs:g}")
        if self.margin.shape != "constant" and self.margin.end > self.epochs:
            raise ValueError(f"the margin grows until epoch {self.margin.end:g}, but there are {self.epochs:g}")
        rates = [self.learning_rate, *(part.learning_rate for part in self.parts.values() if part.learning_rate)]
        if self.schedule == "exponential" and not all(rate.final for rate in rates):
            raise ValueError("an exponential schedule never falls to 0; give learning_rate.final")
        if self.averaging == "swa" and self.use != "last":
            raise ValueError(f"averaging swa ends with the average of all epochs, so use can't be {self.use}")
        if not self.margin_weight and not self.distillation:
            raise ValueError("with margin_weight 0 and no distillation there is nothing to learn")
        return self


class Recipe(Section):
    """Everything about a training run."""

    name: str
    """The run's, if no folder is given, and the model's."""
    source: str = ""
    """Paper, section, table; and where the recipe departs from it."""
    seed: int = 0
    """Of weights, order, crops and augmentation."""
    network: Network
    """What is trained."""
    features: Features = Features()
    """What networks on filter banks see."""
    data: Data
    """What it is trained on."""
    validation: Validation | None = None
    """What tells how well it does while it trains; none: nothing does."""
    loss: Loss = Loss()
    """What the classification of speakers is."""
    phases: Annotated[dict[str, Phase], Field(min_length=1)]
    """By name, in their order."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the network's arithmetic; losses and weights are always float32. fp16 needs a GPU."""
    compile: bool = False
    """torch.compile the network for its steps; validation and export take it as it is."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Processes that read and augment, for each training process."""
    log_every: Count = 10
    """Steps between two lines of the log."""
    checkpoint_minutes: Positive = 10.0
    """Between two checkpoints, beside those at the ends of epochs."""
    keep_best: Annotated[int, Field(ge=0)] = 3
    """Checkpoints kept for their validation error, beside the last."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = ["tensorboard"]
    """Where the log goes beside the run's folder."""

    @field_validator("trackers", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("phases", mode="before")
    @classmethod
    def _inherited(cls, value: Any) -> Any:
        """Each phase on top of the one before."""
        if not isinstance(value, Mapping):
            raise ValueError("phases must have names: phases: {standard: {epochs: 70, ...}}")
        phases: dict[str, Any] = {}
        before: dict[str, Any] = {}
        for name, settings in value.items():
            if not isinstance(settings, Mapping):
                raise ValueError(f"phase {name} must be settings, not {settings!r}")
            before = {**before, **settings}
            phases[str(name)] = before
        return phases

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, phase in self.phases.items():
            if phase.use in ("best", "average-best") and self.validation is None:
                raise ValueError(f"phase {name} uses the best checkpoint, but there is no validation to say which")
            if self.loss.name == "softmax" and (phase.margin.initial or phase.margin.final):
                raise ValueError(f"phase {name} has a margin, which softmax does not know")
            if phase.margin.penalty and not self.loss.top_k:
                raise ValueError(f"phase {name} has a penalty, but the loss's top_k is 0")
            if not self.data.banks and (banks := phase.augmentation.banks()):
                raise ValueError(
                    f"phase {name} adds what is in banks ({', '.join(sorted(banks))}), but there is no data.banks: the "
                    "folder that samevoice prepare banks writes"
                )
            if self.data.views and phase.augmentation.drawn_speeds != (1.0,):
                raise ValueError(f"phase {name} changes speeds, which views have fixed: put them into data.views")
        return self


def load(recipe: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, or of a name that comes with the package, with "key=value" changes.

    Keys are paths (`phases.standard.epochs=2`), values are YAML. Raises RecipeError.
    """
    path = find(recipe)
    values = _extended(path)
    for change in changes:
        _change(values, change)
    return validated(values, str(path))


def validated(values: Mapping[str, Any], name: str) -> Recipe:
    """A recipe from plain values. name: what messages call it. Raises RecipeError with a line for each mistake."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = [_explained(item) for item in error.errors()]
        raise RecipeError("\n".join(f"{name}: {line}" for line in dict.fromkeys(lines))) from None


def dump(recipe: Recipe) -> str:
    """The whole recipe as YAML, which `load` reads again."""
    values = recipe.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def find(recipe: str | Path) -> Path:
    """A path as it is, or one of the package's recipes by name. Raises RecipeError with the nearest name."""
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = {file.stem: file for folder in FOLDERS for file in folder.glob("*.yaml")}
    if path.name == str(recipe) and path.stem in shipped:
        return shipped[path.stem]
    if path.suffix or path.name != str(recipe):
        raise RecipeError(f"{recipe}: no such file; recipes that come with samevoice: {', '.join(sorted(shipped))}")
    raise RecipeError(f"no recipe {_nearest(str(recipe), sorted(shipped))}")


def _extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's values on top of those of the recipe that it extends."""
    if path.resolve() in above:
        raise RecipeError(f"{path}: extends itself, by way of {above[-1].name}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must be settings with names, such as `name: my-model`")
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = path.parent / str(base)
    return _merged(_extended(beside if beside.is_file() else find(str(base)), (*above, path.resolve())), values)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        merged[key] = _merged(_opened(key, base.get(key)), value) if isinstance(value, dict) else value
    return merged


def _opened(key: str, value: Any) -> dict[str, Any]:
    """Settings that can be changed one by one, of what may stand for all of them."""
    if key == "augmentation" and isinstance(value, str):
        return {"base": value}
    if key == "learning_rate" and isinstance(value, int | float):
        return {"peak": value, "final": value, "initial": value}
    return value if isinstance(value, dict) else {}


def _change(values: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise RecipeError(f"{change!r}: changes look like key=value, such as phases.standard.epochs=2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{change!r}: the value is not YAML: {error}") from None
    *parents, last = path.split(".")
    inner = values
    for done, key in enumerate(parents):
        if parents[:done] == ["phases"] and key not in inner:
            raise RecipeError(f"{change!r}: no phase {_nearest(key, list(inner))}")
        inner[key] = _opened(key, inner.get(key))
        inner = inner[key]
    inner[last] = value


def _augmentation(value: Any) -> Augmentation:
    return value if isinstance(value, Augmentation) else from_mapping(value)


def _explained(error: Any) -> str:
    """One of pydantic's errors in our words, with the nearest valid name."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        valid = _section(error["loc"][:-1]).model_fields
        return f"there is no setting {where.rpartition('.')[0]}{'.' if '.' in where else ''}" + _nearest(
            str(error["loc"][-1]), list(valid), quoted=False
        )
    if error["type"] == "literal_error":
        valid = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{where} can't be {_nearest(str(error['input']), valid)}"
    if error["type"] == "missing":
        return f"{where} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _section(location: Sequence[Any]) -> type[Section]:
    """The class of settings at this place in a recipe."""
    section: Any = Recipe
    for part in location:
        if isinstance(section, type) and issubclass(section, Section):
            section = section.model_fields[str(part)].annotation if str(part) in section.model_fields else section
            section = next((kind for kind in _kinds(section)), section)
    return section


def _kinds(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    return [kind for argument in getattr(annotation, "__args__", ()) for kind in _kinds(argument)]


def _nearest(word: str, valid: Any, quoted: bool = True) -> str:
    shown = repr(word) if quoted else word
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.4)
    return f"{shown}; did you mean {close[0]}?" if close else f"{shown}; there are: {', '.join(map(str, valid))}"
