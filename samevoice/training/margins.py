"""How a loss's margin grows over a phase of training."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from samevoice.nearest import nearest

# Each takes the share of the growing time that has passed to the share of the growth. The constants are the sources'.
_GROWTH: dict[str, Callable[[float], float]] = {
    "constant": lambda passed: 1.0,
    "linear": lambda passed: passed,
    "exponential": lambda passed: 1 - math.exp(passed * math.log(1e-3 / (1 + 1e-6))),
    "log": lambda passed: 1 - math.log(5e-3 + passed * (1 - 5e-3)) / math.log(5e-3),
}


@dataclass(frozen=True)
class MarginSchedule:
    """The margin over the epochs of a phase: `initial` until `start`, `final` from `end` on, growing in between.

    shape:
      - "constant": always `final`;
      - "linear";
      - "exponential": fast at first, the rest shrinks to a thousandth by `end` (3D-Speaker's and WeSpeaker's);
      - "log": the logarithm between 0.005 and 1, faster still at first (the LAP code's; "in log-scale" in the paper).
    start, end: in epochs from the start of the phase, parts of one too. ERes2Net as 3D-Speaker trains it is
    MarginSchedule("exponential", 0, 0.3, 20, 50), LAP is MarginSchedule("log", 0, 0.3, 0, 20, penalty=0.06).
    penalty: Inter-TopK's at the final margin; it is scaled with the margin, as penalty * margin / final.
    Raises ValueError for an unknown shape, for an end not after the start, and for a constant margin that starts at
    another value than it has.
    """

    shape: str
    initial: float = 0.0
    final: float = 0.0
    start: float = 0.0
    end: float = 0.0
    penalty: float = 0.0

    def __post_init__(self):
        if self.shape not in _GROWTH:
            raise ValueError(f"unknown shape of a margin {self.shape!r}{nearest(self.shape, list(_GROWTH))}")
        if self.shape == "constant" and self.initial not in (0, self.final):
            raise ValueError(f"a constant margin is its final one, {self.final:g}, and can't start at {self.initial:g}")
        if self.shape != "constant" and self.end <= self.start:
            raise ValueError(f"a {self.shape} margin must end after it starts, not from {self.start:g} to {self.end:g}")

    def at(self, epoch: float) -> tuple[float, float]:
        """(margin, penalty) after so many epochs: steps done / steps of an epoch.

        >>> MarginSchedule("linear", final=0.3, start=20, end=50, penalty=0.06).at(35)
        (0.15, 0.03)
        """
        margin = self.initial + (self.final - self.initial) * self._grown(epoch)
        return margin, self.penalty * margin / self.final if self.final else 0.0

    def _grown(self, epoch: float) -> float:
        if self.shape == "constant" or epoch >= self.end:
            return 1.0
        if epoch <= self.start:
            return 0.0
        return _GROWTH[self.shape]((epoch - self.start) / (self.end - self.start))
