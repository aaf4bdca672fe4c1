"""Bags in the shape in which `ros2 bag record` of a distribution leaves them, made by hand.

|                         | Humble                        | Jazzy, Kilted                              |
|-------------------------|-------------------------------|--------------------------------------------|
| metadata version        | 5                             | 9                                          |
| offered_qos_profiles    | YAML as a string, numbers     | names; a list, in the storage a string     |
| type_description_hash   | -                             | in metadata, sqlite3 and MCAP's channels   |
| custom_data, ros_distro | -                             | there, custom_data is null when empty      |
| sqlite3 `schema`        | 3                             | 4, with message_definitions                |
| MCAP                    | profile ros2, ros2msg schemas | the same, and a metadata record `rosbag2`  |
| compression_mode        | FILE or MESSAGE, or empty     | the same                                   |

A type whose definition the recorder did not find has an empty text in an empty encoding.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
import zstandard
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from robust_perception.bags import types
from robust_perception.bags.reader import RawMessage

OWN_DEFINITIONS = {"somebody_msgs/msg/Own": ("ros2msg", "uint8 value\n")}
"""Of types that are not installed where the bag is read."""
FOREVER = {"sec": 9223372036, "nsec": 854775807}
NAMES = {
    "history": {1: "keep_last", 2: "keep_all", 3: "unknown"},
    "reliability": {1: "reliable", 2: "best_effort"},
    "durability": {1: "transient_local", 2: "volatile"},
    "liveliness": {1: "automatic"},
}


class Shape(NamedTuple):
    """What `ros2 bag record` was asked for."""

    distro: str
    storage: str
    compression: str = ""

    @property
    def new(self) -> bool:
        return self.distro != "humble"

    @property
    def version(self) -> int:
        return 9 if self.new else 5


def write(
    path: Path, shape: Shape, messages: Sequence[RawMessage], latched: Sequence[str] = (), files: int = 1
) -> None:
    """Write a bag of so many files."""
    path.mkdir()
    topics = {message.topic: message.msgtype for message in messages}
    size = -(-len(messages) // files)
    parts = [messages[i * size : (i + 1) * size] for i in range(files)]
    suffix = {"sqlite3": ".db3", "mcap": ".mcap"}[shape.storage]
    names = []
    for index, part in enumerate(parts):
        file = path / f"{path.name}_{index}{suffix}"
        stored = [
            message._replace(data=zstandard.compress(message.data))
            if shape.compression == "MESSAGE"
            else message
            for message in part
        ]
        inner = yaml.safe_dump(_information(shape, topics, messages, latched, parts, [file.name]))
        (_sqlite3 if shape.storage == "sqlite3" else _mcap)(file, shape, topics, stored, latched, inner)
        if shape.compression == "FILE":
            packed = file.with_name(f"{file.name}.zstd")
            packed.write_bytes(zstandard.compress(file.read_bytes()))
            file.unlink()
            file = packed
        names.append(file.name)
    whole = {"rosbag2_bagfile_information": _information(shape, topics, messages, latched, parts, names)}
    (path / "metadata.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))


def type_hash(msgtype: str) -> str:
    store = types.typestore()
    return store.hash_rihs01(msgtype) if msgtype in store.types else "RIHS01_" + "ab" * 32


def definition(msgtype: str) -> tuple[str, str]:
    """Encoding and text, as recorders put them."""
    store = types.typestore()
    if msgtype not in store.types:
        return OWN_DEFINITIONS.get(msgtype, ("", ""))
    return "ros2msg", store.generate_msgdef(msgtype, ros_version=2)[0]


def qos(shape: Shape, latched: bool) -> list[dict[str, Any]]:
    values: dict[str, Any] = {
        "history": 1 if shape.new else 3,
        "depth": 1 if latched else 5 if shape.new else 0,
        "reliability": 1 if latched else 2,
        "durability": 1 if latched else 2,
        "deadline": FOREVER,
        "lifespan": FOREVER,
        "liveliness": 1,
        "liveliness_lease_duration": FOREVER,
        "avoid_ros_namespace_conventions": False,
    }
    if shape.new:
        values |= {name: NAMES[name][values[name]] for name in NAMES}
    return [values]


def _qos_text(shape: Shape, latched: bool) -> str:
    return yaml.safe_dump(qos(shape, latched), sort_keys=False).rstrip("\n")


def _information(
    shape: Shape,
    topics: dict[str, str],
    messages: Sequence[RawMessage],
    latched: Sequence[str],
    parts: Sequence[Sequence[RawMessage]],
    names: Sequence[str],
) -> dict[str, Any]:
    def span(part: Sequence[RawMessage]) -> dict[str, Any]:
        first, last = part[0].stamp_ns, part[-1].stamp_ns
        return {
            "duration": {"nanoseconds": last - first},
            "starting_time": {"nanoseconds_since_epoch": first},
            "message_count": len(part),
        }

    listed = []
    for topic, msgtype in topics.items():
        there = topic in latched
        entry = {
            "name": topic,
            "type": msgtype,
            "serialization_format": "cdr",
            "offered_qos_profiles": qos(shape, there) if shape.new else _qos_text(shape, there),
        }
        if shape.new:
            entry["type_description_hash"] = type_hash(msgtype)
        count = sum(message.topic == topic for message in messages)
        listed.append({"topic_metadata": entry, "message_count": count})
    known: dict[str, Any] = {
        "version": shape.version,
        "storage_identifier": shape.storage,
        **span(messages),
        "topics_with_message_count": listed,
        "compression_format": "zstd" if shape.compression else "",
        "compression_mode": shape.compression,
        "relative_file_paths": list(names),
        "files": [{"path": name, **span(part)} for name, part in zip(names, parts, strict=False)],
    }
    if shape.new:
        known |= {"custom_data": None, "ros_distro": shape.distro}
    return known


def _sqlite3(
    file: Path,
    shape: Shape,
    topics: dict[str, str],
    messages: Sequence[RawMessage],
    latched: Sequence[str],
    metadata: str,
) -> None:
    further = ", type_description_hash TEXT NOT NULL" if shape.new else ""
    with sqlite3.connect(file) as base:
        base.executescript(
            "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);"
            "CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, "
            "metadata TEXT NOT NULL);"
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
            f"serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL{further});"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, "
            "timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
            "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
        )
        base.execute("INSERT INTO schema VALUES (?, ?)", (4 if shape.new else 3, shape.distro))
        base.execute("INSERT INTO metadata VALUES (1, ?, ?)", (shape.version, metadata))
        if shape.new:
            base.execute(
                "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, "
                "encoding TEXT NOT NULL, encoded_message_definition TEXT NOT NULL, "
                "type_description_hash TEXT NOT NULL)"
            )
        for number, (topic, msgtype) in enumerate(topics.items(), start=1):
            row = [number, topic, msgtype, "cdr", _qos_text(shape, topic in latched)]
            if shape.new:
                row.append(type_hash(msgtype))
                entry = (number, msgtype, *definition(msgtype), type_hash(msgtype))
                base.execute("INSERT INTO message_definitions VALUES (?, ?, ?, ?, ?)", entry)
            base.execute(f"INSERT INTO topics VALUES ({','.join('?' * len(row))})", row)
        numbers = {topic: number for number, topic in enumerate(topics, start=1)}
        base.executemany(
            "INSERT INTO messages (timestamp, topic_id, data) VALUES (?, ?, ?)",
            [(message.stamp_ns, numbers[message.topic], message.data) for message in messages],
        )
    base.close()


def _mcap(
    file: Path,
    shape: Shape,
    topics: dict[str, str],
    messages: Sequence[RawMessage],
    latched: Sequence[str],
    metadata: str,
) -> None:
    with file.open("wb") as stream:
        # The recorder's default has no compression in the file; its preset `zstd_fast` has.
        writer = McapWriter(stream, compression=CompressionType.ZSTD if shape.new else CompressionType.NONE)
        writer.start(profile="ros2", library="libmcap 1.3.1")
        channels = {}
        for topic, msgtype in topics.items():
            encoding, text = definition(msgtype)
            schema = writer.register_schema(msgtype, encoding, text.encode())
            about = {"offered_qos_profiles": _qos_text(shape, topic in latched)}
            if shape.new:
                about["topic_type_hash"] = type_hash(msgtype)
            channels[topic] = writer.register_channel(topic, "cdr", schema, about)
        for sequence, message in enumerate(messages):
            writer.add_message(
                channels[message.topic], message.stamp_ns, message.data, message.stamp_ns, sequence
            )
        if shape.new:
            writer.add_metadata("rosbag2", {"serialized_metadata": metadata})
        writer.finish()
