"""A chunk of an MCAP file being filled, without a copy of the messages in it.

A chunk is a list of parts, in order: records of schemas and channels, and for every message 31 bytes of its
own followed by the bytes of the message as they came. An uncompressed chunk is written part by part, a
compressed one is compressed part by part.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
import zstandard
from mcap.opcode import Opcode
from mcap.records import ChunkIndex, MessageIndex

from robust_perception.bags.mcap_summary import record_bytes

COMPRESSIONS = ("", "zstd", "lz4")
"""As a chunk names them; empty = none."""

ZSTD_LEVEL = 1
"""The quickest: a recorder shares the machine with what it records."""

MESSAGE = struct.Struct("<BQHIQQ")
"""Opcode, length, channel, sequence number, time of reception, time of publication; then the data."""

_CHUNK = struct.Struct("<BQQQQI")
_FIXED = 22
"""Bytes of a message record that its length counts beside the data."""


class Chunk:
    """Parts of a chunk and the index of its messages."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        """Bytes of all parts."""
        self._index: dict[int, MessageIndex] = {}
        self._first_ns, self._last_ns = 0, 0

    @property
    def counts(self) -> dict[int, int]:
        """Messages by channel."""
        return {channel: len(index.records) for channel, index in self._index.items()}

    def add_record(self, record: bytes) -> None:
        """Add the record of a schema or a channel."""
        self.parts.append(record)
        self.size += len(record)

    def add_message(self, channel: int, stamp_ns: int, published_ns: int, data: bytes) -> None:
        """Add a message; the bytes are kept, not copied."""
        if self._index:
            self._first_ns, self._last_ns = min(self._first_ns, stamp_ns), max(self._last_ns, stamp_ns)
        else:
            self._first_ns = self._last_ns = stamp_ns
        if channel not in self._index:
            self._index[channel] = MessageIndex(channel, [])
        self._index[channel].records.append((stamp_ns, self.size))
        self.add_record(MESSAGE.pack(Opcode.MESSAGE, _FIXED + len(data), channel, 0, stamp_ns, published_ns))
        self.add_record(data)

    def build(self, at: int, compression: str) -> tuple[list[bytes], ChunkIndex]:
        """The chunk and its message indexes as they are in a file.

        Args:
            at: offset at which it will be written.
            compression: one of COMPRESSIONS.

        Returns:
            Parts to be written one after the other, and the chunk's index.
        """
        crc = 0
        for part in self.parts:
            crc = zlib.crc32(part, crc)
        parts = _compressed(self.parts, self.size, compression)
        size = sum(map(len, parts))
        name = compression.encode()
        rest = struct.pack("<I", len(name)) + name + struct.pack("<Q", size)
        length = _CHUNK.size - 9 + len(rest) + size
        head = _CHUNK.pack(Opcode.CHUNK, length, self._first_ns, self._last_ns, self.size, crc) + rest
        offsets, indexes, end = {}, b"", at + 9 + length
        for channel, index in self._index.items():
            offsets[channel] = end + len(indexes)
            indexes += record_bytes(index)
        entry = ChunkIndex(
            chunk_length=9 + length,
            chunk_start_offset=at,
            compression=compression,
            compressed_size=size,
            message_end_time=self._last_ns,
            message_index_length=len(indexes),
            message_index_offsets=offsets,
            message_start_time=self._first_ns,
            uncompressed_size=self.size,
        )
        return [head, *parts, indexes], entry


def _compressed(parts: list[bytes], size: int, compression: str) -> list[bytes]:
    if not compression:
        return parts
    compress: Callable[[bytes], bytes]
    finish: Callable[[], bytes]
    if compression == "zstd":
        stream: Any = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj(size=size)
        head, compress, finish = b"", stream.compress, stream.flush
    else:
        stream = lz4.frame.LZ4FrameCompressor()
        head, compress, finish = stream.begin(source_size=size), stream.compress, stream.flush
    return [head, *(compress(part) for part in parts), finish()]
