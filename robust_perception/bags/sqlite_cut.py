"""sqlite3 files of bags that are cut off: the messages before the cut.

SQLite opens no file that is shorter than its first page says. So a copy is made as long again, with filling
in the place of what is missing, and messages are read from it until SQLite meets a page of filling.

Of a large message SQLite checks no page but for the number of the next one: the end of the last messages may
be filling and nobody would see it. So all is read with two kinds of filling, and what comes out both times
alike was in the file.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robust_perception.bags import sqlite_rescue
from robust_perception.bags.errors import BagError
from robust_perception.bags.metadata import TopicInfo
from robust_perception.bags.sqlite_rescue import Row

HEADER = 100
"""Bytes of a file before its first page's own content."""
MAGIC = b"SQLite format 3\0"
_BLOCK = 1 << 20


class Cut(NamedTuple):
    """Bytes of a file that are there, and that there were."""

    there: int
    whole: int

    def __str__(self) -> str:
        return f"cut off, {self.there} of {self.whole} bytes are there"


def cut_in(path: Path) -> Cut | None:
    """Where a file is cut off; None when it is not, cannot be read, or does not tell how long it was."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
    except OSError:
        return None
    if len(header) < HEADER or not header.startswith(MAGIC):
        return None
    (size,) = struct.unpack_from(">H", header, 16)
    changes, pages = struct.unpack_from(">II", header, 24)
    (counted_at,) = struct.unpack_from(">I", header, 92)
    if changes != counted_at:  # the number of pages is that of an earlier state
        return None
    cut = Cut(path.stat().st_size, (65536 if size == 1 else size) * pages)
    return cut if cut.there < cut.whole else None


def lengthened(path: Path, place: Path, cut: Cut) -> Path:
    """A copy in the folder `place` that is as long as the file was; the file itself if that is there.

    Raises:
        BagError: the disk has no room for it: how long it was is said by the file, which may be damaged.
    """
    free = shutil.disk_usage(place).free
    if cut.whole > free:
        msg = f"{path}: expected room in {place} for the {cut.whole} bytes that it had, got {free}"
        raise BagError(msg)
    copy = place / path.name
    if copy != path:
        shutil.copyfile(path, copy)
    _fill(copy, cut, 0)
    return copy


def topics(path: Path, cut: Cut) -> dict[int, TopicInfo]:
    """The topics that are there in whole, by their numbers.

    Args:
        path: what `lengthened` gave.
        cut: of the file that it was made of.

    Raises:
        BagError: they cannot be read.
    """
    _fill(path, cut, 0xFF)
    sure = sqlite_rescue.topics(path)
    _fill(path, cut, 0)
    return {
        number: topic for number, topic in sqlite_rescue.topics(path).items() if sure.get(number) == topic
    }


def salvage(path: Path, cut: Cut, problems: list[str]) -> Iterator[Row]:
    """The messages before the cut, decompressed.

    Args:
        path: what `lengthened` gave.
        cut: of the file that it was made of.
        problems: gets what cannot be read, in words.

    Raises:
        BagError: nothing can be read.
    """
    _fill(path, cut, 0xFF)
    sure = {_digest(row) for row in sqlite_rescue.salvage(path, [])}
    _fill(path, cut, 0)
    filled = 0
    for row in sqlite_rescue.salvage(path, problems):
        if _digest(row) in sure:
            yield row
        else:
            filled += 1
    if filled:
        problems.append(f"{path.name}: {filled} messages at the end are there in part, and left out")


def _fill(path: Path, cut: Cut, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(cut.there)
        for start in range(cut.there, cut.whole, _BLOCK):
            file.write(bytes([value]) * min(_BLOCK, cut.whole - start))


def _digest(row: Row) -> bytes:
    digest = hashlib.blake2b(struct.pack("<qq", row.topic, row.stamp_ns), digest_size=16)
    digest.update(row.data)
    return digest.digest()
