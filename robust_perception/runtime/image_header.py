"""The size that a compressed image says it has, read before anything is decoded.

A header of a few bytes may announce any size, and a decoder makes room for it first: some hundred bytes of a
damaged JPEG can take gigabytes, and seconds. So what is decoded is what is understood here: the formats that
`image_transport` sends.
"""

from __future__ import annotations

import struct

from robust_perception.indexed_png import SIGNATURE

JPEG_START = b"\xff\xd8"

MOST_PIXELS = 1 << 26
"""Of a picture that is decoded: 8192x8192, 200 MB in colour."""

_TIFF = {b"II\x2a\0": "<", b"MM\0\x2a": ">"}
"""What a TIFF begins with, and the order of its bytes."""
_WIDTH, _HEIGHT = 256, 257
_KINDS = {3: "H", 4: "I"}
"""Of values of a TIFF that may be a size."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG behind which the size is."""
_MOST_STEPS = 1 << 16
"""From one marker or stray byte to the next; a picture has some hundred, megabytes of them take seconds."""
_SCAN = 0xDA
"""Marker of what the size must have been said before."""
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Markers without a length, and a byte FF that is none."""


def announced_size(data: memoryview) -> tuple[int, int] | None:
    """Width and height as a PNG, JPEG or TIFF announces them; None where it does not, or is none of them."""
    head = bytes(data[: len(SIGNATURE)])
    if head == SIGNATURE:
        return struct.unpack_from(">II", data, 16) if len(data) >= 24 else None
    if head[:4] in _TIFF:
        return _of_tiff(data, _TIFF[head[:4]])
    return _of_jpeg(data) if head.startswith(JPEG_START) else None


def _of_tiff(data: memoryview, order: str) -> tuple[int, int] | None:
    """What the first directory says: a count, and entries of tag, kind, number of values, value."""
    sizes = {}
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            if tag in (_WIDTH, _HEIGHT) and kind in _KINDS:
                (sizes[tag],) = struct.unpack_from(order + _KINDS[kind], data, entry + 8)
    except struct.error:  # it ends before
        return None
    return (sizes[_WIDTH], sizes[_HEIGHT]) if len(sizes) == 2 else None


def _of_jpeg(data: memoryview) -> tuple[int, int] | None:
    at = len(JPEG_START)
    for _ in range(_MOST_STEPS):
        if at + 9 > len(data):
            return None
        marker = data[at + 1]
        if data[at] != 0xFF:  # decoders look for the next marker
            at += 1
        elif marker == _SCAN:
            return None
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0xFF:  # any number of them may stand in front of a marker
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
