"""The learning rate over the steps of a phase, as a pure function: nothing to save, nothing to restore."""

import math
from dataclasses import dataclass

from samevoice.nearest import nearest

SHAPES = ("cosine", "one-cycle", "exponential", "linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """From `initial` up to `peak` in the first `warm_up` steps, then by `shape` down to `final` after `steps` steps.

    The warm-up is linear. shape:
      - "cosine": half a period of a cosine (3D-Speaker's warm-up and cosine);
      - "one-cycle": half periods of a cosine both up and down, whose peak is the last step of the warm-up and whose
        last step has the final rate: torch.optim.lr_scheduler.OneCycleLR with total_steps=steps, pct_start=warm_up /
        steps (Smith and Topin, "Super-convergence", 2019);
      - "exponential": by the same factor in each step;
      - "linear";
      - "constant": stays at the peak; `final` plays no part.
    Raises ValueError for an unknown shape, fewer than one step, a warm-up that is longer than the phase, and an
    exponential fall that does not go from a positive rate to a positive rate.
    """

    shape: str
    steps: int
    peak: float
    final: float = 0.0
    initial: float = 0.0
    warm_up: int = 0

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"unknown schedule {self.shape!r}{nearest(self.shape, list(SHAPES))}")
        if self.steps < 1 or not 0 <= self.warm_up <= self.steps:
            raise ValueError(f"a schedule of {self.steps} steps can't warm up for {self.warm_up}")
        if self.shape == "exponential" and min(self.peak, self.final) <= 0:
            raise ValueError(
                f"an exponential schedule can't fall from {self.peak:g} to {self.final:g}; both must be > 0"
            )

    def at(self, step: int) -> float:
        """The learning rate of a step, which is how many steps came before it: 0 <= step < steps, or after the end.

        >>> schedule = Schedule("cosine", steps=100, peak=0.2, final=1e-4, warm_up=10)
        >>> [round(schedule.at(step), 5) for step in (0, 5, 10, 55, 100)]
        [0.0, 0.1, 0.2, 0.10005, 0.0001]
        """
        # OneCycleLR counts from the first step to the last, one less than there are.
        top, end = (self.warm_up - 1, self.steps - 1) if self.shape == "one-cycle" else (self.warm_up, self.steps)
        if step < top:
            return self._up(step / top)
        if self.shape == "constant":
            return self.peak
        return self._down((step - top) / (end - top)) if step < end else self.final

    def _up(self, passed: float) -> float:
        return _eased(self.initial, self.peak, _half_cosine(passed) if self.shape == "one-cycle" else passed)

    def _down(self, passed: float) -> float:
        if self.shape == "exponential":
            return self.peak * (self.final / self.peak) ** passed
        return _eased(self.peak, self.final, passed if self.shape == "linear" else _half_cosine(passed))


def _eased(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _half_cosine(passed: float) -> float:
    return (1 - math.cos(math.pi * passed)) / 2
