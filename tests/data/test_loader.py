import logging
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import soundfile

torch = pytest.importorskip("torch")
from recordings import encode  # noqa: E402

from samevoice.audio import AudioError, read  # noqa: E402
from samevoice.audio.fbank import FbankSettings, fbank  # noqa: E402
from samevoice.data import manifest  # noqa: E402
from samevoice.data.augment import LAP, WILD, Augmentation, from_mapping  # noqa: E402
from samevoice.data.banks import BankError, Banks, Recording, build  # noqa: E402
from samevoice.data.crops import read_crop  # noqa: E402
from samevoice.data.loader import Files, Loader  # noqa: E402
from samevoice.data.sampling import ShardBatches, ShuffledBatches, SpeakerBatches, crop, crop_start, key  # noqa: E402
from samevoice.data.shards import Shards, pack  # noqa: E402

RATE = 16000
UTTERANCES = 24
FBANK = FbankSettings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, samples):
    return tmp_path_factory.mktemp("loader")


@pytest.fixture(scope="module")
def table(folder, samples) -> pa.Table:
    """24 utterances of six speakers, 0.6 to 2.9 s: wav, flac, and stretches of one long file."""
    voice = read(samples / "june-wallack-fr" / "queue-periodic-announce.flac")
    long = np.resize(voice, 20 * RATE)
    soundfile.write(folder / "long.wav", long, RATE)
    rows = []
    for number in range(UTTERANCES):
        seconds = 0.6 + 0.1 * number
        row = {"utterance": f"u{number:02d}", "speaker": f"s{number % 6}", "rate": RATE, "duration": seconds}
        if number % 3 == 2:
            rows.append(row | {"path": str(folder / "long.wav"), "offset": 0.5 * number})
        else:
            path = folder / f"{number:02d}.{('wav', 'flac')[number % 3]}"
            soundfile.write(path, long[1000 * number :][: round(seconds * RATE)], RATE)
            rows.append(row | {"path": str(path), "offset": 0.0})
    return manifest.validate(pa.Table.from_pylist(rows))


@pytest.fixture(scope="module")
def banks(folder) -> Banks:
    generator = np.random.default_rng(0)
    for kind in ("noise", "music", "speech", "rir"):
        recordings = []
        for item in range(5):
            path = folder / f"{kind}{item}.wav"
            decay = np.exp(-np.arange(3 * RATE) / 800) if kind == "rir" else 1
            soundfile.write(path, 0.1 * generator.standard_normal(3 * RATE) * decay, RATE)
            recordings.append(Recording(str(path)))
        build(kind, recordings, folder / "banks")
    return Banks(folder / "banks")


def batches_of(table, banks, workers=0, augmentation=WILD, features=FBANK, epochs=(0, 1), seed=3, **share):
    loader = Loader(
        Files(table), ShuffledBatches(table, 4, seed, **share), 1.0, augmentation, banks, features, workers=workers
    )
    found = []
    for epoch in epochs:
        loader.batches.resume(epoch)
        found += list(loader)
    return found


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a.rows == b.rows
        assert a.plans == b.plans
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.inputs, b.inputs)


def test_the_same_batches_with_none_one_and_two_workers(table, banks):
    alone = batches_of(table, banks)
    assert {tuple(batch.inputs.shape) for batch in alone} == {(4, 98, 80)}
    assert all(batch.inputs.isfinite().all() for batch in alone)
    kinds = Counter(plan.kind for batch in alone for plan in batch.plans)
    assert len(kinds) >= 4  # something happens
    assert any(plan.codec for batch in alone for plan in batch.plans)
    for workers in (0, 1, 2):
        assert_same(alone, batches_of(table, banks, workers))


def test_another_seed_and_another_epoch_are_other_batches(table, banks):
    first = batches_of(table, banks)
    assert not torch.equal(first[0].inputs, batches_of(table, banks, seed=4)[0].inputs)
    assert [batch.rows for batch in first[:6]] != [batch.rows for batch in first[6:]]
    plans = [
        {row: plan for batch in part for row, plan in zip(batch.rows, batch.plans, strict=True)}
        for part in (first[:6], first[6:])
    ]
    assert sum(plans[0][row] != plans[1][row] for row in range(UTTERANCES)) > UTTERANCES // 2


