"""Each way of scoring through the command, against the scoring objects on the same embeddings."""

import json
from itertools import combinations

import numpy as np
import pytest

from samevoice.evaluation.report.scores import read
from samevoice.evaluation.scoring import PLDA, Cosine, MeanSubtraction, QualityCalibration, ScoreNorm
from samevoice.evaluation.scoring.qmf import draw_pairs, quality_inputs

TESTED = ("allison-smith-en", "carlo-flora-it", "june-wallack-fr")
OTHERS = ("allison-smith-es", "ivrvoice-ru", "paola-dal-zot-it")
WAYS = ("cosine", "mean-subtraction", "z-norm", "t-norm", "s-norm", "as-norm", "mean-subtraction+as-norm", "plda")


def listing(samples, path, speakers, named=True):
    """A CSV of these speakers' recordings; returns (path, speaker) of each."""
    found = [(file, name) for name in speakers for file in sorted((samples / name).glob("*.flac"))]
    rows = [f"{file},{speaker if named else ''},{'f' if 'carlo' not in speaker else 'm'}" for file, speaker in found]
    path.write_text("\n".join(["path,speaker,gender", *rows]) + "\n")
    return found


@pytest.fixture
def place(tmp_path, samples):
    """A folder with trials.txt over all pairs of tested.csv, and cohort.csv."""
    tested = listing(samples, tmp_path / "tested.csv", TESTED)
    listing(samples, tmp_path / "cohort.csv", OTHERS)
    pairs = [f"{int(a[1] == b[1])} {a[0]} {b[0]}" for a, b in combinations(tested, 2)]
    (tmp_path / "trials.txt").write_text("\n".join(pairs) + "\n")
    return tmp_path


@pytest.fixture
def evaluate(command, tiny_model, place):
    def run(*arguments, trials="trials.txt", output="report"):
        given = ["--trials", place / trials, "--recordings", place / "tested.csv", "--cache", place / "kept"]
        given += ["--replicates", 0, "-o", place / output, "--json"]
        return command("evaluate", tiny_model, *given, *arguments)

    return run


@pytest.fixture
def embedded(tiny, samples, place):
    """Embeddings and speakers of the tested recordings and of the cohort, and rows of the trials."""
    sets = [listing(samples, place / "again.csv", speakers) for speakers in (TESTED, OTHERS)]
    arrays = [(tiny.embed_many([file for file, _ in some]), np.array([who for _, who in some])) for some in sets]
    enrol, test = np.array(list(combinations(range(12), 2))).T
    return *arrays, enrol, test


def many(names):
    return [word for name in names for word in ("--scoring", name)]


def scores_of(place, entry, output="report"):
    return read(place / output / "scores.parquet").of({"scoring": entry, "condition": "full, clean"})


def test_every_scoring_gives_what_its_object_gives(evaluate, place, embedded):
    (x, _), (cohort, speakers), enrol, test = embedded
    done = evaluate(*many([*WAYS, "cosine"]), "--cohort", place / "cohort.csv", "--top-n", 2)  # one of them twice
    assert done.status == 0, done.err
    mean = MeanSubtraction().fit(cohort)
    centred = mean.transform(x)
    expected = {
        "cosine": Cosine().transform(x, enrol, test),
        "mean-subtraction": Cosine().transform(centred, enrol, test),
        "plda": PLDA().fit(cohort, speakers).transform(x, enrol, test),
        "mean-subtraction+as-norm": ScoreNorm("as", 2)
        .fit(mean.transform(cohort), speakers)
        .transform(centred, enrol, test),
    }
    for method in ("z", "t", "s", "as"):
        expected[f"{method}-norm"] = ScoreNorm(method, 2).fit(cohort, speakers).transform(x, enrol, test)
    report = json.loads(done.out)
    assert [entry["scoring"] for entry in report["entries"]] == list(WAYS)
    for name, values in expected.items():
        np.testing.assert_allclose(scores_of(place, name), values, rtol=1e-4, atol=1e-4, err_msg=name)
    calibrated = {entry["scoring"] for entry in report["entries"] if "cllr" in entry}
    assert calibrated == {"cosine", "plda"}
    assert report["notes"] == ["cohort: 12 recordings, 3 speakers"]


