"""One MCAP file of a bag being written; after a failed write it can still be ended.

Chunks go to the file as soon as they are full or `flush` is called. Nothing is buffered in between, so what
has been flushed survives the end of the process, however it ends.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mcap.records import Channel, Header, Schema

from robust_perception.bags.mcap_chunk import Chunk
from robust_perception.bags.mcap_summary import MAGIC, Summary, record_bytes
from robust_perception.bags.metadata import TopicInfo

CHUNK_BYTES = 4 << 20
"""A chunk is written when it holds more: a picture and more, but little enough to be read for one message."""

CHUNK_PARTS = 500
"""A chunk is written when it has more: the system takes about a thousand parts in one write."""

SUFFIX = ".mcap"


class McapStorage:
    """The file; OSError from any method means that it can only be ended.

    Args:
        path: the file; it must not exist.
        compression: of chunks: "", "zstd" or "lz4".
        durable: `flush` waits for the disk.
    """

    def __init__(self, path: Path, compression: str = "", durable: bool = False) -> None:
        self.path = path
        self._compression, self._durable = compression, durable
        self._summary = Summary()
        self._schema_ids: dict[str, int] = {}
        self._chunk = Chunk()
        self._file = path.open("xb", buffering=0)
        self._end = 0
        """Offset after the last whole chunk."""
        self._synced = 0
        self._append([MAGIC + record_bytes(Header("ros2", "robust_perception"))])

    @property
    def size(self) -> int:
        """Bytes in the file and about to be."""
        return self._end + self._chunk.size

    def add_topic(self, number: int, topic: TopicInfo) -> None:
        """Announce a topic; messages refer to it by its number, from 1 on."""
        key = f"{topic.msgtype} {topic.type_hash}"
        if key not in self._schema_ids:
            identifier = self._schema_ids[key] = len(self._schema_ids) + 1
            encoding = "ros2msg" if topic.definition else ""
            schema = Schema(
                data=topic.definition.encode(), encoding=encoding, id=identifier, name=topic.msgtype
            )
            self._summary.schemas[identifier] = schema
            self._chunk.add_record(record_bytes(schema))
        channel = Channel(
            id=number,
            topic=topic.name,
            message_encoding="cdr",
            metadata={"offered_qos_profiles": topic.qos_yaml, "topic_type_hash": topic.type_hash},
            schema_id=self._schema_ids[key],
        )
        self._summary.channels[number] = channel
        self._chunk.add_record(record_bytes(channel))

    def write(self, number: int, stamp_ns: int, published_ns: int, data: bytes) -> None:
        """Add a message."""
        self._chunk.add_message(number, stamp_ns, published_ns, data)
        if self._chunk.size > CHUNK_BYTES or len(self._chunk.parts) > CHUNK_PARTS:
            self._end_chunk()

    def flush(self) -> None:
        """Hand everything to the system, and wait for the disk where that was asked for.

        A disk that is waited for every second writes evenly. One that is not lets the system gather
        gigabytes, and then stop the writer for seconds.
        """
        self._end_chunk()
        if self._durable:
            os.fdatasync(self._file.fileno())
            with suppress(OSError):  # a hint: nobody will read it soon, others want the memory
                os.posix_fadvise(self._file.fileno(), self._synced, 0, os.POSIX_FADV_DONTNEED)
            self._synced = self._end

    def _end_chunk(self) -> None:
        if not self._chunk.counts:
            return  # schemas and channels wait for the first message: a reader finds them in the summary too
        chunk, self._chunk = self._chunk, Chunk()
        parts, entry = chunk.build(self._end, self._compression)
        self._append(parts)
        self._summary.add_chunk(entry, chunk.counts)

    def counts(self) -> dict[int, int]:
        """Messages in the file, by topic number."""
        return dict(self._summary.counts)

    def span(self) -> tuple[int, int]:
        """Times of the first and the last message in the file, ns; zeros when it has none."""
        return self._summary.span

    def close(self, metadata: str) -> None:
        """Write the summary, with the bag's metadata as YAML."""
        self._append([self._summary.end(self._end, metadata)])
        self._file.close()

    def rescue(self) -> None:
        """End the file after a failed write: whole chunks only, as many as leave room for the summary.

        Where there is no room at all, the file has no summary and wants `bags.repair`.
        """
        with suppress(OSError, ValueError):  # a file that is closed already is whole
            while True:
                self._file.truncate(self._end)
                self._file.seek(self._end)
                try:
                    self._append([self._summary.end(self._end)])
                    break
                except OSError:
                    if not self._summary.recent:
                        self._file.truncate(self._end)
                        break
                    self._end = self._summary.take_back()
        self._file.close()

    def _append(self, parts: list[bytes]) -> None:
        """Write all of the parts at the end, or raise OSError."""
        size = sum(map(len, parts))
        done = os.writev(self._file.fileno(), parts)
        if done < size:  # a disk that is nearly full: writing the rest says so
            rest = memoryview(b"".join(parts))[done:]
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        self._end += size
