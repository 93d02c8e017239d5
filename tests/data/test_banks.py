import pickle

import numpy as np
import pytest
import soundfile

pytest.importorskip("pyarrow")
from samevoice.data import manifest
from samevoice.data.banks import Bank, BankError, Banks, Recording, build, in_directory, in_manifest, response

RATE = 16000


@pytest.fixture
def tones(tmp_path):
    """Three recordings that tell where a slice is from: ramps of different slopes, 1 s, 0.5 s and 0.25 s."""
    folder = tmp_path / "tones"
    folder.mkdir()
    for number, seconds in enumerate((1.0, 0.5, 0.25)):
        ramp = np.arange(int(seconds * RATE), dtype=np.int16) * (number + 1) % 30000
        soundfile.write(folder / f"{number}.wav", ramp, RATE)
    return folder


@pytest.fixture
def bank(tones, tmp_path):
    return build("noise", in_directory(tones), tmp_path / "banks")[0]


def test_slices_are_the_recordings(bank, tones):
    for item in range(3):
        expected = soundfile.read(tones / f"{item}.wav", dtype="float32")[0]
        np.testing.assert_array_equal(bank.slice(item, 0, len(expected)), expected)
        np.testing.assert_array_equal(bank.slice(item, 1000, 500), expected[1000:1500])
        assert bank.slice(item, 0, 10).dtype == np.float32
        assert type(bank.slice(item, 0, 10)) is np.ndarray


def test_a_slice_goes_round_within_its_own_recording(bank, tones):
    expected = soundfile.read(tones / "2.wav", dtype="float32")[0]
    np.testing.assert_array_equal(bank.slice(2, 3000, 10000), np.resize(np.roll(expected, -3000), 10000))
    np.testing.assert_array_equal(bank.slice(2, 3000 + 7 * len(expected), 50), expected[3000:3050])


def test_samples_are_mapped_and_read_only(bank):
    assert isinstance(bank.samples, np.memmap)
    assert bank.samples.dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        bank.samples[0] = 1


def test_a_bank_travels_to_a_worker_without_its_samples(bank):
    bank.samples  # noqa: B018 (open it)
    packed = pickle.dumps(bank)
    assert len(packed) < 500
    np.testing.assert_array_equal(pickle.loads(packed).slice(1, 5, 50), bank.slice(1, 5, 50))


def test_places_depend_on_the_generator_alone_and_stay_inside(bank):
    def places():
        generator = np.random.default_rng(3)
        return [bank.place(generator, item % 3, 2000) for item in range(300)]

    found = places()
    assert found == places()
    assert all(start + 2000 <= bank.lengths[item] for item, start in found)
    assert len(set(found)) > 290


def test_a_bad_recording_is_told_and_the_others_are_there(tones, tmp_path):
    (tones / "broken.wav").write_bytes(b"RIFF nothing")
    bank, failed = build("music", in_directory(tones), tmp_path / "banks")
    assert len(bank) == 3
    assert [error.name for error in failed] == [str(tones / "broken.wav")]


def test_nothing_usable_leaves_the_old_bank(bank, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no")
    with pytest.raises(BankError, match="bad.wav"):
        build("noise", [Recording(str(tmp_path / "bad.wav"))], tmp_path / "banks")
    assert len(Bank(bank.folder)) == 3
    assert [path.name for path in sorted(bank.folder.iterdir())] == ["index.parquet", "samples.i16"]


def test_a_bank_that_was_cut_short_is_told(bank):
    path = bank.folder / "samples.i16"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(BankError, match="make the bank again"):
        Bank(bank.folder).slice(0, 0, 10)


def test_missing_banks_are_named(bank, tmp_path):
    banks = Banks(tmp_path / "banks")
    banks.need(["noise"])
    with pytest.raises(BankError, match="no bank of music, rir"):
        banks.need(["rir", "music", "noise"])
    with pytest.raises(BankError, match="no bank is here"):
        len(Bank(tmp_path / "nowhere"))


def test_impulse_responses_have_the_energy_one_and_start_at_their_direct_path(tmp_path):
    generator = np.random.default_rng(0)
    decay = np.exp(-6.9 * np.arange(8000) / 4000) * generator.standard_normal(8000) * 0.01
    rooms = np.zeros((9000, 2))
    rooms[700:8700, 0] += decay
    rooms[700, 0] = 0.9
    rooms[10, 1] = -0.5
    soundfile.write(tmp_path / "room.wav", rooms, RATE, subtype="FLOAT")
    bank, failed = build("rir", [Recording(str(tmp_path / "room.wav"))], tmp_path / "banks")
    assert not failed
    assert [name.rsplit("#")[1] for name in bank.names] == ["0", "1"]  # channels are never averaged
    assert bank.samples.dtype == np.float16
    first, direct = bank.impulse_response(0)
    assert direct == 40  # 2.5 ms
    assert int(np.abs(first).argmax()) == 40
    assert float(np.square(first.astype(np.float64)).sum()) == pytest.approx(1, abs=2e-3)
    second, direct = bank.impulse_response(1)
    assert direct == 10
    assert second[10] == -1
    assert len(second) == 11


def test_responses_end_where_they_have_decayed_by_60_db():
    decay = 10 ** (-3 * np.arange(16000) / 8000)  # 60 dB in half a second
    kept, direct = response(decay)
    assert direct == 0
    assert len(kept) == pytest.approx(8000, abs=3)
    assert len(response(np.ones(100000))[0]) == 32000  # at most 2 s


def test_talkers_are_different_people_as_long_as_there_are_enough(tmp_path):
    recordings = []
    for number in range(12):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.full(100, 1000, np.int16), RATE)
        recordings.append(Recording(str(path), f"talker{number % 4}"))
    bank = build("speech", recordings, tmp_path / "banks")[0]
    for seed in range(50):
        chosen = bank.items(np.random.default_rng(seed), 4)
        assert len(set(bank.groups[chosen])) == 4
    assert len(set(bank.items(np.random.default_rng(0), 7))) == 7  # more than talkers: no recording twice
    assert len(bank.items(np.random.default_rng(0), 20)) == 20


def test_a_manifest_says_the_kinds_and_the_talkers(tmp_path, tones):
    rows = [
        {"utterance": split, "speaker": speaker, "path": str(tones / "0.wav"), "offset": 0.0, "duration": 1.0,
         "rate": RATE, "split": split}
        for split, speaker in (("noise", "a"), ("rir-small", "b"), ("speech", "c"), ("train", "d"))
    ]  # fmt: skip
    rows.append(rows[2] | {"utterance": "second", "speaker": "e"})
    manifest.write(tmp_path / "m.parquet", rows)
    found = in_manifest(tmp_path / "m.parquet")
    assert {kind: [recording.group for recording in recordings] for kind, recordings in found.items()} == {
        "noise": [""],
        "rir": [""],
        "speech": ["c", "e"],
    }
