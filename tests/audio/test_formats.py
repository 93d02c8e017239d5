from samevoice.audio import formats


def test_recordings_in_a_folder_are_known_by_their_endings(tmp_path):
    (tmp_path / "below" / "deeper").mkdir(parents=True)
    for name in ("b.WAV", "a.flac", "notes.txt", "wav", "below/c.m4a", "below/deeper/d.opus"):
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    expected = ["a.flac", "b.WAV", "below/c.m4a", "below/deeper/d.opus"]
    assert formats.in_folder(tmp_path) == [str(tmp_path / name) for name in expected]


def test_every_format_we_promise_is_looked_for():
    promised = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".webm", ".aac"}
    assert promised <= formats.SUFFIXES
