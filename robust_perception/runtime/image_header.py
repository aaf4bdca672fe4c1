"""The size that a compressed image says it has, read before anything is decoded.

A header of a few bytes may announce any size, and a decoder makes room for it first: some hundred bytes of a
damaged JPEG can take gigabytes, and seconds.
"""

from __future__ import annotations

import struct

from robust_perception.indexed_png import SIGNATURE

JPEG_START = b"\xff\xd8"

MOST_PIXELS = 1 << 26
"""Of a picture that is decoded: 8192x8192, 200 MB in colour."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG behind which the size is."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""


def announced_size(data: memoryview) -> tuple[int, int] | None:
    """Width and height as a PNG or JPEG announces them; None where it does not, or is neither."""
    head = bytes(data[: len(SIGNATURE)])
    if head == SIGNATURE:
        return struct.unpack_from(">II", data, 16) if len(data) >= 24 else None
    return _of_jpeg(data) if head.startswith(JPEG_START) else None


def _of_jpeg(data: memoryview) -> tuple[int, int] | None:
    at = len(JPEG_START)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == 0xFF:  # any number of them may stand in front of a marker
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
