"""Label maps whose pixels are indices into a palette, as painting tools write them.

What a tool shows as colours is in the file as the number of each colour, and that is the label value. OpenCV
gives the colours alone. A PNG in grey holds the same bytes without the palette:

    signature | IHDR: width, height, 8 bits, kind 3 | PLTE | .. | IDAT | IEND
    signature | IHDR: width, height, 8 bits, kind 0        | .. | IDAT | IEND
"""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""What every PNG begins with."""
_HEADER = slice(16, 29)
"""What IHDR says: width, height (4 bytes each), bits a sample, kind of colour, three more."""
_INDEXED = bytes([8, 3])
_OF_THE_PALETTE = (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sPLT")
"""Chunks that mean colours, and are out of place or mean something else in grey."""


def is_indexed(png: bytes) -> bool:
    """Whether it is a PNG whose pixels are indices of 8 bits."""
    return png.startswith(SIGNATURE) and png[24:26] == _INDEXED


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