def test_a_stopped_epoch_goes_on_where_it_was(table, banks):
    whole = batches_of(table, banks, epochs=(1,))
    loader = Loader(Files(table), ShuffledBatches(table, 4, 3), 1.0, WILD, banks, FbankSettings())
    loader.batches.resume(1, start=4)
    assert len(loader) == 2
    assert_same(whole[4:], list(loader))


def test_two_ranks_share_an_epoch(table, banks):
    whole = batches_of(table, banks, epochs=(0,))
    shares = [batches_of(table, banks, epochs=(0,), rank=rank, world=2) for rank in range(2)]
    rows = [{row for batch in share for row in batch.rows} for share in shares]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == set(range(UTTERANCES))
    one = {row: plan for batch in whole for row, plan in zip(batch.rows, batch.plans, strict=True)}
    two = {row: plan for share in shares for batch in share for row, plan in zip(batch.rows, batch.plans, strict=True)}
    assert one == two


def test_an_example_does_not_depend_on_its_batch(table, banks):
    settings = from_mapping({"base": "lap", "probability": 1.0})
    small = batches_of(table, banks, augmentation=settings, features=None, epochs=(0,))
    loader = Loader(Files(table), ShuffledBatches(table, 24, 3), 1.0, settings, banks)
    (large,) = list(loader)
    alone = {row: samples for batch in small for row, samples in zip(batch.rows, batch.inputs, strict=True)}
    for row, samples in zip(large.rows, large.inputs, strict=True):
        torch.testing.assert_close(samples, alone[row], atol=1e-5, rtol=1e-4)


def test_without_augmentation_an_example_is_its_crop(table):
    (batch,) = batches_of(table, None, augmentation=None, features=None, epochs=(0,))[:1]
    for row, samples in zip(batch.rows, batch.inputs.numpy(), strict=True):
        told = table.slice(row, 1).to_pylist()[0]
        whole = read(told["path"])[round(told["offset"] * RATE) :][: round(told["duration"] * RATE)]
        expected = crop(whole, RATE, key(3, 0, told["utterance"]))
        np.testing.assert_array_equal(samples, expected)


def test_features_are_kaldis(table):
    waves = batches_of(table, None, augmentation=None, features=None, epochs=(0,))[0]
    features = batches_of(table, None, augmentation=None, epochs=(0,))[0]
    for samples, found in zip(waves.inputs.numpy(), features.inputs.numpy(), strict=True):
        expected = fbank(samples, FbankSettings(subtract_mean=False))
        loud = expected > expected.max(1, keepdims=True) - 15
        assert np.abs(found - (expected - expected.mean(0)))[loud].max() < 5e-3


