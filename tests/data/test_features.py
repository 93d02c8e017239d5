import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import soundfile

torch = pytest.importorskip("torch")
from samevoice.audio import read  # noqa: E402
from samevoice.audio.fbank import FbankSettings, fbank  # noqa: E402
from samevoice.data import features, manifest, sampling  # noqa: E402
from samevoice.data.augment import Augmentation, examples  # noqa: E402
from samevoice.data.augment.examples import assemble, augmented  # noqa: E402
from samevoice.data.augment.plan import Plan, Planner  # noqa: E402
from samevoice.data.augment.waveform import change_speed  # noqa: E402
from samevoice.data.banks import BankError, Banks, Recording, build  # noqa: E402
from samevoice.data.features import FeatureLoader, Features, FeaturesError, write  # noqa: E402
from samevoice.data.loader import Files, Loader  # noqa: E402
from samevoice.data.sampling import ShuffledBatches  # noqa: E402

RATE = 16000
FBANK = FbankSettings()
PLAIN = FbankSettings(subtract_mean=False)
VARIED = Augmentation(speed_range=(0.8, 1.25), probability=0.7, kinds=("reverb", "noise"), telephone=0.3, codec=0.2)
UTTERANCES, SPEAKERS, VIEWS, LONGEST = 20, 5, 3, 2.0
FILES = (features.FRAMES, features.TEACHER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def table(folder, speech) -> pa.Table:
    """20 utterances of five speakers, 1.2 to 3.1 s."""
    rows = []
    for number in range(UTTERANCES):
        path, seconds = folder / f"{number:02d}.wav", 1.2 + 0.1 * number
        soundfile.write(path, speech[2000 * number :][: round(seconds * RATE)], RATE)
        rows.append({"utterance": f"u{number:02d}", "speaker": f"s{number % SPEAKERS}", "path": str(path)})
        rows[-1] |= {"rate": RATE, "offset": 0.0, "duration": seconds}
    return manifest.validate(pa.Table.from_pylist(rows))


@pytest.fixture(scope="module")
def banks(folder) -> Banks:
    generator = np.random.default_rng(0)
    for kind in ("noise", "rir"):
        decay = np.exp(-np.arange(3 * RATE) / 800) if kind == "rir" else 1
        soundfile.write(folder / f"{kind}.wav", 0.1 * generator.standard_normal(3 * RATE) * decay, RATE)
        build(kind, [Recording(str(folder / f"{kind}.wav"))], folder / "banks")
    return Banks(folder / "banks")


@pytest.fixture(scope="module")
def made(folder, table, banks, tiny_model) -> Features:
    write(table, folder / "made", FBANK, VARIED, banks, VIEWS, LONGEST, 7, tiny_model, jobs=0)
    return Features(folder / "made")


def of(made: Features, row: int) -> np.ndarray:
    """All frames of a row."""
    return made.crop(row, made.table["frames"][row].as_py(), 0)


def contents(place) -> list[bytes]:
    return [(place / name).read_bytes() for name in FILES]


def test_the_first_view_is_the_utterance_itself(made, table):
    rows = made.table.to_pylist()
    assert [row["utterance"] for row in rows[:4]] == ["u00@0", "u00@1", "u00@2", "u01@0"]
    for number in (0, 5):  # shorter than LONGEST
        expected = fbank(read(table["path"][number].as_py()), PLAIN)
        row = VIEWS * number
        assert rows[row]["speaker"] == table["speaker"][number].as_py()
        assert (rows[row]["speed"], rows[row]["view"]) == (1.0, 0)
        assert rows[row]["duration"] == pytest.approx(table["duration"][number].as_py(), abs=1e-4)
        assert of(made, row).shape == expected.shape
        strong = expected > expected.max(1, keepdims=True) - 12  # float32's noise lies below
        assert np.abs(of(made, row) - expected)[strong].max() < 0.02


def test_a_view_is_one_new_voice_of_each_speaker(made):
    speeds: dict[tuple[str, int], set[float]] = {}
    for row in made.table.to_pylist():
        name, _, speed = row["speaker"].partition("@")
        assert (float(speed) if speed else 1.0) == row["speed"]
        speeds.setdefault((name, row["view"]), set()).add(row["speed"])
    assert len(speeds) == SPEAKERS * VIEWS
    assert all(len(drawn) == 1 for drawn in speeds.values())
    others = {drawn.pop() for (_, view), drawn in speeds.items() if view}
    assert len(others) > SPEAKERS
    assert all(0.8 <= speed <= 1.25 for speed in others)


@pytest.fixture
def one_thread():
    """As the workers have it: sums in another order can fall on another level of a telephone's few."""
    with examples.one_thread():
        yield


@pytest.mark.usefixtures("one_thread")
def test_what_a_view_heard_follows_from_its_keys(made, table, banks):
    planner = Planner(Augmentation(**{**VARIED.__dict__, "speed_range": None}), banks)
    plain = 0
    for row, told in enumerate(made.table.slice(0, 12).to_pylist()):
        if told["view"] == 0:
            continue
        number = row // VIEWS
        key = sampling.key(7, told["view"], f"u{number:02d}")
        own = sampling.key(7, told["view"], f"s{number % SPEAKERS}")
        assert told["speed"] == VARIED.drawn_speeds[sampling.below(own, 46)]
        whole = read(table["path"][number].as_py())
        length = min(int(len(whole) / told["speed"] + 1e-6), round(LONGEST * RATE))
        assert abs(told["duration"] * RATE - length) <= 1
        length = round(told["duration"] * RATE)
        source = Plan(told["speed"]).source_length(length)
        first = sampling.crop_start(len(whole), source, key)
        clean = change_speed(torch.from_numpy(whole[first : first + source])[None], told["speed"], length)[0].numpy()
        plan = planner.plan(key, length)
        plain += plan == Plan()
        heard = augmented(assemble([clean], [plan], banks, length))[0].numpy()
        expected = fbank(heard, PLAIN)
        strong = expected > expected.max(1, keepdims=True) - 10
        assert np.abs(of(made, row) - expected)[strong].max() < 0.05
    assert plain < 6  # something happens to most


def test_long_utterances_are_cut_at_another_place_in_each_view(folder, table, tmp_path):
    long = table.slice(UTTERANCES - 2)
    write(long, tmp_path / "cut", FBANK, Augmentation(), None, 3, 1.5, jobs=0)
    cut = Features(tmp_path / "cut")
    assert set(cut.table["duration"].to_pylist()) == {1.5}
    assert not np.array_equal(of(cut, 0), of(cut, 1))
    whole = fbank(read(long["path"][0].as_py()), PLAIN)
    # hops of 10 ms: the cut begins between two frames, so it resembles one stretch of the whole but isn't equal to it
    gaps = [np.abs(whole[i : i + 148] - of(cut, 1)).mean() for i in range(len(whole) - 148)]
    assert min(gaps) < 0.5 * np.median(gaps)


def test_a_view_that_repeats_another_is_computed_and_kept_once(table, tmp_path, tiny_model):
    write(table.slice(0, 3), tmp_path / "same", FBANK, Augmentation(), None, 2, 9.0, 0, tiny_model, jobs=0)
    same = Features(tmp_path / "same")
    assert same.table["start"].to_pylist()[0::2] == same.table["start"].to_pylist()[1::2]
    assert (tmp_path / "same" / features.FRAMES).stat().st_size == sum(same.table["frames"].to_pylist()[::2]) * 160
    assert np.array_equal(same.teacher[0::2], same.teacher[1::2])


def test_the_teacher_hears_the_clean_utterance_at_the_views_speed(made, table, tiny):
    assert made.teacher.shape == (UTTERANCES * VIEWS, 16)
    assert made.teacher.dtype == np.float32
    assert np.linalg.norm(made.teacher, axis=1) == pytest.approx(1, abs=1e-5)
    for row in (0, 1, 2):
        speed, samples = made.table["speed"][row].as_py(), round(made.table["duration"][row].as_py() * RATE)
        whole = torch.from_numpy(read(table["path"][0].as_py()))[None]
        expected = tiny.embed((change_speed(whole, speed, samples)[0].numpy(), RATE))
        assert made.teacher[row] @ expected / np.linalg.norm(expected) > 0.9999
    assert not np.allclose(made.teacher[0], made.teacher[1], atol=1e-3)


def test_two_processes_write_the_same_bytes(made, folder, table, banks, tiny_model, tmp_path):
    write(table, tmp_path / "two", FBANK, VARIED, banks, VIEWS, LONGEST, 7, tiny_model, jobs=2)
    assert contents(tmp_path / "two") == contents(folder / "made")
    assert Features(tmp_path / "two").table == made.table


def test_an_interrupted_folder_goes_on(made, folder, table, banks, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_BLOCK", 4)
    place, seen = tmp_path / "again", []

    def interrupted(items, total, what):
        for number, item in enumerate(items):
            seen.append(total)
            if number == 2:
                raise KeyboardInterrupt
            yield item

    for torn in (b"", b'{"views": [[0'):  # the second time after two blocks more
        with pytest.raises(KeyboardInterrupt):
            write(table, place, FBANK, VARIED, banks, VIEWS, LONGEST, 7, tiny_model, 0, interrupted)
        for name in FILES:
            with (place / name).open("ab") as file:
                file.write(b"half a block")
        with (place / features.JOURNAL).open("ab") as file:
            file.write(torn)
        with pytest.raises(FeaturesError, match="no finished features"):
            Features(place)
    write(table, place, FBANK, VARIED, banks, VIEWS, LONGEST, 7, tiny_model, 0)
    assert seen == [5] * 3 + [3] * 3
    assert contents(place) == contents(folder / "made")
    assert Features(place).table == made.table
    before = (place / features.INDEX).stat().st_mtime_ns
    write(table, place, FBANK, VARIED, banks, VIEWS, LONGEST, 7, tiny_model, 0)  # nothing is left to do
    assert (place / features.INDEX).stat().st_mtime_ns == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_while_it_writes(table, tmp_path):
    manifest.write(tmp_path / "table.parquet", table)
    program = """
import os, signal
from pathlib import Path
from samevoice.data import features, manifest
features._BLOCK = 4
add = features._Store.add
def killed(store, block):
    if store.blocks == 2:
        store._frames.write(b"x" * 10_000)
        store._frames.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    add(store, block)
features._Store.add = killed
features.write(
    manifest.read("table.parquet"), Path("killed"), features.FbankSettings(), features.Augmentation(), None, 1, 2.0,
    jobs=0,
)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_BLOCK", 4)
        total = []
        write(
            table, tmp_path / "killed", FBANK, Augmentation(), None, 1, 2.0, jobs=0,
            track=lambda items, n, what: total.append(n) or items,
        )  # fmt: skip
    assert total == [3]
    write(table, tmp_path / "whole", FBANK, Augmentation(), None, 1, 2.0, jobs=0)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_what_cannot_be_used_is_left_out_and_named(table, tmp_path, caplog, speech):
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "short.wav", speech[RATE : RATE + 300], RATE)
    rows = table.slice(0, 2).to_pylist()
    for name, seconds in (("silent", 2.0), ("short", 300 / RATE), ("missing", 1.0)):
        rows.append(rows[0] | {"utterance": name, "path": str(tmp_path / f"{name}.wav"), "duration": seconds})
    with caplog.at_level(logging.WARNING):
        write(
            manifest.validate(pa.Table.from_pylist(rows)), tmp_path / "out", FBANK, Augmentation(), None, 1, 9, jobs=0
        )
    assert Features(tmp_path / "out").table["utterance"].to_pylist() == ["u00@0", "u01@0"]
    for name in ("silent", "short", "missing"):
        assert f"left out: {name}" in caplog.text
    bad = manifest.validate(pa.Table.from_pylist(rows[2:]))
    with pytest.raises(FeaturesError, match="none of 3 utterances"):
        write(bad, tmp_path / "none", FBANK, Augmentation(), None, 1, 9, jobs=0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 8}, "seed 7, now it is 8"),
        ({"views": 2}, "views 3, now it is 2"),
        ({"teacher": None}, "teacher"),
        ({"longest": 3.0}, "longest 2.0, now it is 3.0"),
        ({"settings": FbankSettings(window="hamming")}, "features window povey, now it is hamming"),
        ({"augmentation": Augmentation(**{**VARIED.__dict__, "codec": 0.4})}, "augmentation codec 0.2, now it is 0.4"),
    ],
)
def test_a_folder_made_with_other_settings_is_refused(made, folder, table, banks, tiny_model, changed, named):
    asked = {"table": table, "folder": folder / "made", "settings": FBANK, "augmentation": VARIED, "banks": banks}
    asked |= {"views": VIEWS, "longest": LONGEST, "seed": 7, "teacher": tiny_model, "jobs": 0}
    with pytest.raises(FeaturesError, match=named):
        write(**asked | changed)


def test_what_the_frames_do_not_depend_on_may_change(made, folder, table, banks, tiny_model):
    masks = Augmentation(**{**VARIED.__dict__, "frequency_masks": 2})
    write(table, folder / "made", PLAIN, masks, banks, VIEWS, LONGEST, 7, tiny_model, jobs=0)
    with pytest.raises(FeaturesError, match="manifest 20 utterances"):
        write(table.slice(1), folder / "made", FBANK, VARIED, banks, VIEWS, LONGEST, 7, tiny_model, jobs=0)


def test_a_missing_bank_is_told_before_anything_is_written(table, tmp_path):
    with pytest.raises(BankError, match="noise"):
        write(table, tmp_path / "none", FBANK, VARIED, Banks(tmp_path), VIEWS, LONGEST, jobs=0)
    assert not (tmp_path / "none").exists()


def test_a_crop_starts_again_where_the_view_ends(made):
    frames = made.table["frames"][0].as_py()
    long = made.crop(0, frames + 30, key=1)
    assert np.array_equal(long[frames:], long[:30])
    places = {bytes(made.crop(0, 50, key)[0].tobytes()) for key in range(20 << 40, 60 << 56, 1 << 57)}
    assert len(places) > 5


def test_batches_are_those_of_the_other_loader(made, table):
    """On clean views at speed 1, as they are in audio."""
    batches = ShuffledBatches(made.table, 6, seed=1)
    loader = FeatureLoader(made, batches, 1.0, Augmentation(frequency_masks=1, codec=1.0), FBANK)
    audio = Loader(Files(table), ShuffledBatches(table, 6, seed=1), 1.0, None, None, FBANK)
    for batch in (next(iter(loader)), next(iter(audio))):
        assert batch.inputs.shape == (6, 98, 80)
        assert (batch.inputs.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
        assert len(batch.rows) == len(batch.plans) == 6
    assert len(loader) == 10
    assert loader.classes == len(set(made.table["speaker"].to_pylist())) > 2 * SPEAKERS
    for draws, batch in zip(batches, loader, strict=True):
        assert [row for row, _ in draws] == batch.rows
        names = sorted(set(made.table["speaker"].to_pylist()))
        speakers = [made.table["speaker"][row].as_py() for row in batch.rows]
        assert [names[label] for label in batch.labels] == speakers
        assert all(plan.frequency_masks and not plan.codec for plan in batch.plans)
    unmasked = FeatureLoader(made, batches, 1.0, settings=FBANK)
    for batch, (draws, other) in zip(loader, zip(batches, unmasked, strict=True), strict=True):
        crop = made.crop(*(draws[0][0], 98, draws[0][1]))
        assert other.inputs[0].numpy() == pytest.approx(crop - crop.mean(0), abs=1e-5)
        assert (batch.inputs != other.inputs).any()


def test_the_loader_goes_on_from_any_batch_and_epoch(made):
    loader = FeatureLoader(made, ShuffledBatches(made.table, 8, seed=2), 1.2, settings=PLAIN)
    loader.batches.resume(3)
    whole = [batch.inputs for batch in loader]
    loader.batches.resume(3, start=4)
    rest = [batch.inputs for batch in loader]
    assert len(rest) == len(whole) - 4 > 0
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))
    loader.batches.resume(4)
    assert not torch.equal(next(iter(loader)).inputs, whole[0])


def test_other_filter_banks_and_damaged_files_are_refused(made, table, tmp_path):
    with pytest.raises(FeaturesError, match="hamming"):
        FeatureLoader(made, ShuffledBatches(made.table, 6), 1.0, settings=FbankSettings(window="hamming"))
    write(table.slice(0, 2), tmp_path / "cut", FBANK, Augmentation(), None, 1, 2.0, jobs=0)
    os.truncate(tmp_path / "cut" / features.FRAMES, 1000)
    with pytest.raises(FeaturesError, match="has 1000 bytes"):
        Features(tmp_path / "cut")
