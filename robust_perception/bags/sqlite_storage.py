"""One sqlite3 file of a bag being written: the tables of rosbag2, schema version 4.

Everything since the last `flush` is one transaction. When the process ends before the next, SQLite rolls it
back from its journal as soon as somebody opens the file for writing.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import suppress
from pathlib import Path

import zstandard

from robust_perception.bags import sqlite_rescue
from robust_perception.bags.errors import BagError
from robust_perception.bags.mcap_chunk import ZSTD_LEVEL
from robust_perception.bags.metadata import VERSION, TopicInfo

SUFFIX = ".db3"

_TABLES = """
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
  serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL,
  type_description_hash TEXT NOT NULL);
CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
  encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
  data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
"""


class SqliteStorage:
    """The file; sqlite3.Error from any method means that it can only be ended.

    Args:
        path: the file; it must not exist.
        compress: compress every message with zstd.
        durable: `flush` waits for the disk.
    """

    def __init__(self, path: Path, compress: bool = False, durable: bool = False) -> None:
        self.path = path
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL) if compress else None
        # Kept open until the connection is closed: to close it takes SQLite's locks away.
        self._file = path.open("xb") if durable else None
        if self._file is None:
            path.open("xb").close()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA page_size = 32768")  # pictures: fewer pages to a message
        # SQLite would wait for the disk whenever its cache is full, every few pictures: `flush` does it.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_TABLES)
        distro = os.environ.get("ROS_DISTRO", "unknown")
        self._connection.execute("INSERT INTO schema VALUES (4, ?)", (distro,))
        self._types: set[tuple[str, str]] = set()
        self._counts: Counter[int] = Counter()
        self._pending: Counter[int] = Counter()
        self._span: tuple[int, int] | None = None
        self._new_span: tuple[int, int] | None = None
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes of the messages in it."""
        return self._bytes

    def add_topic(self, number: int, topic: TopicInfo) -> None:
        """Announce a topic; messages refer to it by its number, from 1 on."""
        self._begin()
        key = (topic.msgtype, topic.type_hash)
        if key not in self._types and topic.definition:
            self._types.add(key)
            self._connection.execute(
                "INSERT INTO message_definitions(topic_type, encoding, encoded_message_definition,"
                " type_description_hash) VALUES (?, ?, ?, ?)",
                (topic.msgtype, "ros2msg", topic.definition, topic.type_hash),
            )
        self._connection.execute(
            "INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)",
            (number, topic.name, topic.msgtype, "cdr", topic.qos_yaml, topic.type_hash),
        )

    def write(self, number: int, stamp_ns: int, published_ns: int, data: bytes) -> None:
        """Add a message; the time of publication has no place in this format."""
        self._begin()
        if self._compressor is not None:
            data = self._compressor.compress(data)
        self._connection.execute(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", (number, stamp_ns, data)
        )
        self._pending[number] += 1
        first, last = self._new_span or self._span or (stamp_ns, stamp_ns)
        self._new_span = (min(first, stamp_ns), max(last, stamp_ns))
        self._bytes += len(data)

    def flush(self) -> None:
        """Commit what was added."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
            self._counts.update(self._pending)
            self._pending.clear()
            self._span, self._new_span = self._new_span or self._span, None
            if self._file is not None:
                os.fdatasync(self._file.fileno())

    def counts(self) -> dict[int, int]:
        """Messages committed, by topic number."""
        return dict(self._counts)

    def span(self) -> tuple[int, int]:
        """Times of the first and the last message committed, ns; zeros when it has none."""
        return self._span or (0, 0)

    def close(self, metadata: str) -> None:
        """Commit, with the bag's metadata as YAML."""
        self._begin()
        self._connection.execute(
            "INSERT INTO metadata(metadata_version, metadata) VALUES (?, ?)", (VERSION, metadata)
        )
        self.flush()
        self._connection.close()
        self._close_file()

    def rescue(self) -> None:
        """End the file after a failed write: what was committed is in it."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        with suppress(sqlite3.Error):
            self._connection.close()
        self._close_file()
        if sqlite_rescue.unsettled(self.path):  # not even that could be undone in its place
            with suppress(BagError):
                sqlite_rescue.settle(self.path)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
