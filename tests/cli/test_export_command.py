import pytest


@pytest.mark.parametrize("missing", ["card.yaml", "model.safetensors"])
def test_folders_that_hold_no_network_are_told(missing, command, tmp_path, tiny_model):
    pytest.importorskip("safetensors")
    pytest.importorskip("torch")
    folder = tmp_path / "folder"
    folder.mkdir()
    if missing != "card.yaml":
        (folder / "card.yaml").write_bytes((tiny_model / "card.yaml").read_bytes())
    ended = command("export", folder, "-o", tmp_path / "new" / "a.onnx")
    assert ended.status == 2
    assert f"{missing}: no such file; `samevoice models convert` and training write such folders" in ended.err
    assert not (tmp_path / "new").exists()
