"""Writes bags that `ros2 bag` reads: raw CDR bytes into the files of a folder with `metadata.yaml`.

A bag is one file or, when it is split, several: `NAME_0.mcap`, `NAME_1.mcap`, ... Every file knows all
topics that were known when it was begun.

Not thread-safe: a bag belongs to the thread that writes it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import zstandard
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from robust_perception.bags import definitions, mcap_storage, metadata, sqlite_storage
from robust_perception.bags.definitions import Definition
from robust_perception.bags.errors import BagError
from robust_perception.bags.mcap_chunk import ZSTD_LEVEL
from robust_perception.bags.mcap_storage import McapStorage
from robust_perception.bags.metadata import FileInfo, TopicInfo
from robust_perception.bags.sqlite_storage import SqliteStorage

STORAGES = {
    "mcap": ("none", "zstd", "lz4"),
    "sqlite3": ("none", "message", "file"),
}
"""Storage -> the compressions it has. MCAP compresses its chunks; sqlite3 has what rosbag2 does around it, by
zstd: every message for itself, or a file when it is complete."""

COMPRESSIONS = tuple(dict.fromkeys(way for ways in STORAGES.values() for way in ways))
"""Those of any storage."""

SECOND_NS = 1_000_000_000
NAME_BYTES = 255 - len("_99999.db3-journal")
"""Most bytes of a bag's name: its files bear it, and 255 is what file systems of Linux allow to a name."""
SQLITE_PATH_BYTES = 504
"""Most bytes of a whole path that SQLite opens: 512, with room for the name of its journal."""
FOREVER = QosTime(9223372036, 854775807)
"""The duration by which `ros2 bag` says "no limit"."""


@dataclass(frozen=True)
class Split:
    """When a bag goes on in a new file; 0 = never for that reason."""

    size_bytes: int = 0
    """Before a file would hold more, unless a single message does."""
    seconds: float = 0.0
    """After so much time, by the stamps of the messages."""


@contextmanager
def whole_bag(path: Path, storage: str) -> Iterator[BagWriter]:
    """A bag that is written in one go: where that ends early, for whatever reason, none is left behind.

    Args:
        path: see `BagWriter`.
        storage: likewise.

    Raises:
        BagError: see `BagWriter`.
    """
    bag = BagWriter(path, storage)
    try:
        with bag:
            yield bag
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


