"""A page of text, lines, bars and matrices as SVG, in the colours of our reports' plots: for light and dark pages."""

import base64
import struct
import zlib
from html import escape

import numpy as np

from samevoice.evaluation.report.svg import STYLE

INK = "#3d86d6"  # of matrices, whose picture cannot follow the page: seen on white and on black


class Drawing:
    """Shapes on a page of this many pixels; (0, 0) is the upper left corner.

    title: what the picture shows, for readers that cannot see it.

    >>> page = Drawing(100, 40, "a greeting")
    >>> page.text(10, 20, "1 < 2")
    >>> "1 &lt; 2" in page.svg()
    True
    """

    def __init__(self, width: float, height: float, title: str):
        self.width = width
        self.height = height
        self.title = title
        self._shapes: list[str] = []

    def text(self, x: float, y: float, text: str, anchor: str = "start", tip: str = "") -> None:
        """anchor: start, middle or end of the text is at x. tip: seen under the mouse."""
        inside = escape(text) + (f"<title>{escape(tip)}</title>" if tip else "")
        self._shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{inside}</text>')

    def heading(self, x: float, y: float, text: str) -> None:
        self._shapes.append(f'<text class="title" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self._shapes.append(f'<path class="grid" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def bar(self, x: float, y: float, width: float, height: float) -> None:
        self._shapes.append(
            f'<rect class="s0 mark" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        )

    def matrix(self, x: float, y: float, width: float, height: float, values: np.ndarray) -> None:
        """values (rows, columns) in [0, 1], the first row on top: 0 is the page's own colour, 1 is the ink's."""
        place = f'x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" preserveAspectRatio="none"'
        picture = base64.b64encode(png(values, INK)).decode()
        self._shapes.append(
            f'<image {place} style="image-rendering:pixelated" href="data:image/png;base64,{picture}"/>'
        )

    def svg(self) -> str:
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        return "\n".join(
            [
                f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" {size} role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{STYLE}</style>",
                '<rect class="paper" width="100%" height="100%"/>',
                *self._shapes,
                "</svg>\n",
            ]
        )


def png(values: np.ndarray, ink: str) -> bytes:
    """A picture (rows, columns) of one ink, as opaque as the values in [0, 1] say."""
    values = np.asarray(values)
    rows, columns = values.shape
    pixels = np.empty((rows, columns, 4), np.uint8)
    pixels[..., :3] = tuple(bytes.fromhex(ink[1:]))
    pixels[..., 3] = np.rint(255 * np.clip(values, 0, 1))
    lines = np.zeros((rows, 1 + 4 * columns), np.uint8)  # each line starts with the number of its filter: 0, none
    lines[:, 1:] = pixels.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)  # 8 bits of red, green, blue and opacity
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
