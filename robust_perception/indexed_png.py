"""Label maps whose pixels are indices into a palette, or take less than a byte, as painting tools write them.

What a tool shows as colours is in the file as the number of each colour, and that is the label value. OpenCV
gives the colours alone. A PNG in grey holds the same bytes without the palette:

    signature | IHDR: width, height, b bits, kind 3 | PLTE | .. | IDAT | IEND
    signature | IHDR: width, height, b bits, kind 0        | .. | IDAT | IEND

Where few values are enough, b is 1, 2 or 4, and OpenCV spreads those in grey over 0 to 255:

    what it gives = value * 255 / (2^b - 1)
"""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""What every PNG begins with."""
_HEADER = slice(16, 29)
"""What IHDR says: width, height (4 bytes each), bits a sample, kind of colour, three more."""
_GREY, _INDEXED = 0, 3
"""Kinds of colour."""
_BITS = (1, 2, 4, 8)
_OF_THE_PALETTE = (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sPLT")
"""Chunks that mean colours, and are out of place or mean something else in grey."""


def is_indexed(png: bytes) -> bool:
    """Whether it is a PNG whose pixels are indices."""
    return png.startswith(SIGNATURE) and len(png) > 25 and png[24] in _BITS and png[25] == _INDEXED


def step_of(png: bytes) -> int:
    """What OpenCV gives for the value 1 of a PNG in grey, or of an indexed one by `in_grey`; else 1."""
    told = png.startswith(SIGNATURE) and len(png) > 25 and png[24] in _BITS and png[25] in (_GREY, _INDEXED)
    return 255 // ((1 << png[24]) - 1) if told else 1


def in_grey(png: bytes) -> bytes:
    """An indexed PNG as one in grey, whose values are the indices; what is cut off stays so."""
    header = bytearray(png[_HEADER])
    header[9] = 0
    parts = [SIGNATURE, _chunk(b"IHDR", bytes(header))]
    at = _HEADER.stop + 4
    while at + 8 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        end = at + 12 + length
        if png[at + 4 : at + 8] not in _OF_THE_PALETTE:
            parts.append(png[at:end])
        at = end
    return b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
