"""sqlite3 files of bags whose writer was killed, or that are damaged.

A killed writer leaves a journal beside the file: SQLite undoes what was half done, or takes over what was
done already, as soon as the file is opened for writing. The reader of bags opens files read-only and never
looks at a journal, so that this has to happen before. In a damaged file, messages are looked for by number,
from both ends up to where it cannot be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import zstandard
from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

from robust_perception.bags import definitions
from robust_perception.bags.errors import BagError
from robust_perception.bags.metadata import TopicInfo

JOURNALS = ("-journal", "-wal")


class Row(NamedTuple):
    """A row of the table of messages."""

    topic: int
    stamp_ns: int
    data: bytes


def unsettled(path: Path) -> bool:
    """Whether a journal with something in it lies beside the file."""
    journals = [path.with_name(path.name + ending) for ending in JOURNALS]
    return any(journal.is_file() and journal.stat().st_size for journal in journals)


def settle(path: Path) -> None:
    """Let SQLite finish or undo what a killed writer left half done.

    Raises:
        BagError: the file cannot be written, or is none of SQLite's.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        msg = (
            f"{path}: expected a file whose journal can be worked off, got: {error}; its writer was killed, "
            "and the file and its folder must be writable to mend that: copy both files to where they are"
        )
        raise BagError(msg) from None


def is_compressed(data: bytes) -> bool:
    """Whether a stored message is compressed by zstd: CDR begins with a zero byte, which zstd does not."""
    return data[:4] == zstandard.FRAME_HEADER


def topics(path: Path) -> dict[int, TopicInfo]:
    """The topics of a file by their numbers; BagError when not even they can be read."""
    try:
        with closing(_open(path)) as connection:
            texts = {}
            with suppress(sqlite3.Error):  # before schema version 4 a file has no definitions
                texts = {
                    row["topic_type"]: row["encoded_message_definition"]
                    for row in connection.execute(
                        "SELECT topic_type, encoded_message_definition FROM message_definitions"
                    )
                }
            rows = connection.execute("SELECT * FROM topics").fetchall()
    except sqlite3.Error as error:
        raise _unreadable(path, error) from None
    found = {}
    for row in map(dict, rows):
        if not (isinstance(row["name"], str) and isinstance(row["type"], str)):
            raise _unreadable(path, f"a topic {row['name']!r} of the type {row['type']!r}")
        profiles: tuple[Qos, ...] = ()
        with suppress(Exception):  # a parser of damaged bytes raises whatever it runs into
            profiles = tuple(parse_qos(row.get("offered_qos_profiles") or ""))
        known = definitions.find(row["type"], row.get("type_description_hash") or "")
        text = texts.get(row["type"], known.text)
        found[row["id"]] = TopicInfo(row["name"], row["type"], profiles, text, known.type_hash)
    return found


def salvage(path: Path, problems: list[str]) -> Iterator[Row]:
    """The messages of a file that can be read, also of a damaged one, decompressed.

    Args:
        path: the file.
        problems: gets a sentence when not all of it can be read.

    Raises:
        BagError: nothing can be read.
    """
    try:
        with closing(_open(path)) as connection:
            last = None
            try:
                for row in connection.execute(_SELECT.format("", "ASC")):
                    last = row["id"]
                    yield from _readable(path, row, problems)
                return
            except sqlite3.DatabaseError as error:
                problems.append(f"{path.name}: damaged after message {last or 0}: {error}")
            beyond = "" if last is None else f"WHERE id > {last:d}"
            try:
                for row in connection.execute(_SELECT.format(beyond, "DESC")):
                    yield from _readable(path, row, problems)
            except sqlite3.DatabaseError:
                return  # the damage, seen from the other end
    except sqlite3.Error as error:
        raise _unreadable(path, error) from None


_SELECT = "SELECT id, topic_id, timestamp, data FROM messages {} ORDER BY id {}"


def _open(path: Path) -> sqlite3.Connection:
    if unsettled(path):
        settle(path)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _message(row: sqlite3.Row) -> Row:
    data = bytes(row["data"])
    return Row(row["topic_id"], row["timestamp"], zstandard.decompress(data) if is_compressed(data) else data)


def _readable(path: Path, row: sqlite3.Row, problems: list[str]) -> Iterator[Row]:
    """The message of a row; none where it is damaged in a way that SQLite does not see."""
    kinds = [type(row[name]) for name in ("topic_id", "timestamp", "data")]
    if kinds != [int, int, bytes]:
        got = ", ".join(kind.__name__ for kind in kinds)
        problems.append(f"{path.name}: message {row['id']} is left out: expected int, int, bytes, got {got}")
        return
    try:
        yield _message(row)
    except zstandard.ZstdError as error:
        problems.append(f"{path.name}: message {row['id']} is left out: {error}")


def _unreadable(path: Path, error: Exception | str) -> BagError:
    return BagError(f"{path}: expected a file of SQLite, got one that cannot be read: {error}")