def test_a_top_n_that_the_cohort_has_not_is_lowered_and_told(evaluate, place):
    done = evaluate("--scoring", "as-norm", "--cohort", place / "cohort.csv")
    assert "as-norm: top 3, all of the cohort, not 600" in json.loads(done.out)["notes"]
    assert "not 600" in (place / "report" / "report.md").read_text()


def test_quality_aware_calibration(evaluate, place, embedded, tiny, samples):
    pytest.importorskip("sklearn")
    (x, _), (cohort, _), enrol, test = embedded
    rows = (place / "cohort.csv").read_text().split()
    for i in range(1, len(rows)):  # six speakers of two recordings: a pair leaves at least four in the cohort
        rows[i] = rows[i].replace(",f", "").replace(",m", "") + f"-{i % 2}"
    (place / "cohort.csv").write_text("\n".join(["path,speaker", *rows[1:]]))
    speakers = np.array([row.split(",")[1] for row in rows[1:]])
    done = evaluate("--scoring", "as-norm", "--qmf", "--cohort", place / "cohort.csv", "--top-n", 2)
    assert done.status == 0, done.err
    norm = ScoreNorm("as", 2).fit(cohort, speakers)
    measured = []
    for names in (TESTED, OTHERS):
        files = [file for file, _ in listing(samples, place / "again.csv", names)]
        found = dict(tiny.embed_each(files))
        quality = [found[i].quality for i in range(len(files))]
        snr = np.array([q.snr_db for q in quality], np.float64)
        measured.append(([q.seconds for q in quality], snr, [q.speech_seconds for q in quality]))
    a, b, labels = draw_pairs(speakers, 30_000)
    inputs = quality_inputs(norm.transform(cohort, a, b, speakers), cohort, a, b, *measured[1])
    calibration = QualityCalibration().fit(inputs, labels)
    llrs = calibration.transform(quality_inputs(norm.transform(x, enrol, test), x, enrol, test, *measured[0]))
    np.testing.assert_allclose(scores_of(place, "as-norm + qmf"), llrs, rtol=1e-3, atol=1e-3)
    plain, calibrated = json.loads(done.out)["entries"]
    assert "cllr" not in plain
    assert calibrated["cllr"] > 0
    assert "act_dcf_0.01" in calibrated


def test_adaptation_with_and_without_speakers(evaluate, place, embedded, samples, tiny):
    (x, _), (cohort, speakers), enrol, test = embedded
    # allison-smith-es is cohort; carlo is tested: adapt to what is in neither trials nor cohort
    listing(samples, place / "cohort.csv", OTHERS[:2])
    near = listing(samples, place / "near.csv", OTHERS[2:])
    plda = PLDA().fit(cohort[:8], speakers[:8])
    adapted = plda.adapt(tiny.embed_many([file for file, _ in near]))
    arguments = ["--scoring", "adapted-plda", "--cohort", place / "cohort.csv", "--adaptation", place / "near"]
    (place / "near").mkdir()
    for number, (file, _) in enumerate(near):  # a folder without folders of speakers: nobody knows who they are
        (place / "near" / f"{number}.flac").write_bytes(file.read_bytes())
    done = evaluate(*arguments)
    assert done.status == 0, done.err
    expected = adapted.transform(x, enrol, test)
    np.testing.assert_allclose(scores_of(place, "adapted-plda"), expected, rtol=1e-3, atol=1e-3)
    assert "adaptation: 4 recordings, no speakers" in json.loads(done.out)["notes"]


