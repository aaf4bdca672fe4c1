"""`metadata.yaml` of a bag, as rosbag2 writes it: version 8, which Humble and all later ones read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import dump_qos_v8

VERSION = 8
NAME = "metadata.yaml"


@dataclass(frozen=True)
class TopicInfo:
    """What a bag says of a topic.

    Attributes:
        name: beginning with `/`.
        msgtype: `package/msg/Name`.
        profiles: what its publishers offered.
        definition: of the type, text; may be empty.
        type_hash: of the type (RIHS01); may be empty.
    """

    name: str
    msgtype: str
    profiles: tuple[Qos, ...] = ()
    definition: str = ""
    type_hash: str = ""

    @property
    def qos_yaml(self) -> str:
        """The profiles as metadata hold them: a list in YAML, as text."""
        return str(dump_qos_v8(list(self.profiles)))


@dataclass(frozen=True)
class FileInfo:
    """One file of a bag; times in ns."""

    name: str
    first_ns: int
    last_ns: int
    count: int

    def fields(self) -> dict[str, Any]:
        """As metadata hold it."""
        return {
            "path": self.name,
            "starting_time": {"nanoseconds_since_epoch": self.first_ns},
            "duration": {"nanoseconds": self.last_ns - self.first_ns},
            "message_count": self.count,
        }


def to_yaml(
    storage: str,
    files: Sequence[FileInfo],
    topics: Iterable[tuple[TopicInfo, int]],
    compression: str = "",
) -> tuple[str, str]:
    """The metadata of a bag.

    Args:
        storage: "mcap" or "sqlite3".
        files: in order of time.
        topics: every topic with its number of messages.
        compression: "file" or "message" where rosbag2's compression by zstd is used.

    Returns:
        Text of `metadata.yaml`, and of what a storage file keeps of it inside.
    """
    spoken = [file for file in files if file.count] or list(files)
    first_ns = min((file.first_ns for file in spoken), default=0)
    last_ns = max((file.last_ns for file in spoken), default=0)
    information = {
        "version": VERSION,
        "storage_identifier": storage,
        "duration": {"nanoseconds": last_ns - first_ns},
        "starting_time": {"nanoseconds_since_epoch": first_ns},
        "message_count": sum(file.count for file in files),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.msgtype,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": topic.qos_yaml,
                    "type_description_hash": topic.type_hash,
                },
                "message_count": count,
            }
            for topic, count in topics
        ],
        "compression_format": "zstd" if compression else "",
        "compression_mode": compression.upper(),
        "relative_file_paths": [file.name for file in files],
        "files": [file.fields() for file in files],
        "custom_data": None,
        "ros_distro": os.environ.get("ROS_DISTRO", "unknown"),
    }
    inner = yaml.safe_dump(information, sort_keys=False, width=1000)
    return yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False, width=1000), inner


def write(folder: Path, text: str) -> None:
    """Put `metadata.yaml` into a bag's folder: wholly or not at all; OSError when that fails."""
    new = folder / f"{NAME}.new"
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(folder / NAME)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
