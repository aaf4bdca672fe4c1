"""The reader of rosbags, for sqlite3 bags with a type whose definition their recorder did not find as well.

Jazzy and later keep the definition of every type in the bag. Where `ros2 bag record` does not find one it
stores an empty text in an empty encoding, which the library takes for an unknown encoding of the whole bag.
The messages are all there; such a type is read as one without a definition.
"""

from __future__ import annotations

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")

DEFINITIONS = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
TOPICS = (
    "SELECT topics.id, name, type, count(messages.id), serialization_format, offered_qos_profiles, "
    "type_description_hash FROM topics LEFT JOIN messages ON topics.id == messages.topic_id "
    "GROUP BY topics.id ORDER BY topics.id"
)
SPAN = "SELECT min(timestamp), max(timestamp) + 1, count(*) FROM messages"
SCHEMA = 4
"""The first with definitions."""


def offered(connection: Connection) -> tuple[Qos, ...]:
    """What the publishers of a topic offered; empty where the bag does not say."""
    ext = connection.ext
    return tuple(ext.offered_qos_profiles) if isinstance(ext, ConnectionExtRosbag2) else ()


class LenientSqlite3Reader(Sqlite3Reader):
    """A `.db3` file; a definition of no known encoding is none."""

    def _open(self) -> None:
        try:
            super()._open()
        except KeyError:
            self._open_leniently()

    def _open_leniently(self) -> None:
        assert self.dbconn is not None
        known = {
            name: MessageDefinition(FORMATS[encoding], text)
            for name, encoding, text in self.dbconn.execute(DEFINITIONS)
            if encoding in FORMATS
        }
        self.schema = SCHEMA
        self.connections = [
            Connection(
                number,
                topic,
                msgtype,
                known.get(msgtype, NO_DEFINITION),
                digest,
                count,
                ConnectionExtRosbag2(serialization, parse_qos(qos)),
                self,
            )
            for number, topic, msgtype, count, serialization, qos, digest in self.dbconn.execute(TOPICS)
        ]
        ((start, end, count),) = self.dbconn.execute(SPAN)
        if not count:
            start, end = 2**63 - 1, 0
        self.metadata = ReaderMetadata(max(0, end - start), start, end, count, None, None, None, None)


class LenientDirectoryReader(DirectoryReader):
    """A folder with `metadata.yaml`."""

    STORAGE_PLUGINS = {**DirectoryReader.STORAGE_PLUGINS, "sqlite3": LenientSqlite3Reader}  # noqa: RUF012


class LenientReader(Reader):
    """A bag of either kind."""

    STORAGE_PLUGINS = {  # noqa: RUF012
        **Reader.STORAGE_PLUGINS,
        "dir": LenientDirectoryReader,
        ".db3": LenientSqlite3Reader,
    }