def test_own_speakers_are_refused_or_left_out(evaluate, place, embedded, samples):
    (x, who), (cohort, speakers), enrol, test = embedded
    listing(samples, place / "cohort.csv", [*OTHERS, TESTED[0]])
    arguments = [*many(["as-norm", "mean-subtraction"]), "--cohort", place / "cohort.csv", "--top-n", 3]
    refused = evaluate(*arguments)
    assert refused.status == 2
    assert "1 speakers of the cohort are in the trials, such as allison-smith-en" in refused.err
    assert "--exclude-own-speakers" in refused.err
    done = evaluate(*arguments, "--exclude-own-speakers")
    assert done.status == 0, done.err
    everyone, names = np.concatenate([cohort, x[:4]]), np.concatenate([speakers, who[:4]])
    expected = ScoreNorm("as", 3).fit(everyone, names).transform(x, enrol, test, who)
    np.testing.assert_allclose(scores_of(place, "as-norm"), expected, rtol=1e-4, atol=1e-4)
    centred = MeanSubtraction().fit(cohort).transform(x)  # the mean is of the others only
    expected = Cosine().transform(centred, enrol, test)
    np.testing.assert_allclose(scores_of(place, "mean-subtraction"), expected, rtol=1e-4, atol=1e-4)


def test_enrolment_by_embeddings_and_by_scores(evaluate, place, embedded, samples):
    (x, _), _, _, _ = embedded
    files = [str(file) for file, _ in listing(samples, place / "again.csv", TESTED)]
    (place / "models.txt").write_text(f"first {files[0]} {files[1]}\nsecond {files[4]}\n")
    (place / "list.txt").write_text(
        f"1 first {files[2]}\n0 first {files[5]}\n1 second {files[5]}\n0 second {files[8]}\n"
    )
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ unit.T
    model = unit[:2].mean(axis=0) / np.linalg.norm(unit[:2].mean(axis=0))
    last = [cosines[4, 5], cosines[4, 8]]
    for how, expected in (
        ("embeddings", [model @ unit[2], model @ unit[5], *last]),
        ("scores", [cosines[:2, 2].mean(), cosines[:2, 5].mean(), *last]),
    ):
        done = evaluate("--enrolments", place / "models.txt", "--enrolment", how, trials="list.txt")
        assert done.status == 0, done.err
        np.testing.assert_allclose(scores_of(place, "cosine"), expected, atol=1e-5)
    wrong = evaluate("--enrolments", place / "models.txt", "--enrolment", "score", trials="list.txt")
    assert wrong.status == 2
    assert "embeddings or scores, not 'score'" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scoring", "asnorm"], "no scoring called 'asnorm'; did you mean as-norm?"),
        (["--scoring", "as-norm"], "as-norm needs a cohort: name recordings of other speakers with --cohort"),
        (["--qmf"], "quality-aware calibration needs a cohort"),
        (["--cohort", "cohort.csv"], "cosine needs no cohort"),
        (["--scoring", "as-norm", "--cohort", "gone.csv"], "gone.csv: no such file"),
        (["--scoring", "adapted-plda", "--cohort", "cohort.csv"], "adapted-plda and --adaptation need each other"),
        (["--scoring", "plda", "--qmf", "--cohort", "cohort.csv"], "can't be calibrated"),
        (["--scoring", "plda", "--cohort", "nameless.csv"], "plda needs a cohort with known speakers"),
        (["--scoring", "as-norm", "--cohort", "tested-nameless.csv"], "12 recordings of the cohort are in the trials"),
    ],
)
def test_what_is_wrong_is_told(evaluate, place, samples, monkeypatch, arguments, message):
    listing(samples, place / "nameless.csv", OTHERS, named=False)
    listing(samples, place / "tested-nameless.csv", TESTED, named=False)
    monkeypatch.chdir(place)
    done = evaluate(*arguments)
    assert (done.status, message in done.err) == (2, True), done.err


def test_breakdown(evaluate, place):
    done = evaluate()
    entry = json.loads(done.out)["entries"][0]
    gender = {part["group"]: part for part in entry["breakdown"]["gender"]}
    assert {name: (part["targets"], part["nontargets"]) for name, part in gender.items()} == {
        "f": (12, 16),  # allison and june
        "m": (6, 48),  # carlo alone: his targets against all nontargets
        "two genders": (18, 32),
    }
    assert "two genders" in (place / "report" / "report.html").read_text()
    assert "two genders" in (place / "report" / "report.md").read_text()