class BagWriter:
    """A bag being written; use it as a context manager, for an unclosed bag has no metadata.

    Args:
        path: the bag's folder; it must not exist.
        storage: "mcap" or "sqlite3".
        compression: one of those that STORAGES names for the storage.
        split: when to go on in a new file.
        durable: `flush` waits for the disk, so that what was flushed survives a loss of power, too.

    Raises:
        BagError: the path exists, is too long or cannot be made, or storage or compression are unknown.
    """

    def __init__(
        self,
        path: Path | str,
        storage: str = "mcap",
        compression: str = "none",
        split: Split | None = None,
        durable: bool = False,
    ) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            msg = f"{self.path}: expected a storage out of {', '.join(STORAGES)}, got {storage!r}"
            raise BagError(msg)
        if compression not in STORAGES[storage]:
            there = ", ".join(STORAGES[storage])
            msg = f"{self.path}: expected a compression of {storage} out of {there}, got {compression!r}"
            raise BagError(msg)
        _check_length(self.path, storage)
        if self.path.exists():
            msg = f"{self.path}: expected a new path, got one that exists; remove it or take another"
            raise BagError(msg)
        self._storage, self._compression = storage, compression
        self._split, self._durable = split or Split(), durable
        self._topics: dict[str, TopicInfo] = {}
        self._numbers: dict[str, int] = {}
        self._files: list[FileInfo] = []
        self._counts: Counter[str] = Counter()
        self._first_ns: int | None = None
        self._ended = False
        try:
            self.path.mkdir(parents=True)
            self._file = self._open()
        except (OSError, sqlite3.Error) as error:
            msg = f"{self.path}: expected a folder that can be made, got {error}"
            raise BagError(msg) from None

    @property
    def files(self) -> int:
        """Number of files so far."""
        return len(self._files) + 1

    def add_topic(
        self,
        topic: str,
        msgtype: str,
        latched: bool = False,
        *,
        profiles: Sequence[Qos] | None = None,
        definition: Definition | None = None,
    ) -> None:
        """Announce a topic, for topics whose publisher keeps its last message, or that may stay empty.

        Args:
            topic: name beginning with `/`.
            msgtype: `package/msg/Name`.
            latched: the publisher is TRANSIENT_LOCAL; a player offers the same.
            profiles: what the publishers offer, instead of what `latched` says of them.
            definition: of the type; None takes the one of the typestore.

        Raises:
            MessageTypeError: nobody defines the type, and no definition was given.
            BagError: the topic is there with another type, its name is relative, or the disk is full.
        """
        there = self._topics.get(topic)
        if there is not None:
            if there.msgtype != msgtype:
                msg = f"{self.path}: expected {there.msgtype} on {topic}, got {msgtype}; a topic has one type"
                raise BagError(msg)
            return
        if not topic.startswith("/"):
            msg = f"{self.path}: expected a topic beginning with '/', got {topic!r}"
            raise BagError(msg)
        text, type_hash = definitions.known(msgtype) if definition is None else definition
        offered = (_qos(latched),) if profiles is None else tuple(profiles)
        info = TopicInfo(topic, msgtype, offered, text, type_hash)
        self._topics[topic] = info
        self._numbers[topic] = len(self._numbers) + 1
        try:
            self._file.add_topic(self._numbers[topic], info)
        except (OSError, sqlite3.Error) as error:
            raise self._failure(f"to announce {topic}", error) from None

    def write(
        self, topic: str, msgtype: str, data: bytes, stamp_ns: int, published_ns: int | None = None
    ) -> None:
        """Add a message.

        Args:
            topic: name beginning with `/`.
            msgtype: `package/msg/Name`.
            data: CDR bytes with their four bytes of encapsulation, stored as they are.
            stamp_ns: time of reception, >= 0.
            published_ns: time of publication, kept by MCAP; None = that of reception.

        Raises:
            MessageTypeError: nobody defines the type.
            BagError: the topic is there with another type, the stamp is negative, or the disk is full.
        """
        self.add_topic(topic, msgtype)
        if stamp_ns < 0:
            msg = f"{self.path}: {topic}: expected a stamp >= 0 ns, got {stamp_ns}"
            raise BagError(msg)
        if self._ended:
            msg = f"{self.path}: expected an open bag, got one that is closed, or whose writing has failed"
            raise BagError(msg)
        try:
            if self._is_full(len(data), stamp_ns):
                self._next_file()
            published_ns = stamp_ns if published_ns is None else max(published_ns, 0)
            self._file.write(self._numbers[topic], stamp_ns, published_ns, data)
        except (OSError, sqlite3.Error) as error:
            raise self._failure(f"to write {len(data)} bytes of {topic}", error) from None
        if self._first_ns is None:
            self._first_ns = stamp_ns

    def flush(self) -> None:
        """Hand everything to the system: what was flushed outlives the process; BagError for a full disk."""
        try:
            self._file.flush()
        except (OSError, sqlite3.Error) as error:
            raise self._failure("to write", error) from None

    def close(self) -> None:
        """Write the index and the metadata; the bag is complete afterwards. A second call does nothing.

        After a failed write nothing is said again: what could be written is in the bag.

        Raises:
            BagError: the disk is full; the messages that are in the bag can be read all the same.
        """
        if self._ended:
            return
        try:
            self._end_file()
            metadata.write(self.path, self._metadata())
            self._ended = True
        except (OSError, sqlite3.Error) as error:
            raise self._failure("to finish the bag", error) from None

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> McapStorage | SqliteStorage:
        file: McapStorage | SqliteStorage
        stem = f"{self.path.name}_{len(self._files)}"
        if self._storage == "mcap":
            compression = "" if self._compression == "none" else self._compression
            name = f"{stem}{mcap_storage.SUFFIX}"
            file = McapStorage(self.path / name, compression, self._durable)
        else:
            name = f"{stem}{sqlite_storage.SUFFIX}"
            file = SqliteStorage(self.path / name, self._compression == "message", self._durable)
        for topic, info in self._topics.items():
            file.add_topic(self._numbers[topic], info)
        return file

    def _is_full(self, size: int, stamp_ns: int) -> bool:
        """Whether the present file, which is not empty, has no room for a message."""
        if self._first_ns is None:
            return False
        too_much = 0 < self._split.size_bytes < self._file.size + size
        too_long = 0 < self._split.seconds * SECOND_NS <= stamp_ns - self._first_ns
        return too_much or too_long

    def _next_file(self) -> None:
        self._end_file()
        self._file = self._open()
        self._first_ns = None

    def _end_file(self) -> None:
        self._file.flush()
        first_ns, last_ns = self._file.span()
        counts = self._file.counts()
        path = self._file.path
        compress = self._compression == "file"
        name = f"{path.name}.zstd" if compress else path.name
        info = FileInfo(name, first_ns, last_ns, sum(counts.values()))
        here = {topic: counts.get(number, 0) for topic, number in self._numbers.items()}
        # What a file says inside is about itself alone; only the last one of a bag could know the others.
        inner = metadata.to_yaml(self._storage, [info], self._topics_with(here), self._mode)[1]
        self._file.close(inner)
        if compress:
            compress_file(path, path.with_name(name))
        self._files.append(info)
        self._counts.update(here)

    @property
    def _mode(self) -> str:
        return self._compression if self._compression in ("file", "message") else ""

    def _topics_with(self, counts: Mapping[str, int]) -> list[tuple[TopicInfo, int]]:
        return [(info, counts.get(topic, 0)) for topic, info in self._topics.items()]

    def _metadata(self) -> str:
        return metadata.to_yaml(self._storage, self._files, self._topics_with(self._counts), self._mode)[0]

    def _failure(self, wanted: str, error: Exception) -> BagError:
        """End the bag as well as it goes; the error that tells of it."""
        self._ended = True
        self._file.rescue()
        counts = self._file.counts()
        with suppress(OSError):
            if self._file.path.exists() and self._file.path.name not in [f.name for f in self._files]:
                first_ns, last_ns = self._file.span()
                info = FileInfo(self._file.path.name, first_ns, last_ns, sum(counts.values()))
                self._files.append(info)
                self._counts.update({t: counts.get(number, 0) for t, number in self._numbers.items()})
            metadata.write(self.path, self._metadata())
        kept = sum(file.count for file in self._files)
        msg = f"{self.path}: expected {wanted}, got: {error}; {kept} messages are in the bag"
        return BagError(msg)


