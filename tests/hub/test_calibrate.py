from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from samevoice.audio import AudioError
from samevoice.audio.quality import Quality
from samevoice.hub import HubError
from samevoice.hub.calibrate import calibrate, labelled
from samevoice.runtime import Embedded

QUALITY = Quality(5, 4, 30, 0, 8000)


class FakeVerifier:
    """Embeds the recording "speaker/n" as its speaker's direction with noise; "bad" ones fail; last comes first."""

    def embed_each(self, paths):
        for index, path in reversed(list(enumerate(paths))):
            if "bad" in path:
                yield index, AudioError(path, "is bad")
                continue
            speaker, number = (int(part) for part in path.split("/"))
            voice = np.random.default_rng(speaker).standard_normal(24)
            noise = 0.7 * np.random.default_rng([speaker, number]).standard_normal(24)
            yield index, Embedded((voice + noise).astype(np.float32), QUALITY)


def all_of(items, total):
    assert total > 0
    return items


def speakers(first: int, last: int) -> list[tuple[str, str]]:
    return [(f"{speaker}/{number}", str(speaker)) for speaker in range(first, last) for number in range(4)]


def test_pairs_within_each_list_fit_the_card():
    lists = [[*speakers(0, 20), ("bad/1", "3")], speakers(20, 30)]
    calibration, failed = calibrate(FakeVerifier(), lists, "noise", all_of)
    assert [error.name for error in failed] == ["bad/1"]
    nontargets = 80 * 79 // 2 - 20 * 6 + 40 * 39 // 2 - 10 * 6
    assert calibration.data == f"noise: 120 recordings, 180 target and {nontargets:,} nontarget pairs"
    assert calibration.slope > 0
    assert -1 < -calibration.offset / calibration.slope < 1
    assert list(calibration.operating_points) == ["5%", "1%"]  # 0.5 % of 3780 pairs are fewer than 30
    for rate, point in calibration.operating_points.items():
        assert 0.9 * float(rate[:-1]) / 100 < point.false_alarm <= float(rate[:-1]) / 100
    assert calibration.operating_points["1%"].threshold > calibration.operating_points["5%"].threshold


@pytest.mark.parametrize("lists", [[], [speakers(0, 1)], [[("1/1", "1"), ("2/1", "2")]], [[("1/1", "1")]]])
def test_pairs_of_both_kinds_are_needed(lists):
    with pytest.raises(ValueError, match="calibration needs both"):
        calibrate(FakeVerifier(), lists, "noise", all_of)


def test_labels_from_folders_and_tables(tmp_path):
    for name in ("ann/1.wav", "ann/deep/2.flac", "bob/1.wav", "stray.wav", "ann/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path)
    found = [(str(Path(file).relative_to(root)), speaker) for file, speaker in labelled(tmp_path)]
    assert found == [("ann/1.wav", "ann"), ("ann/deep/2.flac", "ann"), ("bob/1.wav", "bob")]
    table = tmp_path / "list.csv"
    table.write_text("speaker,path\nann,ann/1.wav\nbob,/elsewhere/b.wav\n")
    assert labelled(table) == [(f"{root}/ann/1.wav", "ann"), ("/elsewhere/b.wav", "bob")]
    assert labelled(table, Path("/root"))[0] == ("/root/ann/1.wav", "ann")


@pytest.mark.parametrize("content", [None, b"file,name\na.wav,ann\n", b"\xff\xfe\x00"])
def test_other_files_are_told(content, tmp_path):
    if content is not None:
        (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(HubError, match="neither a folder nor a CSV with the columns path and speaker"):
        labelled(tmp_path / "list.csv")
