"""Reads an MCAP file from front to back, up to where it is damaged, and says how it could end well.

A file whose writer was killed has no summary; one that was not copied to its end breaks off anywhere. All of
its whole chunks can be read, and of the one in which it breaks off the messages before the break, which are
put into a chunk of their own. What has to follow the whole chunks, that chunk and a summary, is the *tail*:

    file as it is:   magic header chunk index chunk index ch          (or anything that makes no sense)
    mended:          magic header chunk index chunk index | chunk' index' summary footer magic
                                                         keep

A chunk in the middle whose checksum is wrong is left out of the summary: which of its bytes are wrong nobody
knows. Where the records after a damage cannot be found by their lengths, the old summary tells, if it is
there, where the next chunk begins.
"""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, ChunkIndex, Header, MessageIndex, Schema

from robust_perception.bags.errors import BagError
from robust_perception.bags.mcap_chunk import Chunk
from robust_perception.bags.mcap_summary import MAGIC, Summary, record_bytes

BLOCK = 512
"""So many zeros at the end of a file are no message's: the least that a disk writes at once."""

_RECORD = struct.Struct("<BQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
"""First time, last time, uncompressed size, checksum, length of the compression's name."""


class Found(NamedTuple):
    """A record: opcode, offset of its content, content."""

    opcode: int
    offset: int
    content: bytes


@dataclass(frozen=True)
class Scan:
    """What a file has, and how it would end well.

    Attributes:
        path: the file.
        keep: bytes from its front that stay.
        tail: what has to follow them.
        messages: number of messages that can be read.
        problems: what is wrong with it, in words; empty = it is whole.
    """

    path: Path
    keep: int
    tail: bytes
    messages: int
    problems: tuple[str, ...]


class MendedFile:
    """A file as it would be with another tail; the way in which the reader of bags wants a path.

    Args:
        scan: of the file.
    """

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self.suffix = scan.path.suffix

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The mended content, to be read."""
        assert mode == "rb"
        return io.BufferedReader(_Mended(self._scan), 1 << 16)

    def exists(self) -> bool:
        """Whether it is there."""
        return self._scan.path.exists()

    def is_dir(self) -> bool:
        """It is a file."""
        return False

    def __str__(self) -> str:
        return str(self._scan.path)


class _Mended(io.RawIOBase):
    """Bytes of a file up to `keep`, then the tail."""

    def __init__(self, scan: Scan) -> None:
        self._file = scan.path.open("rb", buffering=0)
        self._keep, self._tail = scan.keep, scan.tail
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._at, 2: self._keep + len(self._tail)}[whence]
        if base + offset < 0:
            raise OSError(22, "Invalid argument")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if self._at < self._keep:
            self._file.seek(self._at)
            count = self._file.readinto(view[: self._keep - self._at]) or 0
        else:
            piece = self._tail[self._at - self._keep :][: len(view)]
            view[: len(piece)] = piece
            count = len(piece)
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def scan(path: Path) -> Scan:
    """Read a file from front to back.

    Raises:
        BagError: it is no MCAP file, or cannot be read at all.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Scanner(path, data).run()
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        msg = f"{path}: expected an MCAP file, got one that cannot be read: {error}"
        raise BagError(msg) from None


class _Scanner:
    """One pass over a file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._size = path, data, len(data)
        self._summary = Summary()
        self._problems: list[str] = []
        self._loose: Counter[int] = Counter()
        """Messages outside of chunks, or in chunks without an index, by channel."""
        self._loose_span: list[int] = []
        self._rest = Chunk()
        """Messages of the chunk in which the file breaks off."""
        self._left_out = False
        """Whether the chunk that was looked at last is damaged."""

    def run(self) -> Scan:
        if self._data[: len(MAGIC)] != MAGIC:
            msg = f"{self._path}: expected an MCAP file, got one that begins with {self._data[:8]!r}"
            raise BagError(msg)
        self._later: list[int] = []
        """Where chunks begin, by the summary the file has."""
        ended = self._read_end()
        keep = self._records()
        if not ended:
            self._problems.append("it has no end: its writer was killed, or it was not copied to its end")
        counts = self._summary.counts + self._loose + Counter(self._rest.counts)
        if not self._problems:
            return Scan(self._path, self._size, b"", counts.total(), ())
        # A file that breaks off in its first record has no header either.
        tail = record_bytes(Header("ros2", "robust_perception")) if keep == len(MAGIC) else b""
        if self._rest.counts and not self._loose:
            parts, index = self._rest.build(keep + len(tail), "")
            tail += b"".join(parts)
            self._summary.add_chunk(index, self._rest.counts)
        if self._loose:
            span = (min(self._loose_span), max(self._loose_span))
            tail += self._summary.end_without_index(
                keep + len(tail), self._loose + self._summary.counts, span
            )
        else:
            tail += self._summary.end(keep + len(tail))
        return Scan(self._path, keep, tail, counts.total(), tuple(self._problems))

    def _records(self) -> int:
        """Go through the records; how many bytes stay."""
        at = keep = len(MAGIC)
        while at + _RECORD.size <= self._size:
            opcode, length = _RECORD.unpack_from(self._data, at)
            begin, end = at + _RECORD.size, at + _RECORD.size + length
            if opcode in (Opcode.DATA_END, Opcode.FOOTER) and end <= self._size:
                return keep
            sensible = 0 < opcode <= Opcode.DATA_END or opcode >= 0x80
            if not sensible or end > self._size:
                if opcode == Opcode.CHUNK and not any(chunk > at for chunk in self._later):
                    self._broken_chunk(begin)
                    return keep
                self._problems.append(f"at byte {at} it makes no sense")
                following = [chunk for chunk in self._later if chunk > at]
                if not following or self._loose:
                    return keep
                at = following[0]
                continue
            if opcode == Opcode.CHUNK:
                after = self._chunk(at, begin, end)
                if after is None:
                    return keep
                at, left_out = after, self._left_out
            else:
                at, left_out = end, not self._is_sound(at, opcode, self._data[begin:end])
            if not left_out:  # one at the very end does not stay
                keep = at
        return keep

    def _is_sound(self, at: int, opcode: int, content: bytes) -> bool:
        """Take a record outside of chunks, or say that it is damaged."""
        try:
            self._record(opcode, content)
        except Exception as error:  # parsers of damaged bytes raise whatever they run into
            self._problems.append(f"the record at byte {at} is left out: {error!r}")
            return False
        return True

    def _record(self, opcode: int, content: bytes) -> None:
        """A record outside of chunks, or a schema or a channel inside of one."""
        stream = ReadDataStream(io.BytesIO(content))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self._summary.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            self._summary.channels[channel.id] = channel
        elif opcode == Opcode.MESSAGE:
            channel_id, _, stamp, _ = struct.unpack_from("<HIQQ", content)
            self._loose[channel_id] += 1
            self._loose_stamps(stamp, stamp)

    def _chunk(self, at: int, begin: int, end: int) -> int | None:
        """A chunk that is wholly in the file; the offset after its indexes, None where these break off."""
        after, offsets, indexed = end, {}, Counter[int]()
        while after + _RECORD.size <= self._size:
            opcode, length = _RECORD.unpack_from(self._data, after)
            if opcode != Opcode.MESSAGE_INDEX or after + _RECORD.size + length > self._size:
                break
            content = self._data[after + _RECORD.size : after + _RECORD.size + length]
            with suppress(Exception):  # a damaged index: the chunk counts as one without
                index = MessageIndex.read(ReadDataStream(io.BytesIO(content)))
                offsets[index.channel_id] = after
                indexed[index.channel_id] = len(index.records)
            after += _RECORD.size + length
        self._left_out = False
        counts = Counter[int]()
        try:
            first, last, size, crc, _ = _CHUNK_HEAD.unpack_from(self._data, begin)
            name, stored = self._chunk_data(begin, end)
            content = _decompress(stored, name, size)
            if len(content) != size or (crc and zlib.crc32(content) != crc):
                raise ValueError("its checksum is wrong")
            found = list(_records_in(content))
            for record in found:
                if record.opcode == Opcode.MESSAGE:
                    counts[struct.unpack_from("<H", record.content)[0]] += 1
                else:
                    self._record(record.opcode, record.content)
        except Exception as error:  # damaged bytes: decompressors raise errors of their own
            self._problems.append(f"the chunk at byte {at} is left out: {error}")
            self._left_out = True
            return after
        if counts == indexed:
            entry = ChunkIndex(
                chunk_length=end - at,
                chunk_start_offset=at,
                compression=name,
                compressed_size=len(stored),
                message_end_time=last,
                message_index_length=after - end,
                message_index_offsets=offsets,
                message_start_time=first,
                uncompressed_size=size,
            )
            self._summary.add_chunk(entry, dict(counts))
            return after
        if self._breaks_off(after):
            self._take(found)
            return None
        self._loose.update(counts)
        self._loose_stamps(first, last)
        return after

    def _loose_stamps(self, first: int, last: int) -> None:
        stamps = [*self._loose_span, first, last]
        self._loose_span = [min(stamps), max(stamps)]

    def _breaks_off(self, at: int) -> bool:
        """Whether no whole record begins here."""
        if at + _RECORD.size > self._size:
            return True
        opcode, length = _RECORD.unpack_from(self._data, at)
        return not opcode or at + _RECORD.size + length > self._size

    def _broken_chunk(self, begin: int) -> None:
        """The chunk in which the file breaks off: what is whole in it."""
        try:
            name, stored = self._chunk_data(begin, self._written())
            if name == "zstd":
                content = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
            elif name == "lz4":
                content = lz4.frame.LZ4FrameDecompressor().decompress(stored)
            else:
                content = stored
            found = list(_records_in(content, strict=False))
        except Exception:  # not even its head is there, or nothing of it decompresses
            found = []
        self._take(found)

    def _written(self) -> int:
        """Where the file ends but for zeros: a loss of power leaves blocks that were never written."""
        zeros = 0
        while zeros < self._size and not self._data[self._size - zeros - 1]:
            zeros += 1
        return self._size - zeros if zeros >= BLOCK else self._size

    def _take(self, found: list[Found]) -> None:
        for record in found:
            if record.opcode == Opcode.MESSAGE:
                channel, _, stamp, published = struct.unpack_from("<HIQQ", record.content)
                if channel in self._summary.channels:
                    self._rest.add_message(channel, stamp, published, record.content[22:])
                continue
            self._record(record.opcode, record.content)
            whole = _RECORD.pack(record.opcode, len(record.content)) + record.content
            self._rest.add_record(whole)

    def _chunk_data(self, begin: int, end: int) -> tuple[str, bytes]:
        """Compression and compressed bytes of a chunk, as far as they are in the file."""
        name_length = _CHUNK_HEAD.unpack_from(self._data, begin)[-1]
        at = begin + _CHUNK_HEAD.size
        if name_length > 32:
            raise ValueError("its head makes no sense")
        name = self._data[at : at + name_length].decode()
        (length,) = struct.unpack_from("<Q", self._data, at + name_length)
        at += name_length + 8
        return name, self._data[at : min(at + length, end)]

    def _read_end(self) -> bool:
        """Read the summary; whether the file has an end that makes sense."""
        try:
            with self._path.open("rb") as file:
                summary = make_reader(file).get_summary()
        except Exception:  # no end, or a damaged one
            return False
        if summary is not None:
            self._summary.schemas.update(summary.schemas)
            self._summary.channels.update(summary.channels)
            self._later = sorted(chunk.chunk_start_offset for chunk in summary.chunk_indexes)
        return True


def _records_in(content: bytes, strict: bool = True) -> Iterator[Found]:
    """The records of a chunk; a ValueError where they make no sense, or simply the end when not strict."""
    at = 0
    while at < len(content):
        if at + _RECORD.size > len(content):
            opcode, end = 0, at
        else:
            opcode, length = _RECORD.unpack_from(content, at)
            end = at + _RECORD.size + length
        sensible = opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE) or opcode >= 0x80
        if not sensible or end > len(content) or (opcode == Opcode.MESSAGE and length < 22):
            if strict:
                raise ValueError(f"its content makes no sense at byte {at}")
            return
        if opcode < 0x80:
            yield Found(opcode, at, content[at + _RECORD.size : end])
        at = end


def _decompress(data: bytes, compression: str, size: int) -> bytes:
    if compression == "zstd":
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    if compression == "lz4":
        return bytes(lz4.frame.decompress(data))
    if compression:
        raise ValueError(f"it is compressed by {compression!r}")
    return data
