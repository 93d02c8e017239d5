import numpy as np
import pytest

from samevoice.evaluation.scoring import Cosine, MeanSubtraction, ScoreNorm
from samevoice.evaluation.scoring.normalisation import speaker_means


@pytest.fixture
def voices():
    random = np.random.default_rng(0)
    speakers = random.integers(40, size=60)
    centres = random.standard_normal((40, 16))
    embeddings = (centres[speakers] + 0.5 * random.standard_normal((60, 16))).astype(np.float32)
    enrol, test = random.integers(60, size=(2, 300))
    return embeddings, speakers, enrol, test


def loop(embeddings, enrol, test, cohort, method, top_n, speakers=None, cohort_speakers=None):
    """The definition, a trial at a time."""
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings, axis=1, keepdims=True)
    others = cohort.astype(np.float64) / np.linalg.norm(cohort, axis=1, keepdims=True)
    found = []
    for e, t in zip(enrol, test, strict=True):
        left = others
        if speakers is not None:
            left = others[(cohort_speakers != speakers[e]) & (cohort_speakers != speakers[t])]
        score, parts = unit[e] @ unit[t], []
        for side, methods in ((e, ("z", "s", "as")), (t, ("t", "s", "as"))):
            if method in methods:
                scores = np.sort(left @ unit[side])[::-1]
                scores = scores[:top_n] if method == "as" else scores
                parts.append((score - scores.mean()) / scores.std(ddof=1))
        found.append(np.mean(parts))
    return np.array(found)


@pytest.mark.parametrize("method", ["z", "t", "s", "as"])
def test_normalised_as_the_literal_loop_does(voices, method):
    embeddings, _, enrol, test = voices
    cohort = np.random.default_rng(1).standard_normal((50, 16)).astype(np.float32)
    ours = ScoreNorm(method, top_n=10).fit(cohort).transform(embeddings, enrol, test)
    np.testing.assert_allclose(ours, loop(embeddings, enrol, test, cohort, method, 10), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("method", "top_n"), [("as", 5), ("as", 36), ("as", 37), ("as", 38), ("as", 39), ("z", 0)])
def test_own_speakers_are_left_out_as_by_the_literal_loop(voices, method, top_n):
    # 40 speakers of the cohort, of whom one or two are left out: also where fewer are left than top_n asks for
    embeddings, speakers, enrol, test = voices
    random = np.random.default_rng(2)
    cohort_speakers = np.arange(40)
    cohort = random.standard_normal((40, 16)).astype(np.float32)
    for speaker in range(40):  # near their own recordings, so that they are among the nearest
        if (speakers == speaker).any():
            cohort[speaker] = embeddings[speakers == speaker].mean(axis=0)
    norm = ScoreNorm(method, top_n).fit(cohort, cohort_speakers)
    ours = norm.transform(embeddings, enrol, test, speakers=speakers)
    theirs = loop(embeddings, enrol, test, cohort, method, top_n, speakers, cohort_speakers)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(ours - norm.transform(embeddings, enrol, test)).max() > 0.1  # it does matter here


def test_who_is_not_in_the_cohort_leaves_it_whole(voices):
    embeddings, speakers, enrol, test = voices
    norm = ScoreNorm("as", 7).fit(embeddings[:30], [f"c{i}" for i in range(30)])
    strangers = np.array([f"x{speaker}" for speaker in speakers])
    ours = norm.transform(embeddings, enrol, test, speakers=strangers)
    np.testing.assert_allclose(ours, norm.transform(embeddings, enrol, test), atol=1e-6)


def test_a_speaker_of_the_cohort_is_the_plain_mean():
    names, means = speaker_means(np.array([[2.0, 0], [0, 4], [0, 2]]), ["b", "a", "b"])
    assert names.tolist() == ["a", "b"]
    assert means.tolist() == [[0, 4], [1, 1]]


def test_symmetric_norms_do_not_ask_who_enrols(voices):
    embeddings, _, enrol, test = voices
    norm = ScoreNorm("as", 10).fit(embeddings[:40])
    there, back = norm.transform(embeddings, enrol, test), norm.transform(embeddings, test, enrol)
    np.testing.assert_allclose(there, back, atol=1e-9)


def test_cosines_by_hand_and_after_the_mean():
    embeddings = np.array([[1, 0], [3, 3], [-2, 0]], np.float32)
    np.testing.assert_allclose(Cosine().transform(embeddings, [0, 0], [1, 2]), [np.sqrt(0.5), -1], atol=1e-6)
    centred = MeanSubtraction().fit(embeddings).transform(embeddings)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(centred[0], [1 / 3, -1], atol=1e-6)


def test_what_can_not_be_scored_is_told(voices):
    embeddings, speakers, enrol, test = voices
    with pytest.raises(ValueError, match="cohort of 60 is too small for as-norm with top 600"):
        ScoreNorm().fit(embeddings)
    with pytest.raises(ValueError, match="unknown normalisation 'q'"):
        ScoreNorm("q").fit(embeddings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fit the cohort with its speakers"):
        ScoreNorm("s").fit(embeddings).transform(embeddings, enrol, test, speakers=speakers)
    norm = ScoreNorm("s").fit(embeddings, speakers, average=False)
    with pytest.raises(ValueError, match="one embedding a speaker"):
        norm.transform(embeddings, enrol, test, speakers=speakers)
    with pytest.raises(ValueError, match="embedding 1 has length 0"):
        Cosine().transform(np.array([[1.0, 0], [0, 0]]), [0], [1])
    with pytest.raises(ValueError, match="are not pairs"):
        Cosine().transform(embeddings, [0], [1, 2])
