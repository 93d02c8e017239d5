import pytest

from samevoice.analysis import textgrid
from samevoice.analysis.textgrid import AlignmentError, Interval, Tier

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "anna - words"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.5
            text = "say ""no"" ! 3"
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.7
            mark = "ding"
    item [3]:
        class = "IntervalTier"
        name = "anna - phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 1e-1
            xmax = 1.5
            text = "ʃ"
"""
SHORT = """File type = "ooTextFile"
"TextGrid"
0
1.5 <exists> 3 ! three tiers, "so it says"
"IntervalTier" "anna - words" 0 1.5 2
0 0.5 ""
0.5 1.5 "say ""no"" ! 3"
"TextTier" "bell" 0 1.5 1
0.7 "ding"
"IntervalTier" "anna - phones" 0 1.5 1
0.1 1.5 "ʃ"
"""
TIERS = [
    Tier("anna - words", [Interval(0, 0.5, ""), Interval(0.5, 1.5, 'say "no" ! 3')]),
    Tier("anna - phones", [Interval(0.1, 1.5, "ʃ")]),
]


@pytest.mark.parametrize("content", [LONG, SHORT])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_forms_and_praats_encodings(tmp_path, content, encoding):
    (tmp_path / "a.TextGrid").write_bytes(content.encode(encoding))
    assert textgrid.read(tmp_path / "a.TextGrid") == TIERS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "it ends where a text should be"),
        ('"ooTextFile" "Sound" 0', "is not a TextGrid"),
        (LONG[: LONG.index("xmax = 0.5")], "it ends where a number should be"),
        (LONG.replace("xmax = 0.5", 'xmax = "half"'), "it has 'half' where a number should be"),
        (LONG.replace('"TextTier"', '"SomeTier"'), "unknown kind, 'SomeTier'"),
        (LONG.replace("points: size = 1", "points: size = 0.5"), "0.5 of something"),
    ],
)
def test_what_is_no_textgrid_is_told(tmp_path, content, message):
    (tmp_path / "a.TextGrid").write_text(content)
    with pytest.raises(AlignmentError, match=message):
        textgrid.read(tmp_path / "a.TextGrid")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.TextGrid").write_bytes(b"\xff\x00\xa0")
    with pytest.raises(AlignmentError, match="not text"):
        textgrid.read(tmp_path / "a.TextGrid")


def test_words_come_before_phones():
    words, phones, other = Tier("words", []), Tier("anna - phones", []), Tier("pitch", [])
    assert textgrid.words_and_phones([other, phones, words]) == [words, phones]
    assert textgrid.words_and_phones([other, phones]) == [phones]
    assert textgrid.words_and_phones([other, other, other]) == [other, other]


def test_shifted_leaves_out_what_is_over():
    tier = Tier("words", [Interval(0, 1, "a"), Interval(1, 2, "b"), Interval(2, 3, "c")])
    assert textgrid.shifted(tier, -1.5).intervals == [Interval(0, 0.5, "b"), Interval(0.5, 1.5, "c")]
