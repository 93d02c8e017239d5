import os
import stat
import tempfile

import pytest

from samevoice.files import replacing


def test_the_file_appears_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # or the rename could not be atomic
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_in_its_place_is_named(tmp_path):
    with pytest.raises(IsADirectoryError) as error, replacing(tmp_path):
        pass
    assert error.value.filename == str(tmp_path)


def test_a_folder_that_can_not_be_written_to_names_the_file(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied", "/some/temporary.name")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(PermissionError) as error, replacing(tmp_path / "a.txt"):
        pass
    assert error.value.filename == str(tmp_path / "a.txt")


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.txt"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644
