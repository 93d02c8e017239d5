import functools
import http.server
import json
import logging
import os
import pickle
import tarfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from data.corpora_made_up import put

from samevoice.audio import AudioError, read
from samevoice.data import corpora, manifest, sampling, shards
from samevoice.data.manifest import ManifestError
from samevoice.data.prepare import prepare
from samevoice.data.sampling import ShardBatches
from samevoice.data.shards import Shards

pytest.importorskip("webdataset", reason="shards are written with webdataset")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pa.Table:
    """Four speakers with 12 utterances each, of a quarter of a second, 8 kB."""
    place = put(tmp_path_factory.mktemp("people"), *(f"s{i % 4}/{i:02d}.wav" for i in range(48)), seconds=0.25)
    prepare(corpora.find("folder"), place, place / "m.parquet", jobs=0)
    return manifest.read(place / "m.parquet")


def pack(table, folder, size=0.1, **options) -> shards.Packed:
    """Shards of `size` MB: four of them."""
    options = {"jobs": 0, **options}
    return shards.pack(table, folder, size, **options)


@pytest.fixture
def packed(table, tmp_path) -> Path:
    pack(table, tmp_path / "shards")
    return tmp_path / "shards"


def members(tar: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(tar) as archive:
        return {member.name: member for member in archive}


def test_every_utterance_once_and_as_it_was(table, packed):
    there = Shards(packed)
    assert sorted(packed.glob("*.tar")) == [packed / f"{number:06d}.tar" for number in range(4)]
    assert sorted(there.table["utterance"].to_pylist()) == sorted(table["utterance"].to_pylist())
    originals = dict(zip(table["utterance"].to_pylist(), table["path"].to_pylist(), strict=True))
    for row, utterance in enumerate(there.table["utterance"].to_pylist()):
        assert there.content(row) == Path(originals[utterance]).read_bytes()
        assert (there.samples(row) == read(originals[utterance])).all()
    kept = ["utterance", "speaker", "duration", "rate", "session"]
    assert there.table.select(kept).sort_by("utterance").equals(table.select(kept).sort_by("utterance"))


def test_webdataset_reads_them(table, packed):
    import webdataset

    found = list(webdataset.WebDataset([str(p) for p in sorted(packed.glob("*.tar"))], shardshuffle=False))
    told = [json.loads(sample["json"]) for sample in found]
    assert Counter(row["speaker"] for row in told) == {f"s{i}": 12 for i in range(4)}
    assert {row["utterance"] for row in told} == set(table["utterance"].to_pylist())
    assert all(sample["wav"].startswith(b"RIFF") for sample in found)


def test_speakers_are_mixed_or_not(table, packed, tmp_path):
    speakers = [Counter(row["speaker"] for row in shards.search(tar)) for tar in sorted(packed.glob("*.tar"))]
    assert speakers == [{f"s{i}": 3 for i in range(4)}] * 4
    pack(table, tmp_path / "plain", mix=False)
    assert Shards(tmp_path / "plain").table["utterance"].to_pylist() == table["utterance"].to_pylist()


def test_the_same_seed_makes_the_same_bytes(table, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pack(table, tmp_path / name, seed=seed, jobs=2 if name == "b" else 0)
    a, b, c = ([p.read_bytes() for p in sorted((tmp_path / name).glob("*.tar"))] for name in "abc")
    assert a == b
    assert a != c


def test_packing_goes_on_where_it_stopped(table, tmp_path, monkeypatch):
    write, written = shards._write, []

    def stop_after_two(job):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(job.tar.name)
        write(job)

    monkeypatch.setattr(shards, "_write", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        pack(table, tmp_path / "s")
    assert not (tmp_path / "s" / shards.INDEX).exists()
    monkeypatch.setattr(shards, "_write", write)
    first = (tmp_path / "s" / "000000.tar").stat().st_mtime_ns
    result = pack(table, tmp_path / "s")
    assert (result.shards, result.written, result.utterances) == (4, 2, 48)
    assert (tmp_path / "s" / "000000.tar").stat().st_mtime_ns == first
    assert pack(table, tmp_path / "s").written == 0
    with pytest.raises(ManifestError, match="shards of another manifest, seed or size"):
        pack(table, tmp_path / "s", seed=1)
    os.unlink(tmp_path / "s" / "plan.json")
    with pytest.raises(ManifestError, match="shards that we did not write"):
        pack(table, tmp_path / "s")


def test_pieces_and_conversion_become_flac(tmp_path):
    place = put(tmp_path / "in", "long.wav", seconds=2.0, rate=8000)
    rows = [("a", 0.0, 0.5), ("b", 1.0, 0.75), ("c", 0.0, 2.0)]
    common = {"path": str(place / "long.wav"), "speaker": "ann", "rate": 8000}
    given = [{"utterance": u, "offset": o, "duration": d, **common} for u, o, d in rows]
    table = manifest.write(tmp_path / "m.parquet", given)
    whole = read(place / "long.wav")
    pack(table, tmp_path / "s", mix=False)
    there = Shards(tmp_path / "s")
    assert there.table["path"].to_pylist() != there.table["utterance"].to_pylist()
    assert [os.path.splitext(p)[1] for p in there.table["path"].to_pylist()] == [".flac", ".flac", ".wav"]
    assert there.table["rate"].to_pylist() == [16000, 16000, 8000]
    for row, (_, offset, duration) in enumerate(rows):
        expected = whole[round(offset * 16000) : round((offset + duration) * 16000)]
        assert np.abs(there.samples(row) - expected).max() <= 1 / 32768
    pack(table, tmp_path / "f", mix=False, convert=True)
    assert Shards(tmp_path / "f").table["rate"].to_pylist() == [16000] * 3


def test_crops_are_those_of_the_files(table, packed):
    there = Shards(packed)
    originals = dict(zip(table["utterance"].to_pylist(), table["path"].to_pylist(), strict=True))
    for row in (0, 17, 40):
        utterance = there.table["utterance"][row].as_py()
        key = sampling.key(0, 3, utterance)
        for length in (1000, 6000):
            expected = sampling.crop(read(originals[utterance]), length, key)
            assert (there.crop(row, length, key) == expected).all()


def test_a_source_that_is_gone_is_left_out(table, tmp_path):
    paths = table["path"].to_pylist()
    paths[5] = str(tmp_path / "gone.wav")
    broken = table.set_column(table.column_names.index("path"), "path", pa.array(paths))
    result = pack(broken, tmp_path / "s")
    assert result.utterances == 47
    assert [(f.utterance, f.problem) for f in result.failed] == [
        (table["utterance"][5].as_py(), "No such file or directory")
    ]


def test_a_damaged_member_is_skipped_with_a_warning_that_names_it(packed, caplog):
    there = Shards(packed)
    row = 20
    shard, name, utterance = (there.table[column][row].as_py() for column in ("shard", "path", "utterance"))
    with (packed / shard).open("r+b") as file:
        file.seek(there.table["start"][row].as_py() + 1000)
        file.write(b"\xff" * 50)
    damaged = Shards(packed)
    with caplog.at_level(logging.WARNING):
        good = [row for row, _ in damaged.good()]
    assert good == [other for other in range(48) if other != row]
    member = f"{packed}/{shard}: {name} ({utterance})"
    assert [record.getMessage() for record in caplog.records] == [
        f"left out: {member}: is damaged (its checksum is wrong); copy the shard again"
    ]
    with pytest.raises(AudioError, match="checksum"):
        damaged.crop(row, 100, 0)


def test_a_shard_that_is_cut_off_or_gone(packed):
    there = Shards(packed)
    last = there.table["start"].to_pylist()[11]
    os.truncate(packed / "000000.tar", last + 10)
    with pytest.raises(AudioError, match=r"000000\.tar: 00000011\.wav .* is cut off"):
        Shards(packed).content(11)
    (packed / "000001.tar").unlink()
    with pytest.raises(AudioError, match=r"000001\.tar: no such shard"):
        Shards(packed).content(12)


def test_tars_without_an_index_are_searched(packed, caplog):
    whole = Shards(packed).table
    (packed / shards.INDEX).unlink()
    found = Shards(packed).table
    assert found.to_pylist() == whole.to_pylist()
    assert not caplog.records


def test_a_search_goes_on_after_damage_and_names_the_place(packed, caplog):
    tar = packed / "000002.tar"
    whole = members(tar)
    names = list(whole)
    with tar.open("r+b") as file:
        file.seek(whole[names[6]].offset)  # the header of the fourth sound or its json
        file.write(b"\x07" * 512)
    (packed / shards.INDEX).unlink()
    with caplog.at_level(logging.WARNING):
        rows = shards.search(tar)
    assert len(rows) == 11
    told = " ".join(record.getMessage() for record in caplog.records)
    assert f"damaged between {names[5]} and {names[7]}" in told
    assert names[6].partition(".")[0] in told
    os.truncate(tar, whole[names[20]].offset_data + 3)
    with caplog.at_level(logging.WARNING):
        assert len(shards.search(tar)) == 9
    assert "ends too early" in caplog.records[-2].getMessage() or "ends too early" in caplog.text


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(ManifestError, match="no index.parquet and no shards"):
        Shards(tmp_path)


def test_an_epoch_of_two_processes(packed):
    table = Shards(packed).table
    shard = np.array(table["shard"].to_pylist())
    parts = []
    for rank in range(2):
        batches = ShardBatches(table, 4, drop_last=False, rank=rank, world=2)
        parts.append([row for batch in batches for row, _ in batch])
    assert not set(parts[0]) & set(parts[1])
    assert sorted(parts[0] + parts[1]) == list(range(48))
    assert not set(shard[parts[0]]) & set(shard[parts[1]])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_epoch_is_the_same_with_any_number_of_workers(packed, workers):
    torch_data = pytest.importorskip("torch.utils.data", reason="needs torch")
    there = Shards(packed)

    class Crops(torch_data.Dataset):
        def __getitems__(self, draws):
            return [(row, there.crop(row, 500, key).sum()) for row, key in draws]

    batches = ShardBatches(there.table, 8, seed=5)
    batches.resume(3, 2)
    loader = torch_data.DataLoader(Crops(), batch_sampler=batches, num_workers=workers, collate_fn=list)
    expected = [[(row, there.crop(row, 500, key).sum()) for row, key in batch] for batch in batches]
    assert list(loader) == expected
    assert len(expected) == 4


def test_open_files_stay_here_when_it_is_sent_away(packed):
    there = Shards(packed)
    there.content(0)
    again = pickle.loads(pickle.dumps(there))
    assert again._files == {}
    assert again.content(0) == there.content(0)


@pytest.fixture
def address(packed):
    """The shards by HTTP, and the paths that were asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(packed)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_shards_at_an_address_are_fetched_once_and_kept(packed, address, tmp_path):
    place, asked = address
    here = Shards(packed)
    there = Shards(place, cache_folder=tmp_path / "kept")
    assert [there.content(row) for row in range(48)] == [here.content(row) for row in range(48)]
    assert sorted(asked) == ["/000000.tar", "/000001.tar", "/000002.tar", "/000003.tar", "/index.parquet"]
    again = Shards(place, cache_folder=tmp_path / "kept")
    assert again.content(47) == here.content(47)
    assert len(asked) == 5


def test_a_small_cache_keeps_the_latest(packed, address, tmp_path):
    place, asked = address
    size = (packed / "000000.tar").stat().st_size
    there = Shards(place, cache_folder=tmp_path / "kept", cache_gb=2.5 * size / 1e9)
    for row in range(0, 48, 12):
        there.content(row)
    kept = sorted(path.name for path in (tmp_path / "kept").glob("*.tar"))
    assert kept == ["000002.tar", "000003.tar"]
    assert there.content(1) == Shards(packed).content(1)  # still open
    assert len(asked) == 5


def test_other_addresses_by_fsspec(packed, tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
    memory = fsspec.filesystem("memory")
    for path in packed.iterdir():
        memory.pipe(f"/made-up/{path.name}", path.read_bytes())
    there = Shards("memory://made-up", cache_folder=tmp_path / "kept")
    assert there.content(30) == Shards(packed).content(30)


def test_an_address_that_is_not_there(address, tmp_path):
    with pytest.raises(AudioError, match=r"nothing/index\.parquet: can't be fetched \(.*ot found"):
        Shards(f"{address[0]}/nothing", cache_folder=tmp_path / "kept")


def test_an_empty_manifest_is_told(tmp_path):
    with pytest.raises(ManifestError, match="nothing to pack"):
        pack(manifest.SCHEMA.empty_table(), tmp_path / "s")


def test_opus_stays_opus(tmp_path, samples):
    place = tmp_path / "in" / "ann"
    place.mkdir(parents=True)
    soundfile.write(place / "a.opus", read(next(samples.rglob("*.flac")))[:16000], 16000, format="OGG", subtype="OPUS")
    prepare(corpora.find("folder"), tmp_path / "in", tmp_path / "m.parquet", jobs=0)
    pack(manifest.read(tmp_path / "m.parquet"), tmp_path / "s")
    there = Shards(tmp_path / "s")
    assert there.content(0) == (place / "a.opus").read_bytes()
    assert there.table["path"].to_pylist()[0].endswith(".opus")
