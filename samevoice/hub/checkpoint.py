"""Read the tensors of a PyTorch checkpoint without PyTorch, and without running anything that the file says.

A `.pt` file (torch.save since 1.6) is a zip of raw storages and one small pickle which says how to cut tensors from
them. The reader knows the handful of names such a pickle needs and refuses every other.
"""

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.hub.errors import HubError

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_MOST_REPEATED = 1 << 20  # values of an expanded tensor: more of them would be a small file that fills the memory

# What unpickling nonsense can end in
_REFUSED = (
    pickle.UnpicklingError, AttributeError, EOFError, LookupError, MemoryError, OverflowError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Parameter names and arrays of the state dict in a `.pt`, `.ckpt` or `.bin` file.

    The state dict may be the whole file or sit under "state_dict" or "model". Raises HubError if the file is no such
    zip, is damaged, or its pickle asks for anything but plain tensors.
    """
    if not Path(path).is_file():
        raise HubError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            loaded = _Reader(archive, path).load()
    except zipfile.BadZipFile as error:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                raise HubError(f"{path}: damaged or cut short ({error}); copy it again") from None
        raise HubError(
            f"{path}: not a checkpoint in PyTorch's zip format; if it is an older one, load it with "
            "torch.load(weights_only=True) and write it again with torch.save"
        ) from None
    except _REFUSED as error:
        raise HubError(f"{path}: refused or damaged checkpoint: {error}") from None
    return _state_dict(loaded, path)


class _Reader(pickle.Unpickler):
    """Builds dictionaries, lists, numbers and arrays; any other global name is refused."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        index = next((n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")), None)
        if index is None:
            raise HubError(f"{path}: a zip, but without the data.pkl of a PyTorch checkpoint")
        self._archive = archive
        self._prefix = index[: -len("data.pkl")]
        byteorder = f"{self._prefix}byteorder"
        if byteorder in archive.namelist() and self._stored(byteorder) != b"little":
            raise HubError(f"{path}: written on a big-endian machine, which we don't read")
        super().__init__(io.BytesIO(self._stored(index)))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, requires_grad, hooks: data
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a plain state dict has no need of")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _device, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"unknown kind of storage {kind!r}")
        return np.frombuffer(self._stored(f"{self._prefix}data/{key}"), dtype, count)

    def _stored(self, name: str) -> bytes:
        if self._archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"{name} is compressed, which torch.save never does")
        return self._archive.read(name)


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor reaches outside of its storage")
    if math.prod(size) > max(len(storage), _MOST_REPEATED):
        raise pickle.UnpicklingError(f"a tensor of {math.prod(size)} values repeats {len(storage)} stored ones")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _state_dict(loaded: Any, path: Path) -> dict[str, np.ndarray]:
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    named = isinstance(loaded, dict) and all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in loaded.items()
    )
    if not loaded or not named:
        raise HubError(f"{path}: holds no state dict (parameter names to tensors)")
    return dict(loaded)
