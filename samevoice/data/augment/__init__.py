"""Augmentation: what is drawn (settings, plan) needs no torch; what is done (examples and the rest) does."""

from samevoice.data.augment.plan import Mixture, Plan, Planner, Source, mixture
from samevoice.data.augment.settings import LAP, NAMED, THREE_D_SPEAKER, WILD, Augmentation, from_mapping, named

__all__ = [
    "LAP", "NAMED", "THREE_D_SPEAKER", "WILD", "Augmentation", "Mixture", "Plan", "Planner", "Source", "from_mapping",
    "mixture", "named",
]  # fmt: skip
