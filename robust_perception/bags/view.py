"""A bag as it would be if nothing were wrong with it, for a reader; nothing on the disk changes.

The library that reads bags wants every file whole and a `metadata.yaml` that fits. Where the files of a
folder are not, or the metadata are missing, it is given stand-ins for paths: files with their end mended in
memory, and a folder whose metadata were made from the files.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
import zstandard

from robust_perception.bags import definitions, mcap_scan, metadata, sqlite_cut, sqlite_rescue
from robust_perception.bags.errors import BagError, MessageTypeError
from robust_perception.bags.metadata import FileInfo, TopicInfo
from robust_perception.bags.storages import LenientReader as Reader
from robust_perception.bags.storages import offered

STORAGE_OF = {".mcap": "mcap", ".db3": "sqlite3"}
COMPRESSED = ".zstd"
"""Ends the name of a file that rosbag2 has compressed after it was complete."""


@dataclass(frozen=True)
class File:
    """A storage file of a bag.

    Attributes:
        path: where it is; of one that is compressed, where its copy is.
        scan: how it would end well; None when it is whole, or of sqlite3.
        info: name, times, number of messages.
        counts: topics with their messages.
        compressed: its messages are compressed one by one.
        stored: where it is in the bag, compressed or not.
    """

    path: Path
    scan: mcap_scan.Scan | None
    info: FileInfo
    counts: dict[TopicInfo, int]
    compressed: bool
    stored: Path


class Folder:
    """A folder as the reader of bags wants a path: its files, mended, and metadata that fit.

    Args:
        path: of the bag.
        files: its files, in order.
        problems: what is wrong with it, in words.
        place: where files are that had to be decompressed, as long as somebody reads them.
        left_out: names of files that are not among these, but of which a copy reads a part.
    """

    suffix = ""

    def __init__(
        self,
        path: Path,
        files: list[File],
        problems: list[str],
        place: TemporaryDirectory[str] | None = None,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.path, self.files, self.problems, self._place = path, files, problems, place
        self.left_out = left_out
        self._counts: Counter[TopicInfo] = Counter()
        for file in files:
            self._counts.update(file.counts)
        self.messages = self._counts.total()
        """Messages that can be read."""

    def metadata(self, compressed: bool = False) -> str:
        """Text of a `metadata.yaml` that fits; if asked for, for files of which each is compressed."""
        infos = [file.info for file in self.files]
        mode = "message" if any(file.compressed for file in self.files) else ""
        if compressed:
            infos = [replace(info, name=f"{info.name}{COMPRESSED}") for info in infos]
            mode = "file"
        storage = STORAGE_OF[self.files[0].path.suffix]
        return metadata.to_yaml(storage, infos, self._counts.items(), mode)[0]

    @property
    def way_out(self) -> str:
        """What to do about its problems."""
        if self.left_out:
            return _copy_in_words(self.path)
        return f"`robust-perception bag repair {self.path}` makes it whole"

    def exists(self) -> bool:
        """Whether it is there."""
        return True

    def is_dir(self) -> bool:
        """It is a folder."""
        return True

    def __truediv__(self, name: str) -> Any:
        if name == metadata.NAME:
            return _Text(self.metadata())
        (file,) = [file for file in self.files if file.path.name == name]
        return file.path if file.scan is None or not file.scan.problems else mcap_scan.MendedFile(file.scan)

    def __str__(self) -> str:
        return str(self.path)


class _Text:
    """Metadata that are not in a file."""

    def __init__(self, text: str) -> None:
        self._text = text

    def exists(self) -> bool:
        return True

    def read_text(self) -> str:
        return self._text


def is_storage(path: Path) -> bool:
    """Whether a file's name is that of a bag's, compressed or not."""
    return _plain_name(path).suffix in STORAGE_OF


def check(path: Path) -> None:
    """BagError unless there is something that may be a bag."""
    if not path.exists():
        msg = f"{path}: expected a bag (a folder with metadata.yaml, an .mcap or a .db3 file), got nothing"
        raise BagError(msg)
    if path.is_file():
        if not is_storage(path):
            msg = f"{path}: expected a bag (a folder, or an .mcap or .db3 file), got a file {path.suffix!r}"
            raise BagError(msg)
    elif not (path / "metadata.yaml").is_file() and not storage_files(path):
        msg = f"{path}: expected metadata.yaml or an .mcap or .db3 file, got a folder with neither"
        raise BagError(msg)


def storage_files(path: Path) -> list[Path]:
    """The storage files of a bag in order of time: by the number at the end of their names."""
    if path.is_file():
        return [path]
    found = {p.name: p for p in path.iterdir() if is_storage(p)}
    # Where both are there, the writer was killed while it compressed the one into the other.
    both = {f"{name}{COMPRESSED}" for name in found}
    files = [p for name, p in found.items() if name not in both]
    return sorted(files, key=_number)


def plain(path: Path, place: Path, problems: list[str] | None = None) -> Path:
    """A storage file as it was before it was compressed, if it was: a copy of it in another folder.

    Args:
        path: the file.
        place: folder for the copy.
        problems: where it is damaged, takes that in words, and the copy is of what comes before; None = a
            damaged file is an error.

    Raises:
        BagError: it cannot be decompressed.
    """
    if path.suffix != COMPRESSED:
        return path
    copy = place / _plain_name(path).name
    try:
        with path.open("rb") as source, copy.open("wb") as sink:
            zstandard.ZstdDecompressor().copy_stream(source, sink)
    except (OSError, zstandard.ZstdError) as error:
        there = copy.stat().st_size if copy.is_file() else 0
        if there and problems is not None and isinstance(error, zstandard.ZstdError):
            problems.append(f"{path.name}: damaged after {there} bytes of what it holds: {error}")
            return copy
        msg = f"{path}: expected a file compressed by zstd, got: {error}"
        raise BagError(msg) from None
    return copy


def _number(path: Path) -> tuple[int, str]:
    number = re.search(r"_(\d+)$", _plain_name(path).stem)
    return (int(number[1]) if number else -1, path.name)


def _plain_name(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == COMPRESSED else path


def is_settled(path: Path) -> bool:
    """Whether no sqlite3 file of a bag has a journal to be worked off, which a reader would not see."""
    return not any(file.suffix == ".db3" and sqlite_rescue.unsettled(file) for file in storage_files(path))


def is_cut_off(path: Path) -> bool:
    """Whether an sqlite3 file of a bag is cut off, of which SQLite may not see it."""
    return any(file.suffix == ".db3" and sqlite_cut.cut_in(file) for file in storage_files(path))


def look(path: Path, thorough: bool = False) -> Folder:
    """A bag that is not whole, as if it were.

    Args:
        path: folder or storage file.
        thorough: go through every MCAP file, also where its summary can be read: damage in the middle shows.

    Raises:
        BagError: nothing can be read; the message says why.
    """
    problems: list[str] = []
    if path.is_dir():
        problems += problems_of_metadata(path)
    files: list[File] = []
    left_out: list[str] = []
    place = TemporaryDirectory()
    for file in storage_files(path):
        try:
            readable = plain(file, Path(place.name))
            files.append(_look_into(readable, file, thorough, problems))
        except BagError as error:
            problems.append(str(error).removeprefix(f"{path}: "))
            if file.stat().st_size and {".db3", COMPRESSED} & set(file.suffixes):
                left_out.append(file.name)
    if not files:
        msg = (
            f"{path}: expected a whole bag, got a damaged or truncated one: "
            f"{'; '.join(problems) or 'no file'}; {_copy_in_words(path)}"
        )
        raise BagError(msg)
    if len({file.path.suffix for file in files}) > 1:
        msg = f"{path}: expected files of one storage, got {', '.join(file.path.name for file in files)}"
        raise BagError(msg)
    return Folder(path, files, problems, place, tuple(left_out))


def problems_of_metadata(path: Path) -> list[str]:
    """What is wrong with the metadata of a folder."""
    file = path / metadata.NAME
    if not file.is_file():
        return [f"{metadata.NAME} is missing"]
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        names = [Path(str(name)).name for name in said["relative_file_paths"]]
    except Exception as error:  # whatever is in it
        return [f"{metadata.NAME} makes no sense: {' '.join(str(error).split())[:100]}"]
    return [f"{name} is missing" for name in names if not (path / name).exists()]


def _copy_in_words(path: Path) -> str:
    return f"`robust-perception bag repair {path} --out NEW` takes from it what can be read"


def _look_into(path: Path, stored: Path, thorough: bool, problems: list[str]) -> File:
    if path.suffix == ".db3":
        if sqlite_rescue.unsettled(path):
            sqlite_rescue.settle(path)
            problems.append(f"{path.name} was being written")
        if cut := sqlite_cut.cut_in(path):
            raise BagError(f"{stored.name}: {cut}, and only repair into a new bag reads up to there")
        return _whole(path, path, stored, None)
    with suppress(Exception):  # whatever the library runs into: then the file is looked through
        if not thorough:
            return _whole(path, path, stored, None)
    scan = mcap_scan.scan(path)
    problems += [f"{path.name}: {problem}" for problem in scan.problems]
    return _whole(path, mcap_scan.MendedFile(scan) if scan.problems else path, stored, scan)


def _whole(path: Path, readable: Any, stored: Path, scan: mcap_scan.Scan | None) -> File:
    """Look into a file, or what stands for it."""
    reader = Reader(readable)
    try:
        reader.open()
        with closing(reader):
            counts: Counter[TopicInfo] = Counter()
            for connection in reader.connections:
                type_hash = connection.digest or _hash(connection.msgtype)
                counts[
                    TopicInfo(connection.topic, connection.msgtype, offered(connection), "", type_hash)
                ] += connection.msgcount
            empty = not reader.message_count
            first, last = (0, 0) if empty else (reader.start_time, reader.end_time - 1)
            info = FileInfo(path.name, first, last, reader.message_count)
            compressed = False
            if path.suffix == ".db3" and not empty:
                compressed = sqlite_rescue.is_compressed(bytes(next(reader.messages())[2]))
    except Exception as error:  # parsers of damaged bytes raise whatever they run into
        raise BagError(f"{path.name}: {str(error) or repr(error)}") from None
    return File(path, scan, info, dict(counts), compressed, stored)


def _hash(msgtype: str) -> str:
    try:
        return definitions.known(msgtype).type_hash
    except MessageTypeError:
        return ""
