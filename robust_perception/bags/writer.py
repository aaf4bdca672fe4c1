"""Writes bags that `ros2 bag` reads: raw CDR bytes into a folder with `metadata.yaml`.

The metadata is of version 8, which every distribution from Humble on understands.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError

from robust_perception.bags import types
from robust_perception.bags.errors import BagError

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

_METADATA_VERSION: Literal[8] = 8
_FOREVER = QosTime(9223372036, 854775807)
"""The duration by which `ros2 bag` says "no limit"."""


class BagWriter:
    """A bag being written; use it as a context manager, for an unclosed bag has no metadata.

    Args:
        path: the bag's folder; it must not exist.
        storage: "mcap" or "sqlite3".
        compress: zstd over the chunks of an MCAP file; sqlite3 has no such thing.

    Raises:
        BagError: the path exists, cannot be made, or the storage is unknown.
    """

    def __init__(self, path: Path | str, storage: str = "mcap", compress: bool = False) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            msg = f"{self.path}: expected a storage out of {', '.join(STORAGES)}, got {storage!r}"
            raise BagError(msg)
        if compress and storage != "mcap":
            msg = f"{self.path}: expected storage mcap with compression, got {storage}"
            raise BagError(msg)
        if self.path.exists():
            msg = f"{self.path}: expected a new path, got one that exists; remove it or take another"
            raise BagError(msg)
        self._connections: dict[str, Any] = {}
        try:
            self._writer = Writer(self.path, version=_METADATA_VERSION, storage_plugin=STORAGES[storage])
            if compress:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except (WriterError, OSError) as error:
            msg = f"{self.path}: expected a folder that can be made, got {error}"
            raise BagError(msg) from None

    def add_topic(self, topic: str, msgtype: str, latched: bool = False) -> None:
        """Announce a topic, for topics whose publisher keeps its last message, or that may stay empty.

        Args:
            topic: name beginning with `/`.
            msgtype: `package/msg/Name`.
            latched: the publisher is TRANSIENT_LOCAL; a player offers the same.

        Raises:
            MessageTypeError: nobody defines the type.
            BagError: the topic is there with another type, or its name is relative.
        """
        known = self._connections.get(topic)
        if known is not None:
            if known.msgtype != msgtype:
                msg = f"{self.path}: expected {known.msgtype} on {topic}, got {msgtype}; a topic has one type"
                raise BagError(msg)
            return
        if not topic.startswith("/"):
            msg = f"{self.path}: expected a topic beginning with '/', got {topic!r}"
            raise BagError(msg)
        types.message_class(msgtype)
        self._connections[topic] = self._writer.add_connection(
            topic, msgtype, typestore=types.typestore(), offered_qos_profiles=[_qos(latched)]
        )

    def write(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        """Add a message.

        Args:
            topic: name beginning with `/`.
            msgtype: `package/msg/Name`.
            data: CDR bytes with their four bytes of encapsulation, stored as they are.
            stamp_ns: time of reception, >= 0.

        Raises:
            MessageTypeError: nobody defines the type.
            BagError: the topic is there with another type, the stamp is negative, or the disk is full.
        """
        self.add_topic(topic, msgtype)
        if stamp_ns < 0:
            msg = f"{self.path}: {topic}: expected a stamp >= 0 ns, got {stamp_ns}"
            raise BagError(msg)
        try:
            self._writer.write(self._connections[topic], stamp_ns, data)
        except (WriterError, OSError) as error:
            msg = f"{self.path}: {topic}: expected to write {len(data)} bytes, got {error}"
            raise BagError(msg) from None

    def close(self) -> None:
        """Write the index and the metadata; the bag is complete afterwards."""
        try:
            self._writer.close()
        except (WriterError, OSError) as error:
            msg = f"{self.path}: expected to finish the bag, got {error}"
            raise BagError(msg) from None

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )
