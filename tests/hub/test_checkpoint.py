import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from samevoice.hub import HubError
from samevoice.hub.checkpoint import read_checkpoint

torch = pytest.importorskip("torch", reason="writes checkpoints with torch")


def state() -> dict:
    base = torch.arange(24.0)
    return {
        "plain": torch.randn(2, 3, 4),
        "strided": base[1::2],
        "transposed": base.view(4, 6).t(),
        "shared": base[4:10],
        "expanded": torch.tensor([7.0]).expand(3),
        "half": torch.randn(5).half(),
        "double": torch.randn(5).double(),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "scalar": torch.tensor(12),
        "int32": torch.tensor([1, -2], dtype=torch.int32),
        "int16": torch.tensor([1, -2], dtype=torch.int16),
        "int8": torch.tensor([1, -2], dtype=torch.int8),
        "uint8": torch.tensor([1, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 3),
    }


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3, "lr": 0.1}, lambda s: {"model": s}]
)
def test_real_checkpoints_are_read(wrap, tmp_path):
    given = state()
    torch.save(wrap(given), tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert list(found) == list(given)
    for name, value in given.items():
        expected = value.detach().numpy()
        assert found[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(found[name], expected)


def test_a_modules_state_dict_with_its_metadata(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3), torch.nn.BatchNorm1d(3))
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    network.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()}, strict=True)
    assert found["1.num_batches_tracked"].shape == ()


class Storage:
    """Stands for a storage in a pickle made by hand."""

    def __init__(self, *identity):
        self.identity = identity


class Call:
    """Unpickles as function(*arguments)."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.identity if isinstance(obj, Storage) else None


def write(path, content, values=(0, 1, 2, 3)):
    """A checkpoint whose pickle is this object, or these bytes, with one storage "0"."""
    if not isinstance(content, bytes):
        file = io.BytesIO()
        Pickler(file, 2).dump(content)
        content = file.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/data/0", np.array(values, np.float32).tobytes())
    return path


def tensor(*cut, storage=None):
    """A pickled tensor: offset, size, stride of the storage."""
    from torch._utils import _rebuild_tensor_v2

    storage = storage or Storage("storage", torch.FloatStorage, "0", "cpu", 4)
    return {"a": Call(_rebuild_tensor_v2, storage, *cut, False, None)}


def test_a_checkpoint_made_by_hand_is_read(tmp_path):
    found = read_checkpoint(write(tmp_path / "a.pt", tensor(1, (3,), (1,))))
    assert found["a"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "cut",
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (3,), (2,)),
        (0, (2, 3), (2, 1)),
        (-1, (4,), (1,)),
        (3, (4,), (-1,)),
        (0, (-4,), (1,)),
        (0, (2, 2), (1,)),
        (4, (1,), (1,)),
        (2**70, (1,), (1,)),
        (0, (1,), (2**70,)),
        (0, (4.0,), (1,)),
        (0, (2**40,), (0,)),  # four bytes that would become terabytes
        (0, ("x",), (1,)),
        (0, None, None),
    ],
    ids=str,
)
def test_tensors_outside_of_their_storage_are_refused(cut, tmp_path):
    with pytest.raises(HubError, match=r"a\.pt: refused or damaged checkpoint"):
        read_checkpoint(write(tmp_path / "a.pt", tensor(*cut)))


def test_a_small_file_can_not_fill_the_memory(tmp_path):
    def overlapping(rows: int):
        storage = Storage("storage", torch.FloatStorage, "0", "cpu", 2 * rows)
        return write(tmp_path / "a.pt", tensor(0, (rows, rows), (1, 1), storage=storage), range(2 * rows))

    assert read_checkpoint(overlapping(1000))["a"][999, 999] == 1998  # fine in small
    with pytest.raises(HubError, match="repeats"):
        read_checkpoint(overlapping(50000))


@pytest.mark.parametrize(
    "storage",
    [
        "x",
        Storage("storage", torch.FloatStorage, "1", "cpu", 4),
        Storage("storage", torch.FloatStorage, "../../0", "cpu", 4),
        Storage("storage", torch.FloatStorage, "0", "cpu", 5),
        Storage("module", torch.FloatStorage, "0", "cpu", 4),
        Storage("storage", "FloatStorage", "0", "cpu", 4),
        Storage("storage"),
    ],
    ids=lambda s: str(getattr(s, "identity", s)),
)
def test_strange_storages_are_refused(storage, tmp_path):
    with pytest.raises(HubError, match="refused or damaged checkpoint"):
        read_checkpoint(write(tmp_path / "a.pt", tensor(0, (4,), (1,), storage=storage)))


@pytest.mark.parametrize(
    "call",
    [
        lambda path: Call(os.system, f"touch {path}"),
        lambda path: Call(eval, f"open({str(path)!r}, 'w')"),
        lambda path: Call(exec, f"open({str(path)!r}, 'w')"),
        lambda path: Call(open, str(path), "w"),
        lambda path: Call(np.save, str(path), [1]),
        lambda path: Call(torch.save, {}, str(path)),
        lambda path: Call(torch.load, str(path)),
        lambda path: Call(io.FileIO, str(path), "w"),
    ],
)
def test_nothing_that_the_file_says_is_run(call, tmp_path):
    bait = tmp_path / "pwned"
    for content in ({"a": call(bait)}, [call(bait)], {**tensor(0, (4,), (1,)), "b": call(bait)}):
        with pytest.raises(HubError, match="it asks for .*which a plain state dict has no need of"):
            read_checkpoint(write(tmp_path / "a.pt", content))
    assert not bait.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"cos\nsystem\n(S'true'\ntR.", b"\x80\x02}q\x00."])
def test_pickles_that_are_none_are_refused(content, tmp_path):
    with pytest.raises(HubError):
        read_checkpoint(write(tmp_path / "a.pt", content))


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {1: torch.ones(1)}, {"state_dict": {}}, "text"], ids=str)
def test_what_is_no_state_dict_is_told(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(HubError, match="holds no state dict"):
        read_checkpoint(tmp_path / "a.pt")


def test_compressed_zips_are_refused(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as a, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as b:
        for name in a.namelist():
            b.writestr(name, a.read(name))
    with pytest.raises(HubError, match="is compressed, which torch.save never does"):
        read_checkpoint(tmp_path / "b.pt")


def test_damage_is_told(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:-50])
    with pytest.raises(HubError, match="damaged or cut short"):
        read_checkpoint(path)
    path.write_bytes(content.replace(b"\x00\x00\x80?", b"\x00\x00\x81?", 1))
    with pytest.raises(HubError, match="damaged or cut short.*CRC"):
        read_checkpoint(path)


def test_other_formats_are_told_with_a_way_out(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "text.pt").write_text("text")
    for name in ("old.pt", "text.pt"):
        with pytest.raises(HubError, match="not a checkpoint in PyTorch's zip format.*write it again with torch.save"):
            read_checkpoint(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(HubError, match=r"without the data\.pkl"):
        read_checkpoint(tmp_path / "zip.pt")
    for missing in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(HubError, match="no such file"):
            read_checkpoint(missing)
