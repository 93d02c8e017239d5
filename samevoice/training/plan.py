"""What a recipe's phases mean in steps."""

from dataclasses import dataclass

from samevoice.training.margins import MarginSchedule
from samevoice.training.recipe import LearningRate, Phase, Recipe
from samevoice.training.schedules import Schedule


@dataclass(frozen=True)
class PhasePlan:
    """A phase in steps. first_epoch: how many epochs all phases before it have, so that no two hear the same crops."""

    name: str
    phase: Phase
    steps: int
    steps_per_epoch: int
    first_epoch: int

    def schedule(self, rate: LearningRate | None = None) -> Schedule:
        """The learning rate of a part with this rate, or the phase's own."""
        return schedule(self.phase, rate or self.phase.learning_rate, self.steps_per_epoch)

    def margin(self, step: int) -> tuple[float, float]:
        """Margin and penalty after so many steps of the phase."""
        return margin(self.phase).at(step / self.steps_per_epoch)


def plan(recipe: Recipe, name: str, steps_per_epoch: int) -> PhasePlan:
    """The plan of this phase. Raises ValueError if an epoch hasn't one full batch."""
    phase = recipe.phases[name]
    if steps_per_epoch < 1:
        raise ValueError(f"phase {name}: there are fewer utterances than one batch of {phase.batch}")
    before = list(recipe.phases).index(name)
    first = sum(-(-phase.epochs // 1) for phase in list(recipe.phases.values())[:before])
    return PhasePlan(name, phase, _steps(phase, steps_per_epoch), steps_per_epoch, int(first))


def schedule(phase: Phase, rate: LearningRate, steps_per_epoch: int) -> Schedule:
    """The learning rate of each step of a phase."""
    steps = _steps(phase, steps_per_epoch)
    warm_up = phase.warm_up * (steps if phase.warm_up < 1 else steps_per_epoch)
    return Schedule(
        phase.schedule, steps, peak=rate.peak, final=rate.final, initial=rate.initial, warm_up=round(warm_up)
    )


def margin(phase: Phase) -> MarginSchedule:
    """The margin and penalty at each epoch of a phase."""
    m = phase.margin
    return MarginSchedule(m.shape, m.initial, m.final, m.start, m.end, m.penalty)


def _steps(phase: Phase, steps_per_epoch: int) -> int:
    return max(round(phase.epochs * steps_per_epoch), 1)
