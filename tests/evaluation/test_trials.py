import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
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
        "modelid segmentid side targettype\na b a target\na c a nontarget\n",
        "\ufeffTest , Enrolment, Label\nb, a, true\nc, a, false\n",
        "1, a, b\n0, a, c\n",
        "a, b, target\na, c, nontarget\n",
        "1\ta\tb\n\n0\ta\tc\n",
    ],
)
def test_forms_are_told_apart(tmp_path, text):
    (tmp_path / "list").write_text(text)
    assert triples(lists.read(tmp_path / "list")) == [("a", "b", True), ("a", "c", False)]


def test_names_with_commas_and_spaces(tmp_path):
    (tmp_path / "spaces").write_text("1 a,b c\n0 a,b d\n")
    assert triples(lists.read(tmp_path / "spaces")) == [("a,b", "c", True), ("a,b", "d", False)]
    (tmp_path / "commas").write_text('enrolment,test,label\n"a,b",c d,1\n"a ""b""",c d,0\n')
    assert triples(lists.read(tmp_path / "commas")) == [("a,b", "c d", True), ('a "b"', "c d", False)]


@pytest.mark.parametrize("name", ["t.txt", "t.kaldi", "t.csv", "t.parquet"])
def test_what_is_written_is_read(tmp_path, name):
    rows = [("a", "b", True), ("c", "b", False), ("a", "d", False)]
    lists.write(lists.of_rows(rows), tmp_path / name)
    assert triples(lists.read(tmp_path / name)) == rows


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    spaced = lists.of_rows([("a b", "c", True)])
    for name in ("t.txt", "t.kaldi"):
        with pytest.raises(TrialError, match=f"{name}: 'a b' has spaces; write a .csv or .parquet"):
            lists.write(spaced, tmp_path / name)
    lists.write(spaced, tmp_path / "t.csv")
    assert triples(lists.read(tmp_path / "t.csv")) == [("a b", "c", True)]
    several = lists.of_rows([("m", "c", True)], {"m": ["a", "b"]})
    with pytest.raises(TrialError, match="can only be written to .parquet"):
        lists.write(several, tmp_path / "t.csv")
    lists.write(several, tmp_path / "t.parquet")
    assert lists.read(tmp_path / "t.parquet").members == (("a", "b"),)
    assert not list(tmp_path.glob(".*"))


def test_models_have_several_utterances(tmp_path):
    (tmp_path / "list").write_text("m x target\nm y nontarget\n")
    (tmp_path / "models").write_text("m a b\nm c\n")
    found = lists.read(tmp_path / "list", tmp_path / "models")
    assert found.members == (("a", "b", "c"),)
    assert found.utterances == ["a", "b", "c", "x", "y"]


def test_nist_enrolments_have_a_line_for_each_utterance(tmp_path):
    (tmp_path / "models").write_text("modelid\tsegmentid\tside\nm\ta\ta\nm\tb\ta\nm\ta\ta\n")
    assert lists.read_enrolments(tmp_path / "models") == {"m": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 a b\nperhaps a c\n", "list, line 2: 'perhaps' is neither target nor nontarget"),
        ("1 a b\n\n1 a\n", "list, line 3: 2 words, not the 3 of a trial: '1 a'"),
        ("1 my file b\n", "line 1: 4 words, not the 3 of a trial: '1 my file b'; names with spaces need commas"),
        ("enrolment,test,label\na,b\n", "line 2: 2 words, not the 3 of a trial"),
        ("enrolment,test\na,b\n", "the first line 'enrolment test' is neither"),
        ("enrolment,test,label\n", "list: holds no trials"),
        (" \n\n", "list: is empty"),
    ],
)
def test_what_is_wrong_with_a_list_is_told(tmp_path, text, problem):
    (tmp_path / "list").write_text(text)
    with pytest.raises(TrialError) as found:
        lists.read(tmp_path / "list")
    assert problem in str(found.value)


def test_what_is_no_list_is_told(tmp_path):
    for name in ("gone", "gone.parquet"):
        with pytest.raises(TrialError, match=f"{name}: no such file"):
            lists.read(tmp_path / name)
    for name in ("noise", "noise.parquet"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(TrialError, match=f"{name}: not a"):
            lists.read(tmp_path / name)
    pq.write_table(pa.table({"enrolment": ["a"], "label": [1]}), tmp_path / "t.parquet")
    with pytest.raises(TrialError, match="no column for the test; it has enrolment, label"):
        lists.read(tmp_path / "t.parquet")


def test_models_without_recordings_are_told(tmp_path):
    (tmp_path / "list").write_text("m x target\nn x nontarget\n")
    (tmp_path / "models").write_text("m a\n")
    with pytest.raises(TrialError, match="1 models have no enrolment recordings, such as n"):
        lists.read(tmp_path / "list", tmp_path / "models")
    (tmp_path / "models").write_text("m a\nn\n")
    with pytest.raises(TrialError, match="models, line 2: no utterance for n"):
        lists.read(tmp_path / "list", tmp_path / "models")


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


@pytest.mark.parametrize("kind", lists.KINDS)
def test_recordings_without_speaker_make_no_list(kind):
    rows = [*table().to_pylist(), {"utterance": "lone.wav", "speaker": "", "session": "x", "gender": "f"}]
    with pytest.raises(TrialError, match=r"1 of 37 recordings have no speaker, such as lone\.wav"):
        lists.make(pa.Table.from_pylist(rows), kind)


def test_lists_that_can_not_be_made_say_why():
    one_each = table().filter(pc.is_in(table()["speaker"], pa.array(["s0", "s1"])))
    with pytest.raises(TrialError, match="same-gender: 30 targets and 0 nontargets are all there are"):
        lists.make(one_each, "same-gender")
    with pytest.raises(TrialError, match="exhaustive: 15 targets and 0 nontargets"):
        lists.make(one_each.slice(0, 6), "exhaustive")
    for kind, column in (("same-gender", "gender"), ("cross-session", "session")):
        unknown = table().drop_columns(column).append_column(column, pa.array([""] * 36))
        with pytest.raises(TrialError, match=f"no recording has a {column}"):
            lists.make(unknown, kind)
    with pytest.raises(TrialError, match="unknown kind 'gender'; valid: balanced, same-gender"):
        lists.make(table(), "gender")
