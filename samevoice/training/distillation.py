"""Learning from a teacher: the loss, and the teacher's embedding of whatever a batch holds."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samevoice.audio import RATE, AudioError
from samevoice.data.augment.plan import Plan
from samevoice.data.augment.settings import Augmentation, fraction
from samevoice.data.augment.waveform import change_speed
from samevoice.data.crops import read_crop
from samevoice.data.features import Features
from samevoice.hub import find_model
from samevoice.runtime import Verifier
from samevoice.runtime.embedding_cache import Clip, EmbeddingCache, embed_all, model_key

log = logging.getLogger(__name__)
MOST_SPEEDS = 8


class DistillationLoss(nn.Module):
    """embedding * mean(1 - cosine(student, teacher)) + similarity * mean((student's similarities - teacher's)^2)

    (batch, student_dim), (batch, teacher_dim) -> scalar, float32 also within autocast. A teacher's row of zeros is an
    utterance without a target: it counts in neither mean. The similarities are the cosines of all pairs of different
    utterances of the batch, as this process sees it. For the first term a linear projection takes the student to the
    teacher's size where they differ; it is trained along, and no part of the network.

    The first term is distillation at the level of embeddings (Wang et al., Knowledge Distillation for Small Foot-print
    Deep Speaker Embedding, ICASSP 2019); the second follows Similarity-Preserving Knowledge Distillation (Tung and
    Mori, ICCV 2019), with plain cosines in place of rows of inner products brought to length 1, and no diagonal.

    >>> DistillationLoss(192, 256)(torch.randn(8, 192), torch.randn(8, 256)).shape
    torch.Size([])
    """

    def __init__(self, student_dim: int, teacher_dim: int, embedding: float = 1.0, similarity: float = 5.0):
        super().__init__()
        self.embedding, self.similarity = embedding, similarity
        same = student_dim == teacher_dim
        self.projection = nn.Identity() if same else nn.Linear(student_dim, teacher_dim, bias=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = student.float(), F.normalize(teacher.float())
            known = teacher.any(1).float()  # (batch,)
            cosines = (F.normalize(self.projection(student)) * teacher).sum(1)
            pairs = known[:, None] * known * (1 - torch.eye(len(known), device=known.device))
            similarities = F.normalize(student) @ F.normalize(student).T
            gaps = (similarities - teacher @ teacher.T).square()
            return self.embedding * _mean(1 - cosines, known) + self.similarity * _mean(gaps, pairs)


class Targets:
    """The teacher's embeddings of whole utterances at each of a few speeds.

    embeddings: (speeds, rows, dim) of length 1; zeros where there is none. speeds: different ones.
    """

    def __init__(self, embeddings: Tensor, speeds: Sequence[float]):
        self._embeddings = embeddings
        self._speeds = list(speeds)

    @property
    def dim(self) -> int:
        return self._embeddings.shape[-1]

    def of(self, rows: Sequence[int], plans: Sequence[Plan]) -> Tensor:
        """What the examples of a batch should become: float32 (batch, dim), on the processor."""
        speeds = [self._speeds.index(plan.speed) for plan in plans]
        return self._embeddings[speeds, list(rows)].float()


def targets_of(features: Features) -> Targets:
    """The targets that were computed with the features. Raises ValueError if there are none."""
    if features.teacher is None:
        raise ValueError(f"{features.folder}: was computed without a teacher; compute the features again, with one")
    return Targets(torch.tensor(features.teacher)[None], [1.0])  # a view's own speed isn't in its plans


def targets(
    table: pa.Table,
    augmentation: Augmentation,
    teacher: str | os.PathLike,
    cache: Path,
    track: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> Targets:
    """Embed every utterance of a manifest of files at each speed that the augmentation draws.

    Room, noise and calls are left out: the student is to hear the voice through them. teacher: a model's name or
    folder. cache: a file of runtime.embedding_cache: an interrupted call goes on, and a repeated one only reads.
    Utterances that the teacher refuses (see Verifier.embed) get a warning and a target of zeros.
    Raises ValueError for more than 8 speeds, for shards, and if the teacher refuses every utterance.
    """
    speeds = sorted(set(augmentation.drawn_speeds))
    if len(speeds) > MOST_SPEEDS:
        raise ValueError(
            f"a teacher would have to hear each utterance at {len(speeds)} speeds; draw from at most {MOST_SPEEDS} "
            "(augmentation.speeds), or compute features in views, which have one speed each (data.views)"
        )
    if "shard" in table.column_names:
        raise ValueError("a teacher can't embed shards as they are; train from the manifest that they were packed from")
    rows = table.select(["path", "offset", "duration"]).to_pylist()
    card, path = find_model(teacher)
    with EmbeddingCache(cache, model_key(card, path)) as kept:
        clips = [_clip(row, speed) for speed in speeds for row in rows]
        found = embed_all(kept, Verifier(card, path), clips, track)
    embeddings: dict[int, np.ndarray] = {}
    for place, (result, row) in enumerate(zip(found, rows * len(speeds), strict=True)):
        if isinstance(result, AudioError):  # a changed recording has no name of its own
            log.warning("no target: %s at speed %g: %s", row["path"], speeds[place // len(rows)], result.problem)
        else:
            embeddings[place] = result.embedding
    if not embeddings:
        raise ValueError(f"the teacher {card.name} refused all of {len(rows)} utterances; the warnings say why")
    whole = np.zeros((len(found), len(next(iter(embeddings.values())))), np.float16)
    for place, embedding in embeddings.items():
        whole[place] = embedding / np.linalg.norm(embedding)
    return Targets(torch.from_numpy(whole).view(len(speeds), len(rows), -1), speeds)


def _clip(row: dict, speed: float) -> Clip:
    """An utterance at a speed. The treatment says all that decides what is heard, besides the file."""
    words = f"{row['duration']} s from {row['offset']} s at speed {speed}"
    return Clip(row["path"], words, partial(_heard, row, speed))


def _heard(row: dict, speed: float) -> tuple[np.ndarray, int]:
    whole = read_crop(row["path"], row["offset"], row["duration"], max(round(row["duration"] * RATE), 1), 0)
    ratio = fraction(speed)
    length = len(whole) * ratio.denominator // ratio.numerator
    return change_speed(torch.from_numpy(whole)[None], speed, length)[0].numpy(), RATE


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean; 0 if nothing has weight."""
    return (values * weights).sum() / weights.sum().clamp_min(1)
