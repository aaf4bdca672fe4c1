"""Makes a bag whole again: one whose recorder was killed, or that is damaged.

In place, files get an end and the folder its metadata, and of what was readable nothing is lost: only bytes
behind the last whole chunk of a file, from which the messages have been taken, are overwritten. Into a new
bag, every message that can be read is copied; that also goes where the old one is damaged in the middle or
cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from robust_perception.bags import definitions, mcap_scan, metadata, sqlite_cut, sqlite_rescue
from robust_perception.bags.definitions import Definition
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import RawMessage
from robust_perception.bags.storages import LenientReader as Reader
from robust_perception.bags.storages import offered
from robust_perception.bags.view import (
    COMPRESSED,
    STORAGE_OF,
    check,
    look,
    plain,
    problems_of_metadata,
    storage_files,
)
from robust_perception.bags.writer import BagWriter, compress_file, whole_bag


@dataclass(frozen=True)
class Repair:
    """What was done.

    Attributes:
        messages: number of messages in the bag.
        problems: what was wrong, in words; empty = nothing, and nothing was done.
    """

    messages: int
    problems: tuple[str, ...]


def repair(path: Path) -> Repair:
    """Make a bag whole where it is.

    Args:
        path: folder or storage file.

    Raises:
        BagError: nothing can be read, or the bag cannot be written, or of one of its files only a copy reads
            a part: metadata without that file would hide the part.
    """
    check(path)
    seen = look(path, thorough=True)
    if seen.left_out:
        found = f"{', '.join(seen.left_out)} of which only a part is there: {'; '.join(seen.problems)}"
        msg = f"{path}: expected files that can be mended in place, got {found}; {seen.way_out}"
        raise BagError(msg)
    try:
        for file in seen.files:
            if file.scan is not None and file.scan.problems:
                with file.path.open("r+b") as out:
                    out.truncate(file.scan.keep)
                    out.seek(file.scan.keep)
                    out.write(file.scan.tail)
                if file.stored.suffix == COMPRESSED:  # what was mended is a copy that nobody will see
                    _compress_again(file.path, file.stored)
        if path.is_dir() and seen.problems:
            there = storage_files(path)
            compressed = any(file.suffix == COMPRESSED for file in there)
            for storage in there if compressed else ():
                if storage.suffix != COMPRESSED:  # the one that was being written
                    compress_file(storage, storage.with_name(f"{storage.name}{COMPRESSED}"))
            metadata.write(path, seen.metadata(compressed))
    except OSError as error:
        msg = f"{path}: expected a bag that can be written, got: {error}; repair it into another folder"
        raise BagError(msg) from None
    return Repair(seen.messages, tuple(seen.problems))


def copy(path: Path, out: Path) -> Repair:
    """Copy all that can be read into a new bag of the same storage.

    Args:
        path: folder or storage file.
        out: folder of the new bag; it must not exist.

    Raises:
        BagError: nothing can be read, or the new bag cannot be written.
    """
    check(path)
    files = storage_files(path)
    problems = problems_of_metadata(path) if path.is_dir() else []
    if not files:
        msg = f"{path}: expected a bag with .mcap or .db3 files, got none"
        raise BagError(msg)
    done = 0
    storage = STORAGE_OF[Path(files[0].name.removesuffix(COMPRESSED)).suffix]
    with TemporaryDirectory() as place, whole_bag(out, storage) as bag:
        for file in files:
            try:
                readable = plain(file, Path(place), problems)
            except BagError as error:
                problems.append(str(error))
                continue
            if readable.suffix == ".db3":
                messages = _of_sqlite(readable, Path(place), bag, problems)
            else:
                messages = _of_mcap(readable, bag, problems)
            for message in messages:
                bag.write(*message)
                done += 1
        if done == 0 and problems:
            msg = f"{path}: expected a message that can be read, got none: {'; '.join(problems)}"
            raise BagError(msg)
    return Repair(done, tuple(problems))


def _compress_again(copy: Path, stored: Path) -> None:
    """Put the copy of a compressed file in its place: wholly or not at all."""
    new = stored.with_name(f"{stored.name}.new")
    new.unlink(missing_ok=True)
    compress_file(copy, new)
    new.replace(stored)


def _of_mcap(path: Path, bag: BagWriter, problems: list[str]) -> Iterator[RawMessage]:
    try:
        scan = mcap_scan.scan(path)
    except BagError as error:
        problems.append(str(error))
        return
    problems += [f"{path.name}: {problem}" for problem in scan.problems]
    mended: Any = mcap_scan.MendedFile(scan) if scan.problems else path
    try:
        reader = Reader(mended)
        reader.open()
        with closing(reader):
            for connection in reader.connections:
                found = Definition(connection.msgdef.data, definitions.find(connection.msgtype).type_hash)
                bag.add_topic(
                    connection.topic, connection.msgtype, profiles=offered(connection), definition=found
                )
            for connection, stamp, data in reader.messages():
                yield RawMessage(connection.topic, connection.msgtype, bytes(data), stamp)
    except BagError:  # of the new bag
        raise
    except Exception as error:  # parsers of damaged bytes raise whatever they run into
        problems.append(f"{path.name}: {str(error) or repr(error)}")


def _of_sqlite(path: Path, place: Path, bag: BagWriter, problems: list[str]) -> Iterator[RawMessage]:
    try:
        if sqlite_rescue.unsettled(path):
            sqlite_rescue.settle(path)
        if cut := sqlite_cut.cut_in(path):
            problems.append(f"{path.name}: {cut}")
            path = sqlite_cut.lengthened(path, place, cut)
        topics = sqlite_cut.topics(path, cut) if cut else sqlite_rescue.topics(path)
        for topic in topics.values():
            bag.add_topic(
                topic.name,
                topic.msgtype,
                profiles=topic.profiles,
                definition=Definition(topic.definition, topic.type_hash),
            )
        rows = sqlite_cut.salvage(path, cut, problems) if cut else sqlite_rescue.salvage(path, problems)
        for row in rows:
            if row.topic in topics:
                topic = topics[row.topic]
                yield RawMessage(topic.name, topic.msgtype, row.data, row.stamp_ns)
    except BagError as error:
        problems.append(str(error))