def test_sped_up_voices_are_other_speakers(table, banks):
    loader = Loader(Files(table), ShuffledBatches(table, 4, 3), 1.0, LAP, banks)
    assert (loader.speakers, loader.classes) == (6, 18)
    seen = set()
    for epoch in range(3):
        loader.batches.resume(epoch)
        for batch in loader:
            for row, label, plan in zip(batch.rows, batch.labels.tolist(), batch.plans, strict=True):
                assert label == row % 6 + 6 * (1.0, 0.9, 1.1).index(plan.speed)
                seen.add(label // 6)
    assert seen == {0, 1, 2}


def test_speakers_by_utterances(table, banks):
    loader = Loader(Files(table), SpeakerBatches(table, speakers=2, each=2), 1.0, Augmentation())
    for batch in loader:
        assert sorted(Counter(batch.labels.tolist()).values()) == [2, 2]


def test_shards_give_the_same_examples_as_files(table, banks, folder):
    pack(table, folder / "shards", size_mb=1, jobs=0)
    shards = Shards(folder / "shards")
    loader = Loader(shards, ShardBatches(shards.table, 4, 3), 1.0, LAP, banks, workers=1)
    packed = {
        shards.table["utterance"][row].as_py(): (plan, samples)
        for batch in loader
        for row, plan, samples in zip(batch.rows, batch.plans, batch.inputs, strict=True)
    }
    assert len(packed) == UTTERANCES
    for batch in batches_of(table, banks, augmentation=LAP, features=None, epochs=(0,)):
        for row, plan, samples in zip(batch.rows, batch.plans, batch.inputs, strict=True):
            found_plan, found = packed[table["utterance"][row].as_py()]
            assert found_plan == plan
            torch.testing.assert_close(found, samples, atol=2e-4, rtol=0)  # 16-bit FLAC of 16-bit wav


def test_an_unreadable_recording_is_named_and_another_takes_its_place(table, folder, caplog):
    broken = folder / "broken.wav"
    broken.write_bytes(b"RIFF and no more")
    paths = table["path"].to_pylist()
    paths[5] = str(broken)
    damaged = table.set_column(table.column_names.index("path"), "path", pa.array(paths))
    with caplog.at_level(logging.WARNING):
        found = batches_of(damaged, None, augmentation=None, features=None, epochs=(0,))
    assert "broken.wav" in caplog.text
    rows = [row for batch in found for row in batch.rows]
    assert len(rows) == UTTERANCES
    assert 5 not in rows
    for batch in found:
        twice = [row for row, count in Counter(batch.rows).items() if count == 2]
        for row in twice:
            places = [place for place, other in enumerate(batch.rows) if other == row]
            assert batch.labels[places].tolist() == [row % 6] * 2
            assert torch.equal(batch.inputs[places[0]], batch.inputs[places[1]])
    assert sum(max(Counter(batch.rows).values()) == 2 for batch in found) == 1


def test_a_batch_of_nothing_but_unreadable_recordings_is_an_error(table, folder):
    paths = pa.array([str(folder / "gone.wav")] * UTTERANCES)
    lost = table.set_column(table.column_names.index("path"), "path", paths)
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        batches_of(lost, None, augmentation=None, epochs=(0,))


def test_missing_banks_are_told_before_the_first_batch(table, tmp_path):
    with pytest.raises(BankError, match="no bank of"):
        Loader(Files(table), ShuffledBatches(table, 4), 1.0, LAP, Banks(tmp_path))


@pytest.mark.parametrize("name", ["voice.m4a", "voice.mp3", "voice.ogg", "voice.opus", "voice.flac"])
def test_crops_of_compressed_files_are_where_decoding_it_all_has_them(name, tmp_path, samples):
    voice = np.resize(read(samples / "june-wallack-fr" / "queue-periodic-announce.flac"), 12 * RATE)
    path = tmp_path / name
    if codec := {".m4a": "aac", ".mp3": "libmp3lame"}.get(path.suffix):
        whole = read(encode(path, voice, codec))
    else:
        subtype = {".ogg": "VORBIS", ".opus": "OPUS", ".flac": "PCM_16"}[path.suffix]
        soundfile.write(path, voice, RATE, format="FLAC" if path.suffix == ".flac" else "OGG", subtype=subtype)
        whole = soundfile.read(path, dtype="float32")[0]
    for number in range(6):
        start = crop_start(11 * RATE, RATE, number)
        found = read_crop(str(path), 0.5, 11.0, RATE, number)
        np.testing.assert_allclose(found, whole[start + RATE // 2 :][:RATE], atol=2e-3)


def test_crops_of_other_rates_and_channels(tmp_path, samples):
    voice = read(samples / "june-wallack-fr" / "queue-periodic-announce.flac", rate=44100)[: 4 * 44100]
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([voice, 0.5 * voice], 1), 44100, subtype="FLOAT")
    found = read_crop(str(path), 0.0, 4.0, 2 * RATE, key=5)
    start = crop_start(4 * RATE, 2 * RATE, 5)
    expected = read(path)[start : start + 2 * RATE]
    assert len(found) == 2 * RATE
    error = (found - expected)[200:-200]
    assert np.square(error).mean() < 2e-3 * np.square(expected).mean()  # its samples lie between ours


def test_crops_say_what_is_wrong(tmp_path):
    soundfile.write(tmp_path / "short.wav", np.zeros(RATE, np.int16), RATE)
    with pytest.raises(AudioError, match=r"short\.wav: has nothing at 5\.\d\d s"):
        read_crop(str(tmp_path / "short.wav"), 5.0, 2.0, RATE, 0)
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        read_crop(str(tmp_path / "nan.wav"), 0.0, 1.0, RATE, 0)
    (tmp_path / "text.m4a").write_text("not a recording")
    with pytest.raises(AudioError, match="can't be read"):
        read_crop(str(tmp_path / "text.m4a"), 0.0, 1.0, RATE, 0)
