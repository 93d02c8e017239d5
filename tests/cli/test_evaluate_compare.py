"""`samevoice evaluate compare`: differences, fusion, and reports that can be read again."""

import json
from itertools import combinations

import numpy as np
import pytest

from samevoice.evaluation import bootstrap, metrics
from samevoice.evaluation.report.scores import read
from samevoice.evaluation.scoring import Fusion

SPEAKERS = ("allison-smith-en", "carlo-flora-it", "june-wallack-fr")
DEVELOPMENT = ("allison-smith-es", "ivrvoice-ru", "paola-dal-zot-it")
ENTRY = {"scoring": "cosine", "condition": "full, clean"}


@pytest.fixture
def evaluate(command, samples, tiny_model, tmp_path):
    """Evaluate the model, or one whose name and first weights differ, over all pairs of these speakers."""
    from shutil import copytree

    import onnx
    from onnx import numpy_helper

    copytree(tiny_model, tmp_path / "other")
    model = onnx.load(tmp_path / "other" / "model.onnx")
    weights = numpy_helper.to_array(model.graph.initializer[0])[::-1].copy()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "hidden"))
    onnx.save(model, tmp_path / "other" / "model.onnx")
    card = tmp_path / "other" / "card.yaml"
    card.write_text(card.read_text().replace("name: tiny", "name: other"))

    def run(output, speakers=SPEAKERS, model=tiny_model, extra=(), leave=0):
        files = [(f"{name}/{f.name}", name) for name in speakers for f in sorted((samples / name).glob("*.flac"))]
        pairs = [f"{int(a[1] == b[1])} {a[0]} {b[0]}" for a, b in combinations(files, 2)]
        trials = tmp_path / f"{'-'.join(speakers)}.txt" if not leave else tmp_path / "shorter.txt"
        trials.write_text("\n".join(pairs[leave:]) + "\n")
        given = ["--trials", trials, "--recordings", samples, "--cache", tmp_path / "kept", "--replicates", 0]
        done = command("evaluate", model, *given, *extra, "-o", tmp_path / output)
        assert done.status == 0, done.err
        return tmp_path / output

    run.other = tmp_path / "other"
    return run


@pytest.fixture
def compare(command):
    def run(*arguments):
        done = command("evaluate", "compare", *arguments, "--json")
        assert done.status == 0, done.err
        return json.loads(done.out)

    return run


def test_differences_are_those_of_the_bootstrap(evaluate, compare):
    a, b = evaluate("a"), evaluate("b", model=evaluate.other)
    first, second = compare(a, b, "--replicates", 50)
    assert "difference" not in first["entries"][0]
    told = second["entries"][0]["difference"]
    assert (told["model"], told["scoring"], told["trials"], told["of_one_alone"]) == ("tiny", "cosine", 66, 0)
    one, two = read(a / "scores.parquet"), read(b / "scores.parquet")
    who = one.speakers(np.arange(66))
    expected = bootstrap.paired(metrics.eer, one.of(ENTRY), two.of(ENTRY), one.labels, *who, replicates=50)
    assert told["eer"] == {"value": expected.value, "low": expected.low, "high": expected.high}
    assert told["eer"]["value"] == pytest.approx(second["entries"][0]["eer"] - first["entries"][0]["eer"])


def test_trials_of_one_alone_are_left_out_and_told(evaluate, compare, command):
    a, b = evaluate("a"), evaluate("b", leave=10)
    told = compare(a, b, "--replicates", 0)[1]["entries"][0]["difference"]
    assert (told["trials"], told["of_one_alone"]) == (56, 10)
    assert told["eer"] == {"value": 0, "low": None, "high": None}
    shown = command("evaluate", "compare", a, b, "--replicates", 0)
    assert "56 (10 of one alone left out)" in shown.out


def test_other_lists_and_reports_without_scores_have_no_difference(evaluate, compare):
    a, b, c = evaluate("a"), evaluate("b", DEVELOPMENT), evaluate("c")
    (c / "report.json").write_text((c / "report.json").read_text().replace('"scores": "scores.parquet"', '"x": ""'))
    found = compare(a, b, c, "--replicates", 0)
    assert found[1]["entries"][0]["difference"]["problem"] == "no targets and nontargets in common"
    assert found[2]["entries"][0]["difference"]["problem"].endswith("c was written without scores")