def _check_length(path: Path, storage: str) -> None:
    """BagError where the files of a bag could not have their names, the hundred-thousandth included."""
    size = len(os.fsencode(path.name))
    if size > NAME_BYTES:
        msg = (
            f"{path}: expected a name of at most {NAME_BYTES} bytes, for the bag's files are named after it, "
            f"got {size}; take a shorter one"
        )
        raise BagError(msg)
    whole = len(os.fsencode(os.path.realpath(path))) + len("/") + size + len("_99999.db3")
    if storage == "sqlite3" and whole > SQLITE_PATH_BYTES:
        msg = (
            f"{path}: expected files whose paths have at most {SQLITE_PATH_BYTES} bytes, which SQLite takes, "
            f"got {whole}; take a shorter name, or the storage mcap"
        )
        raise BagError(msg)


def compress_file(path: Path, target: Path) -> None:
    """Compress a file as rosbag2 does it, and remove it; OSError when there is no room."""
    try:
        with path.open("rb") as source, target.open("xb") as sink:
            zstandard.ZstdCompressor(level=ZSTD_LEVEL).copy_stream(source, sink)
    except OSError:
        with suppress(OSError):
            target.unlink()
        raise
    path.unlink()


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=FOREVER,
        lifespan=FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=FOREVER,
        avoid_ros_namespace_conventions=False,
    )
