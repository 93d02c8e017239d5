"""From embeddings to scores: objects with `fit` and `transform`, learned values ending in `_`.

Embeddings are one array (recordings, dim); a trial is a pair of rows of it: `enrol` and `test`, integers (trials,).
`Scorer` is all of them by name, over recordings with what is known of each.
"""

from samevoice.evaluation.scoring.cosine import Cosine, MeanSubtraction
from samevoice.evaluation.scoring.fusion import Fusion
from samevoice.evaluation.scoring.normalisation import ScoreNorm
from samevoice.evaluation.scoring.plda import PLDA
from samevoice.evaluation.scoring.qmf import QualityCalibration, draw_pairs, quality_inputs
from samevoice.evaluation.scoring.recordings import Pairs, Recordings, pairs_of
from samevoice.evaluation.scoring.scorer import Scorer

__all__ = [
    "PLDA",
    "Cosine",
    "Fusion",
    "MeanSubtraction",
    "Pairs",
    "QualityCalibration",
    "Recordings",
    "ScoreNorm",
    "Scorer",
    "draw_pairs",
    "pairs_of",
    "quality_inputs",
]
