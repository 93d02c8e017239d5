"""Probabilistic linear discriminant analysis, and its adaptation to other recordings."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from samevoice.evaluation.scoring.cosine import BLOCK, dots, unit


class _Basis(NamedTuple):
    """Where within-speaker covariance is the identity and between-speaker covariance diagonal."""

    project: np.ndarray  # (dim, kept)
    between: np.ndarray  # (kept,), falling


class PLDA:
    """Log-likelihood ratios of the two-covariance model: embedding = mean + speaker (between) + recording (within).

    Both parts are normal; the model of Brümmer and de Villiers, "The speaker partitioning problem" (Odyssey 2010),
    fitted by expectation-maximisation from the moments. Embeddings are centred and brought to length sqrt(dim) first
    (Garcia-Romero and Espy-Wilson, Interspeech 2011) unless length_norm is false.
    dimensions: keep only the directions where speakers differ most (linear discriminant analysis); all if None.
    Learned: `mean_` (dim,), `between_` and `within_` (dim, dim), float64.
    """

    mean_: np.ndarray
    between_: np.ndarray
    within_: np.ndarray

    def __init__(self, iterations: int = 10, dimensions: int | None = None, length_norm: bool = True):
        self.iterations = iterations
        self.dimensions = dimensions
        self.length_norm = length_norm

    def fit(self, embeddings: np.ndarray, speakers: ArrayLike) -> "PLDA":
        """embeddings: (n, dim). speakers: (n,). Raises ValueError without two speakers and one who speaks twice."""
        self.mean_ = np.asarray(embeddings).mean(axis=0, dtype=np.float64)
        x = self._prepared(embeddings)
        means, counts, scatter = _by_speaker(x, speakers)
        dim = x.shape[1]
        ridge = 1e-6 * np.trace(np.cov(x.T).reshape(dim, dim)) / dim * np.eye(dim)
        within = scatter / (len(x) - len(counts)) + ridge
        between = _positive(np.cov(means.T).reshape(dim, dim) - within * np.mean(1 / counts)) + ridge
        for _ in range(self.iterations):
            between, within = _em_step(between, within, means, counts, scatter)
            within = within + ridge
        self.between_, self.within_ = between, within
        return self

    def adapt(
        self,
        embeddings: np.ndarray,
        speakers: ArrayLike | None = None,
        weight: float = 0.5,
        between_share: float = 0.7,
    ) -> "PLDA":
        """A new PLDA for the domain of these embeddings (n, dim); this one stays.

        With speakers (n,): both covariances are interpolated with those fitted here, `weight` on the new ones
        (Garcia-Romero and McCree, ICASSP 2014). Without: the mean becomes theirs, and where they vary more than the
        model says, `between_share` of the excess goes to the speakers and the rest to the recordings, as in Kaldi's
        ivector-adapt-plda (0.7 and 0.3 there); `weight` is not used.
        """
        adapted = PLDA(self.iterations, self.dimensions, self.length_norm)
        if speakers is not None:
            adapted.fit(embeddings, speakers)
            adapted.between_ = weight * adapted.between_ + (1 - weight) * self.between_
            adapted.within_ = weight * adapted.within_ + (1 - weight) * self.within_
            return adapted
        adapted.mean_ = np.asarray(embeddings).mean(axis=0, dtype=np.float64)
        x = adapted._prepared(embeddings)
        total = self.between_ + self.within_
        vectors, out = _simultaneous(total, x.T @ x / len(x))  # total is the identity, the data's covariance diagonal
        back = np.linalg.inv(vectors)  # rows
        excess = back.T @ (np.maximum(out - 1, 0)[:, None] * back)
        adapted.between_ = self.between_ + between_share * excess
        adapted.within_ = self.within_ + (1 - between_share) * excess
        return adapted

    def transform(
        self,
        embeddings: np.ndarray,
        enrol: ArrayLike,
        test: ArrayLike,
        enrol_counts: ArrayLike | None = None,
    ) -> np.ndarray:
        """embeddings (n, dim), rows enrol and test (trials,) -> log-likelihood ratios float64 (trials,).

        enrol_counts: (trials,), of how many recordings an enrolment's embedding is the average; 1 if None.
        """
        basis = self._basis()
        x = np.empty((len(embeddings), basis.project.shape[1]))  # within = 1
        for start in range(0, len(x), BLOCK):
            x[start : start + BLOCK] = self._prepared(embeddings[start : start + BLOCK]) @ basis.project
        enrol, test = np.asarray(enrol), np.asarray(test)
        counts = np.ones(len(enrol), np.int64) if enrol_counts is None else np.asarray(enrol_counts)
        llrs = np.empty(len(enrol))
        for count in np.unique(counts):
            these = np.flatnonzero(counts == count)
            llrs[these] = _llrs(x, basis.between, enrol[these], test[these], int(count))
        return llrs

    def _prepared(self, embeddings: np.ndarray) -> np.ndarray:
        x = np.asarray(embeddings, np.float64) - self.mean_
        return unit(x).astype(np.float64) * np.sqrt(x.shape[1]) if self.length_norm else x

    def _basis(self) -> _Basis:
        vectors, between = _simultaneous(self.within_, self.between_)
        order = np.argsort(-between)[: self.dimensions]
        return _Basis(vectors[:, order], np.maximum(between[order], 0))


def _llrs(x: np.ndarray, between: np.ndarray, enrol: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
    """log p(test | enrolment, same speaker) - log p(test); x (n, kept) with within = 1 and between diagonal."""
    shrink = count * between / (count * between + 1)  # what the enrolment says of its speaker
    same, other = 1 + between / (count * between + 1), 1 + between  # variances of the test
    constant = 0.5 * (np.log(other) - np.log(same)).sum()
    of_test = np.einsum("ij,ij,j->i", x, x, 0.5 / other - 0.5 / same)
    of_enrol = np.einsum("ij,ij,j->i", x, x, -0.5 * shrink**2 / same)
    return constant + of_test[test] + of_enrol[enrol] + dots(x * (shrink / same), x, enrol, test)


def _em_step(between, within, means, counts, scatter) -> tuple[np.ndarray, np.ndarray]:
    """One iteration, in the basis where the posterior of a speaker has a diagonal covariance."""
    vectors, psi = _simultaneous(within, between)
    psi = np.maximum(psi, 1e-10)
    back = np.linalg.inv(vectors)
    m = means @ vectors  # (speakers, dim)
    variance = psi / (counts[:, None] * psi + 1)
    expected = counts[:, None] * variance * m
    new_between = (expected.T @ expected + np.diag(variance.sum(axis=0))) / len(counts)
    residual = m - expected
    new_within = vectors.T @ scatter @ vectors + (counts[:, None] * residual).T @ residual
    new_within = (new_within + np.diag((counts[:, None] * variance).sum(axis=0))) / counts.sum()
    return back.T @ new_between @ back, back.T @ new_within @ back


def _by_speaker(x: np.ndarray, speakers: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (speakers, dim), counts (speakers,), and the sum of outer products around the means (dim, dim)."""
    names, index, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.max() < 2:
        raise ValueError(
            f"PLDA needs two speakers or more, some with two recordings: {len(x)} of {len(names)} speakers"
        )
    order = np.argsort(index, kind="stable")
    means = np.add.reduceat(x[order], np.cumsum(counts) - counts, axis=0) / counts[:, None]
    around = x - means[index]
    return means, counts, around.T @ around


def _simultaneous(identity: np.ndarray, diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (dim, dim), columns, with v.T @ identity @ v = 1 and v.T @ diagonal @ v = the values (dim,)."""
    values, rotate = np.linalg.eigh(identity)
    whiten = rotate / np.sqrt(values)
    found, turn = np.linalg.eigh(whiten.T @ diagonal @ whiten)
    return whiten @ turn, found


def _positive(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 0)) @ vectors.T