def test_what_compare_writes_can_be_compared_again(evaluate, compare, tmp_path):
    a, b = evaluate("a"), evaluate("b", model=evaluate.other)
    once = compare(a, b, "--replicates", 20, "-o", tmp_path / "both")
    assert json.loads((tmp_path / "both" / "report.json").read_text()) == once
    again = compare(tmp_path / "both", "--replicates", 20, "-o", tmp_path / "both")  # into the same folder too
    assert again == once
    turned = compare(b, tmp_path / "both", "--replicates", 20)
    assert [report["model"] for report in turned] == ["other", "tiny", "other"]
    value = once[1]["entries"][0]["difference"]["eer"]["value"]
    assert turned[1]["entries"][0]["difference"]["eer"]["value"] == pytest.approx(-value)
    page = (tmp_path / "both" / "report.html").read_text()
    assert "Differences on the trials that both scored" in page


def test_scorings_of_one_report_are_compared_with_its_first(evaluate, compare, samples, tmp_path):
    rows = [f"{file},{name}" for name in DEVELOPMENT for file in (samples / name).glob("*.flac")]
    (tmp_path / "cohort.csv").write_text("\n".join(["path,speaker", *rows]))
    extra = ["--scoring", "cosine", "--scoring", "s-norm", "--cohort", tmp_path / "cohort.csv"]
    (report,) = compare(evaluate("a", extra=extra), "--replicates", 0)
    assert "difference" not in report["entries"][0]
    assert report["entries"][1]["difference"]["scoring"] == "cosine"


def test_fusion_is_fitted_on_development_trials(evaluate, compare, command, tmp_path):
    pytest.importorskip("sklearn")
    here = [evaluate("a"), evaluate("b", model=evaluate.other)]
    there = [evaluate("c", DEVELOPMENT), evaluate("d", DEVELOPMENT, evaluate.other)]
    found = compare(*here, "--fuse", there[0], "--fuse", there[1], "--replicates", 0, "-o", tmp_path / "fused")
    assert [report["model"] for report in found] == ["tiny", "other", "fusion of tiny + other"]
    scores = [[read(place / "scores.parquet") for place in some] for some in (here, there)]
    inputs = [np.stack([one.of(ENTRY) for one in some], axis=1) for some in scores]
    fusion = Fusion().fit(inputs[1], scores[1][0].labels)
    llrs = fusion.transform(inputs[0])
    entry = found[2]["entries"][0]
    np.testing.assert_allclose(entry["weights"], fusion.weights_, rtol=1e-5)
    assert entry["development_trials"] == 66
    assert entry["cllr"] == pytest.approx(metrics.cllr(llrs, scores[0][0].labels), rel=1e-5)
    assert entry["eer"] == pytest.approx(metrics.eer(llrs, scores[0][0].labels))
    np.testing.assert_allclose(read(tmp_path / "fused" / "scores-3.parquet").of(ENTRY), llrs, rtol=1e-5)

    def refused(*arguments):
        done = command("evaluate", "compare", *arguments)
        assert done.status == 2
        return done.err

    same = refused(*here, "--fuse", here[0], "--fuse", here[1])
    assert "12 recordings are in the development trials too" in same
    assert "is of other, not of tiny" in refused(*here, "--fuse", there[1], "--fuse", there[0])
    assert "no trials in common" in refused(here[0], there[1], "--fuse", there[0], "--fuse", there[1])
    assert "2 systems and 1 development reports" in refused(*here, "--fuse", there[0])


@pytest.mark.parametrize("content", ["no JSON", "[1]", "{}", "[]", '{"entries": [1]}'])
def test_what_is_no_report_is_told(command, tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    done = command("evaluate", "compare", tmp_path)
    assert (done.status, "not a report of `samevoice evaluate`" in done.err) == (2, True), done.err
