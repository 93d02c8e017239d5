import numpy as np
import pytest

from samevoice.evaluation import trials as lists
from samevoice.evaluation.scoring import PLDA, Cosine, MeanSubtraction, Recordings, Scorer, pairs_of


def recordings(seed, speakers=20, each=4, known=True):
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), each)
    x = (random.standard_normal((speakers, 8))[who] + 0.5 * random.standard_normal((len(who), 8))).astype(np.float32)
    text = np.array([f"{seed}-{s}" for s in who]) if known else np.array([""] * len(who))
    empty = np.array([""] * len(who))
    names = np.array([f"{seed}-{i}" for i in range(len(who))])
    return Recordings(names, x, text, random.uniform(1, 9, len(who)), random.uniform(1, 9, len(who)),
                      np.full(len(who), np.nan), empty, empty, empty)  # fmt: skip


MODELS = {"several": ["1-0", "1-1", "1-2"], "one": ["1-4"]}
ROWS = [("several", "1-3", True), ("one", "1-5", True), ("several", "1-5", False), ("one", "1-3", False)]


@pytest.fixture
def trials():
    return lists.of_rows(ROWS, MODELS)


def test_a_model_of_several_recordings_is_a_row_of_its_own(trials):
    found = recordings(1)
    pairs = pairs_of(trials, found.names)
    assert pairs.enrol.tolist() == [80, 4, 80, 4]
    assert pairs.test.tolist() == [3, 5, 5, 3]
    np.testing.assert_array_equal(pairs.with_models(found.embeddings)[80], found.embeddings[:3].mean(axis=0))
    np.testing.assert_allclose(pairs.with_models(found.seconds, np.sum)[80], found.seconds[:3].sum())


def test_scores_of_several_recordings_are_averaged(trials):
    pairs = pairs_of(trials, recordings(1).names, "scores")
    assert pairs.enrol.tolist() == [0, 1, 2, 4, 0, 1, 2, 4]
    assert pairs.test.tolist() == [3, 3, 3, 5, 5, 5, 5, 3]
    np.testing.assert_allclose(pairs.per_trial(np.array([1.0, 2, 3, 10, 4, 5, 9, 20])), [2, 10, 6, 20])


def test_plda_knows_how_many_recordings_a_model_has(trials):
    cohort, found = recordings(0), recordings(1)
    scorer = Scorer("plda").fit(cohort)
    x = np.concatenate([found.embeddings, found.embeddings[:3].mean(axis=0, keepdims=True)])
    plda = PLDA().fit(cohort.embeddings, cohort.speakers)
    expected = plda.transform(x, [80, 4, 80, 4], [3, 5, 5, 3], [3, 1, 3, 1])
    np.testing.assert_allclose(scorer.transform(found, pairs_of(trials, found.names)), expected)


def test_the_mean_is_taken_from_every_recording_of_a_model(trials):
    cohort, found = recordings(0), recordings(1)
    centred = MeanSubtraction().fit(cohort.embeddings).transform(found.embeddings)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    x = np.concatenate([unit, unit[:3].mean(axis=0, keepdims=True)])
    expected = Cosine().transform(x, [80, 4, 80, 4], [3, 5, 5, 3])
    scores = Scorer("mean-subtraction").fit(cohort).transform(found, pairs_of(trials, found.names))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_cohort_without_speakers_is_normalised_with_recording_by_recording():
    scorer = Scorer("as-norm", top_n=600).fit(recordings(0, known=False))
    assert scorer.top_n_ == 80
    assert Scorer("as-norm", top_n=600).fit(recordings(0)).top_n_ == 20


@pytest.mark.parametrize("name", ["as-norm", "plda"])
def test_what_a_scorer_lacks_is_told(name):
    with pytest.raises(ValueError, match=f"{name} needs a cohort"):
        Scorer(name).fit()
    with pytest.raises(ValueError, match="all speakers of the cohort are in the trials"):
        Scorer(name).fit(recordings(0), own=recordings(0).speakers)


def test_a_calibration_needs_speakers_that_the_scorer_was_not_fitted_on():
    cohort = recordings(0)
    with pytest.raises(ValueError, match="plda can't be calibrated on the recordings that it was fitted on"):
        Scorer("plda").fit(cohort).fit_qmf(cohort)
    with pytest.raises(ValueError, match="cohort with known speakers"):
        Scorer("cosine").fit().fit_qmf(recordings(0, known=False))
