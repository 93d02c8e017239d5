"""How many parameters a model has, told without torch and without onnx."""

import math
from collections.abc import Iterator
from pathlib import Path

from samevoice.hub import graphs
from samevoice.hub.cards import Card
from samevoice.hub.errors import HubError

# Of onnx.proto: where the numbers that we read are
_GRAPH, _INITIALIZER, _DIMS, _TYPE, _NAME, _FLOATS = 7, 5, 1, 2, 8, (1, 10, 11, 16)
_STATISTICS = ("running_mean", "running_var")  # of BatchNorms: not trained


def parameters(card: Card, path: Path) -> int:
    """Of the network as it was trained where the card's graph says so; else of the floating-point weights in the ONNX
    file, where BatchNorms may have been folded (a thousandth less, about). Raises HubError, OSError.
    """
    shapes = graphs.parameters(card.graph) if card.graph else dict(initializers(path))
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))


def initializers(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of the floating-point weights in an ONNX file."""
    try:
        for number, graph in _fields(memoryview(path.read_bytes())):
            for inner, tensor in _fields(graph) if number == _GRAPH and isinstance(graph, memoryview) else ():
                if inner == _INITIALIZER and isinstance(tensor, memoryview):
                    dims, kind, name = _tensor(tensor)
                    if kind in _FLOATS:
                        yield name, dims
    except IndexError:
        raise HubError(f"{path}: not an ONNX model, or cut off") from None


def _tensor(data: memoryview) -> tuple[list[int], int, str]:
    dims: list[int] = []
    kind, name = 0, ""
    for number, value in _fields(data):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8", "replace")
    return dims, kind, name


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a protocol-buffer message; bytes and nested messages as they lie."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            length, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            if at + length > len(data):
                raise IndexError(at)
            value, at = data[at : at + length], at + length
        else:
            raise IndexError(kind)
        yield tag >> 3, value


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
