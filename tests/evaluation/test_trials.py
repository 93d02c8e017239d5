import numpy as np
import pyarrow as pa
import pytest

from samevoice.evaluation import trials as lists
from samevoice.evaluation.trials import TrialError


def triples(trials):
    return [
        (trials.enrolments[e], trials.tests[t], bool(same))
        for e, t, same in zip(trials.enrol, trials.test, trials.labels, strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1 a b\n0 a c\n",
        "a b target\na c nontarget\n",
        "enrolment,test,label\na,b,1\na,c,0\n",
        "modelid\tsegmentid\tside\ttargettype\na\tb\ta\ttarget\na\tc\ta\timp\n",
    ],
)
def test_forms_are_told_apart(tmp_path, text):
    (tmp_path / "list").write_text(text)
    assert triples(lists.read(tmp_path / "list")) == [("a", "b", True), ("a", "c", False)]


@pytest.mark.parametrize("name", ["t.txt", "t.kaldi", "t.csv", "t.parquet"])
def test_what_is_written_is_read(tmp_path, name):
    rows = [("a", "b", True), ("c", "b", False), ("a", "d", False)]
    lists.write(lists.of_rows(rows), tmp_path / name)
    assert triples(lists.read(tmp_path / name)) == rows


def test_models_have_several_utterances(tmp_path):
    (tmp_path / "list").write_text("m x target\nm y nontarget\n")
    (tmp_path / "models").write_text("m a b\nm c\n")
    found = lists.read(tmp_path / "list", tmp_path / "models")
    assert found.members == (("a", "b", "c"),)
    assert found.utterances == ["a", "b", "c", "x", "y"]


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "list").write_text("1 a b\nperhaps a c\n")
    with pytest.raises(TrialError, match="line 2: 'perhaps'"):
        lists.read(tmp_path / "list")


def test_problems_are_found_before_embedding():
    rows = [
        ("a", "b", True),
        ("b", "a", False),
        ("a", "c", False),
        ("c", "a", False),
        ("d", "d", True),
        ("a", "e", True),
    ]
    found = lists.check(lists.of_rows(rows), {"a", "b", "c", "d"})
    assert found.fatal
    assert found.contradictory == (("a", "b"),)
    assert found.repeated == (("a", "c"),)
    assert found.with_itself == ("d",)
    assert (found.missing, found.lost) == (("e",), 1)
    assert len(found.lines()) == 4
    assert triples(lists.without(lists.of_rows(rows), {"a"})) == [("d", "d", True)]


def test_a_good_list_has_no_problems():
    assert lists.check(lists.of_rows([("a", "b", True), ("a", "c", False)]), {"a", "b", "c"}).lines() == []


def table() -> pa.Table:
    rows = [
        {"utterance": f"{s}-{v}-{i}", "speaker": f"s{s}", "session": f"{s}/{v}", "gender": "fm"[s % 2]}
        for s in range(6) for v in range(2) for i in range(3)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("kind", ["balanced", "same-gender", "cross-session"])
def test_made_lists(kind):
    about = {row["utterance"]: row for row in table().to_pylist()}
    made = lists.make(table(), kind, 20, seed=1)
    assert made.labels.sum() == 20 == (~made.labels).sum()
    assert triples(made) == triples(lists.make(table(), kind, 20, seed=1))
    assert triples(made) != triples(lists.make(table(), kind, 20, seed=2))
    assert not lists.check(made, about).lines()
    for a, b, same in triples(made):
        assert (about[a]["speaker"] == about[b]["speaker"]) == same
        assert kind != "same-gender" or about[a]["gender"] == about[b]["gender"]
        assert kind != "cross-session" or about[a]["session"] != about[b]["session"]


def test_exhaustive_is_every_pair():
    made = lists.make(table(), "exhaustive")
    assert len(made) == 36 * 35 // 2
    assert made.labels.sum() == 6 * (6 * 5 // 2)
    assert np.all(made.enrol < made.test)
