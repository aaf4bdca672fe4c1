"""The end of an MCAP file: what is in its chunks and where they are, so that a reader need not search.

    magic  header  { chunk  message index ... }  data end | schemas  channels  chunk indexes | footer magic

What stands between the bars is the summary. Only offsets in it depend on where it is written; a file that
broke off is whole again once everything after its last whole chunk is replaced by a summary of the chunks
before. Records are those of the `mcap` library.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from typing import NamedTuple

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b"\x89MCAP0\r\n"
METADATA_NAME = "rosbag2"
"""Of the record in which `ros2 bag` keeps the metadata of a bag inside its file."""


def record_bytes(*records: McapRecord) -> bytes:
    """Records as they are in a file."""
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]


RECENT = 256
"""Chunks at the end that can be taken back."""


class Recent(NamedTuple):
    """What has to be known of a chunk to take it back.

    Attributes:
        start: its offset in the file.
        counts: its messages by channel.
        span: times of the first and the last message of all chunks before; None = there were none.
    """

    start: int
    counts: dict[int, int]
    span: tuple[int, int] | None


class Summary:
    """What has been written to an MCAP file; of old chunks only the bytes that will be written again."""

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] = Counter()
        """Messages by channel."""
        self._chunks: list[bytes] = []
        self._recent: deque[Recent] = deque(maxlen=RECENT)
        self._span: tuple[int, int] | None = None

    @property
    def recent(self) -> int:
        """Number of chunks that can be taken back."""
        return len(self._recent)

    @property
    def span(self) -> tuple[int, int]:
        """Times of the first and the last message; zeros when there is none."""
        return self._span or (0, 0)

    def add_chunk(self, index: ChunkIndex, counts: dict[int, int]) -> None:
        """Take note of a chunk that is in the file with its message indexes."""
        self._chunks.append(record_bytes(index))
        self._recent.append(Recent(index.chunk_start_offset, counts, self._span))
        self.counts.update(counts)
        first, last = self._span or (index.message_start_time, index.message_end_time)
        self._span = (min(first, index.message_start_time), max(last, index.message_end_time))

    def take_back(self) -> int:
        """Forget the last chunk; the offset at which it begins.

        Raises:
            IndexError: there is none that can be taken back.
        """
        chunk = self._recent.pop()
        self._chunks.pop()
        self.counts.subtract(chunk.counts)
        self._span = chunk.span
        return chunk.start

    def end(self, at: int, metadata: str = "") -> bytes:
        """Everything that stands after the last chunk.

        Args:
            at: offset at which it will be written.
            metadata: the bag's, as YAML; empty writes none.
        """
        head, metadata_indexes = b"", []
        if metadata:
            head = record_bytes(Metadata(METADATA_NAME, {"serialized_metadata": metadata}))
            metadata_indexes.append(MetadataIndex(at, len(head), METADATA_NAME))
        head += record_bytes(DataEnd(0))
        return head + self._summary(at + len(head), self.counts, self.span, metadata_indexes)

    def end_without_index(self, at: int, counts: Counter[int], span: tuple[int, int]) -> bytes:
        """The same for a file with messages outside of chunks or without indexes: readers go through it.

        Args:
            at: offset at which it will be written.
            counts: messages by channel.
            span: times of the first and the last message, ns.
        """
        head = record_bytes(DataEnd(0))
        chunks, self._chunks = self._chunks, []
        end = head + self._summary(at + len(head), counts, span, [])
        self._chunks = chunks
        return end

    def _summary(
        self, start: int, counts: Counter[int], span: tuple[int, int], metadata_indexes: list[MetadataIndex]
    ) -> bytes:
        statistics = Statistics(
            attachment_count=0,
            channel_count=len(self.channels),
            channel_message_counts=dict(sorted(counts.items())),
            chunk_count=len(self._chunks),
            message_count=counts.total(),
            metadata_count=len(metadata_indexes),
            message_start_time=span[0],
            message_end_time=span[1],
            schema_count=len(self.schemas),
        )
        groups = (
            (Opcode.SCHEMA, record_bytes(*self.schemas.values())),
            (Opcode.CHANNEL, record_bytes(*self.channels.values())),
            (Opcode.CHUNK_INDEX, b"".join(self._chunks)),
            (Opcode.METADATA_INDEX, record_bytes(*metadata_indexes)),
            (Opcode.STATISTICS, record_bytes(statistics)),
        )
        summary, offsets = b"", []
        for opcode, group in groups:
            if group:
                offsets.append(SummaryOffset(opcode, start + len(summary), len(group)))
                summary += group
        offsets_start = start + len(summary)
        summary += record_bytes(*offsets)
        # The checksum covers the summary and the footer up to the checksum itself, which is its last field.
        crc = zlib.crc32(summary + record_bytes(Footer(start, offsets_start, 0))[:-4])
        return summary + record_bytes(Footer(start, offsets_start, crc)) + MAGIC
