import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samevoice.data import manifest
from samevoice.data.manifest import ManifestError


def row(name: str, **changes) -> dict:
    given = {"utterance": name, "speaker": "ann", "path": f"ann/{name}.wav", "offset": 0.0, "duration": 1.5}
    return {**given, "rate": 16000, "split": "", "session": "", "gender": "f", "language": "", **changes}


def test_what_is_written_is_read(tmp_path):
    rows = [row("a"), row("b", speaker="bob", offset=2.25, rate=8000, split="dev", session="s", language="cy")]
    manifest.write(tmp_path / "m.parquet", rows)
    table = manifest.read(tmp_path / "m.parquet")
    assert table.schema.equals(manifest.SCHEMA, check_metadata=False)
    expected = [{**r, "path": str(tmp_path / r["path"])} for r in rows]
    assert table.to_pylist() == expected


def test_a_root_elsewhere_and_moved(tmp_path):
    manifest.write(tmp_path / "out" / "m.parquet", [row("a")], root=tmp_path / "corpus")
    paths = [manifest.read(tmp_path / "out" / "m.parquet", root)["path"].to_pylist() for root in (None, "/new")]
    assert paths == [[str(tmp_path / "corpus" / "ann" / "a.wav")], ["/new/ann/a.wav"]]


def test_absolute_paths_stay(tmp_path):
    manifest.write(tmp_path / "m.parquet", [row("a", path="/there/a.wav")])
    assert manifest.read(tmp_path / "m.parquet")["path"].to_pylist() == ["/there/a.wav"]


def test_columns_that_may_be_left_out_and_columns_of_your_own(tmp_path):
    rows = [{**row("a"), "age": 40}]
    for name in manifest.OPTIONAL:
        del rows[0][name]
    manifest.write(tmp_path / "m.parquet", rows)
    read = manifest.read(tmp_path / "m.parquet").to_pylist()[0]
    assert (read["split"], read["session"], read["gender"], read["language"], read["age"]) == ("", "", "", "", 40)


def test_other_tools_types_are_cast(tmp_path):
    table = pa.Table.from_pylist([row("a")])
    table = table.set_column(table.column_names.index("rate"), "rate", pa.array([16000], pa.int64()))
    table = table.set_column(table.column_names.index("offset"), "offset", pa.array([1], pa.int64()))
    pq.write_table(table, tmp_path / "m.parquet")
    assert manifest.read(tmp_path / "m.parquet")["offset"].to_pylist() == [1.0]


@pytest.mark.parametrize(("changes", "message"), [
    ({"speaker": None}, "column speaker is empty in 1 rows"),
    ({"speaker": ""}, "1 rows have an empty speaker, such as utterance 'a'"),
    ({"duration": 0.0}, "a duration that is not positive"),
    ({"duration": float("nan")}, "a duration that is not positive"),
    ({"offset": -0.5}, "a negative offset"),
    ({"rate": 0}, "a rate that is not positive"),
    ({"duration": "long"}, "column duration is not double"),
    ({"utterance": "b"}, "1 utterance names are there more than once, such as 'b'"),
])  # fmt: skip
def test_bad_rows_are_refused(tmp_path, changes, message):
    other = row("b", duration="1") if isinstance(changes.get("duration"), str) else row("b")
    with pytest.raises(ManifestError, match=message):
        manifest.write(tmp_path / "m.parquet", [row("a", **changes), other])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_named(tmp_path):
    pq.write_table(pa.Table.from_pylist([row("a")]).drop_columns(["speaker"]), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=r"m\.parquet: there is no column speaker"):
        manifest.read(tmp_path / "m.parquet")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "m.parquet").write_text("utterance,speaker\n")
    with pytest.raises(ManifestError, match="not a Parquet file"):
        manifest.read(tmp_path / "m.parquet")


def test_together(tmp_path):
    one, two = ([row(name, speaker=speaker)] for name, speaker in (("a", "1089"), ("b", "1089")))
    one, two = manifest.write(tmp_path / "1.parquet", one), manifest.write(tmp_path / "2.parquet", two)
    with pytest.raises(ManifestError, match="speaker '1089' is in libri and in mine; .* --prefix"):
        manifest.together({"libri": one, "mine": two})
    assert manifest.together({"libri": one, "mine": two}, shared_speakers=True)["utterance"].to_pylist() == ["a", "b"]
    with pytest.raises(ManifestError, match="more than once"):
        manifest.together({"libri": one, "again": one}, shared_speakers=True)


def test_an_empty_manifest(tmp_path):
    manifest.write(tmp_path / "m.parquet", [])
    assert len(manifest.read(tmp_path / "m.parquet")) == 0
